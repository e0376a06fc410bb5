"""Further replicates where a ranking is open: asked for once, measured as chosen, and never beyond the time."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from bench.harness import plan, session, study
from bench.harness.run import FURTHER_ROUNDS
from bench.processes import rounds
from results import store
from tests.bench.conftest import Collector


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


def adaptive(seconds: float | None = 600.0) -> plan.Plan:
    made = plan.make("smoke", ("numpy",), ("phase=step",), threads=1, replicates=1)
    return dataclasses.replace(made, studies=(study.get("throughput"),), ranking_seconds=seconds)


class Chooser:
    def __init__(self, *replicates: tuple[Collection[tuple[str, str, str]], float]) -> None:
        self.replicates, self.asked = replicates, list[tuple[int, float]]()

    def __call__(self, path: Path, seconds: float, longer: float) -> Sequence[tuple[Collection[tuple[str, str, str]], float]]:
        self.asked.append((len(store.read(path).records), seconds))
        return self.replicates


def parts() -> set[tuple[str, str, str]]:
    (case,) = adaptive().cases(study.get("throughput"))
    return {("throughput", case.key, "numpy")}


def test_what_is_chosen_is_measured_and_not_chosen_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bench.harness.run.MOST_FURTHER", 100.0)
    measure, asked = rounds.measure, list[int]()
    monkeypatch.setattr(rounds, "measure", lambda *given, **named: (asked.append(given[2].rounds), measure(*given, **named))[1])
    choose = Chooser((parts(), 0.1), (set(), 0.1), (parts(), 0.1))
    path, footer = session.start(adaptive(), tmp_path, Collector(), choose_more=choose)
    run = store.read(path)
    assert [record.replicate for record in run.records if record.study == "throughput"] == [0, 1, 3] and footer.complete
    ((known, seconds),) = choose.asked
    assert known >= 1 and seconds > 0
    usual = adaptive().pace.rounds
    assert asked[-3:] == [usual, FURTHER_ROUNDS * usual, FURTHER_ROUNDS * usual]
    assert plan.Plan.from_dict(run.header.plan).ranking_seconds == 600.0
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines[:-1] if '"replicate":3' not in line))  # as if it had been killed
    session.resume(tmp_path, Collector(), choose_more=choose)
    assert len(choose.asked) == 1


@pytest.mark.parametrize(("seconds", "predicted"), [(600.0, 1e3), (None, 0.1)], ids=["too long", "not asked for"])
def test_nothing_is_added_beyond_the_time_or_unasked(tmp_path: Path, seconds: float | None, predicted: float):
    path, _ = session.start(adaptive(seconds), tmp_path, Collector(), choose_more=Chooser((parts(), predicted)))
    assert {record.replicate for record in store.read(path).records} == {0}


def test_only_a_whole_run_of_quick_adapts():
    assert plan.make("quick", adapt=True).ranking_seconds == 170.0
    others = [
        plan.make("quick"),
        plan.make("quick", adapt=True, replicates=3),
        plan.make("quick", adapt=True, time_budget=60.0),
    ]
    others.append(plan.make("cpu", adapt=True))
    assert {made.ranking_seconds for made in others} == {None}
    assert "ranking_seconds" not in plan.make("quick").to_dict()  # which older versions would not know
