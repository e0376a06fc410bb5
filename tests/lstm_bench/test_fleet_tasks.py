"""`compare --fleet` and `track --fleet` on a machine of this process, which carries out what Ray would have one carry out."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.fleet.machine import Machine
from bench.fleet.shipping import Parcel
from bench.fleet.tasks import Head, Tasks
from bench.harness.plan import Plan
from bench.machine.lock import FOLDER_VARIABLE
from bench.regression.revisions import Repository
from lstm_bench.commands import fleet_tasks, tracking
from lstm_bench.commands.fleet_jobs import Asked, Failed
from lstm_bench.views import comparisons
from results import store
from tests.bench.conftest import Collector
from tests.lstm_bench.history_repository import History

ASKED = Asked("smoke", ("numpy",), ("phase=forward",), threads=1, memory=False)


@pytest.fixture(autouse=True)
def in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """In place of the cluster one machine, which gets everything pickled as Ray does it. Returns names of its host."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    hosts: list[str] = []

    def carry_out(
        address: str, tasks: Tasks, plan: Plan, parcel: Parcel, listener: Any, on_done: Callable[[Any], object], *,
        threads: int | None, wait: bool, id: str = "",
    ) -> None:  # fmt: skip
        head, machine = Head(tasks, listener, on_done, id=id), Machine(takes_turns=True)
        introduced = machine.introduce(plan.to_dict(), threads, wait, pickle.loads(pickle.dumps(parcel)))
        if hosts:
            machine.host = introduced["host"] = hosts[-1]
        head.join("machine", introduced)
        while (order := head.next("machine")) is not None:
            for kind, value in machine.carry_out(*pickle.loads(pickle.dumps(tuple(order)))):
                head.hear("machine", kind, pickle.loads(pickle.dumps(value)))
            head.ended("machine")
        assert head.done

    monkeypatch.setattr(fleet_tasks, "_carry_out", carry_out)
    monkeypatch.setattr("lstm_bench.commands.fleet.require_ray", lambda: None)
    return hosts


@pytest.fixture
def made(tmp_path: Path) -> History:
    history = History(tmp_path / "project").with_code()
    history.commit("first")
    return history


def test_a_range_is_compared_each_within_one_machine(made: History, tmp_path: Path):
    fast = made.numpy_backend.read_text()
    made.slow_down()
    made.commit("slower")
    made.numpy_backend.write_text(fast)
    made.commit("fast again")
    commits, root = Repository(made.folder).order(), tmp_path / "out"
    given: dict[str, Any] = {"out": root, "repository": made.folder}
    done = fleet_tasks.compare("", f"{commits[0]}..HEAD", ".", Collector(), ASKED, **given)
    assert [one.pair for one in done] == [(commits[0][:7], commits[1][:7]), (commits[1][:7], commits[2][:7])]
    verdicts = [[row.decision.verdict for row in one.outcome.rows if row.metric == "time"] for one in done if one.outcome]
    assert verdicts == [["SLOWER"], ["FASTER"]] and fleet_tasks.exit_code(done) == 1
    for one in done:
        assert one.outcome is not None
        runs = [store.read(path) for path in one.outcome.paths]
        assert [run.header.plan["side"] for run in runs] == ["base", "new"] and all(run.finished for run in runs)
        assert len({run.header.plan["comparison"] for run in runs}) == 1
        assert {its.conditions["host"] for run in runs for its in run.records} == {runs[0].header.environment["host"]}
    stored = store.find(root)
    for path in stored:  # as if each had been interrupted after its first pair, and the first comparison on another host
        text = "".join(path.read_text().splitlines(keepends=True)[:2])
        own = store.header_of(path).environment["host"]
        path.write_text(text.replace(own, "00000000") if path in stored[:2] else text)
    again = fleet_tasks.compare("", f"{commits[0]}..HEAD", ".", Collector(), ASKED, **given, resume=True)
    assert again[1].outcome is not None and again[1].outcome.paths == stored[2:], "finished by the host that had begun it"
    assert again[0].outcome is not None and not set(again[0].outcome.paths) & set(stored), "begun anew on another host"
    assert [store.read(path).finished for path in store.find(root)] == [False] * 2 + [True] * 4
    assert fleet_tasks.exit_code(again) == 1


def test_commits_are_tracked_and_finished_by_another_host(made: History, tmp_path: Path, in_this_process: list[str]):
    made.commit("second")
    environment = made.folder / "bench" / "machine" / "environment.py"
    text = environment.read_text()
    environment.write_text("this is no Python\n")
    made.commit("broken")
    environment.write_text(text)
    made.commit("last")
    commits, root = Repository(made.folder).order(), tmp_path / "history"
    given: dict[str, Any] = {"out": root, "repository": made.folder}
    done = fleet_tasks.track("", f"{commits[0]}..HEAD", Collector(), ASKED, **given)
    assert [(one.commit, one.result) for one in done] == list(
        zip(commits[1:], ["measured", "does not run", "measured"], strict=True)
    )
    assert tracking.exit_code(done) == 14
    (series,) = tracking.read(root, Repository(made.folder)).series
    assert [point.commit for point in series.points] == [commits[1], commits[3]]
    assert len({store.header_of(path).environment["host"] for path in store.find(root)}) == 1
    assert done[2].path is not None
    done[2].path.write_text("".join(done[2].path.read_text().splitlines(keepends=True)[:2]))
    (here,) = {its.conditions["host"] for its in store.read(done[2].path).records}
    in_this_process.append("another")
    again = fleet_tasks.track("", f"{commits[0]}..HEAD", Collector(), ASKED, **given)
    assert [one.result for one in again] == ["already there", "does not run", "resumed"] and again[2].path == done[2].path
    assert {its.conditions["host"] for its in store.read(again[2].path).records} == {here, "another"}
    assert len(store.find(root)) == 2


def test_a_pair_that_does_not_run_leaves_the_others(made: History, tmp_path: Path):
    environment = made.folder / "bench" / "machine" / "environment.py"
    environment.write_text("this is no Python\n")
    made.commit("broken")
    done = fleet_tasks.compare("", "HEAD~1", "HEAD", Collector(), ASKED, out=tmp_path / "out", repository=made.folder)
    assert [isinstance(one.failed, Failed) for one in done] == [True] and "does not run here" in done[0].reason
    assert fleet_tasks.exit_code(done) == 14
    (value,) = comparisons.values_of_all(done)
    assert value["reason"] == done[0].reason and "Not measured: " in comparisons.all_as_markdown(done, tmp_path / "a.md")
