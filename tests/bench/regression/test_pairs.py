"""A pair that the machine disturbs is measured again, and given up after three tries; what the backend does is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.harness import plan, study
from bench.processes.code import HERE
from bench.processes.response import Observed, WorkerResponse
from bench.regression import comparison
from bench.regression.comparison import SIDES, TRIES, PairedCase, Pairs
from results.record import Header, Record
from results.store import Writer
from tests.bench.conftest import Collector

Outcome = Callable[[int], WorkerResponse]  # by how often the pair was measured before
UNSTABLE = WorkerResponse("failed", "hot", "unstable")
OK = WorkerResponse("ok")


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Pairs whose new side ends as it is told, and how often each pair was measured."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    asked = plan.make("smoke", ["numpy"], ["phase=forward"], threads=1)
    question = PairedCase(study.get("throughput"), asked.cases(study.get("throughput"))[0], "numpy", "numpy")
    tries: dict[int, int] = {}

    def measure(outcome: Outcome) -> tuple[Pairs, PairedCase, dict[int, int]]:
        def in_rounds(self: Pairs, question: PairedCase, number: int, worker_pools: object) -> dict[str, Record]:
            replies = {"base": OK, "new": outcome(tries.get(number, 0))}
            tries[number] = tries.get(number, 0) + 1
            return {side: comparison._record(question, side, number, replies[side], Observed({}, 0.0, 0.0)) for side in SIDES}

        monkeypatch.setattr(Pairs, "_in_rounds", in_rounds)
        monkeypatch.setattr(comparison.Workers, "start", lambda *_: None)
        writers = {side: Writer(tmp_path / f"{side}.jsonl") for side in SIDES}
        for side, writer in writers.items():
            writer.append(Header(side, "", 1, "here", {}, {}))
        made = Pairs(asked, dict.fromkeys(SIDES, HERE), writers, Collector())
        while made.open(question, 0) and sum(tries.values()) < 10:
            made.measure({question: (0,)})
        return made, question, tries

    return measure


def test_a_disturbed_pair_is_measured_again_and_then_counts(measured):
    made, question, tries = measured(lambda before: OK if before else UNSTABLE)
    assert tries == {0: 2} and not made.out(question)
    assert {record.status for side in SIDES for record in made.records[side].values()} == {"ok"}


def test_a_pair_that_is_always_disturbed_is_given_up(measured):
    made, question, tries = measured(lambda _: UNSTABLE)
    assert tries == {0: TRIES} and made.out(question)


def test_what_failed_by_itself_is_not_asked_again(measured):
    made, question, tries = measured(lambda _: WorkerResponse("failed", "gone", "crash"))
    assert tries == {0: 1} and made.out(question)
