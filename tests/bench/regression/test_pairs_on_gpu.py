"""Paired comparison on a GPU, by backends that only say they run on one: sides interleave, clocks are read, 5 % is found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import costs
from bench.harness import plan, study
from bench.harness.case import Case
from bench.harness.suites import Pace
from bench.machine import conditions
from bench.processes import rounds
from bench.processes.response import WorkerResponse
from bench.regression import comparison
from impls import LSTMSpec
from lstm_bench.commands import compare
from lstm_bench.commands.compare import Options, Outcome
from results import store
from tests.bench.conftest import Collector

CASE = Case(LSTMSpec(8, 8, device="cuda"), 4, 2, launch="graph")
BUSY_NVML = {
    "nvmlDeviceGetPowerUsage": 3e5,
    "nvmlDeviceGetTemperature": 40,
    "nvmlDeviceGetCurrentClocksEventReasons": 0,
    "nvmlDeviceGetComputeRunningProcesses": [],
}


class FakeNvml:
    """A GPU whose SM clock is what `clock` says; every constant is 0."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.clock = clock

    def __getattr__(self, name: str) -> Any:
        if name == "nvmlDeviceGetClockInfo":
            return lambda *_: self.clock()
        return (lambda *_: BUSY_NVML[name]) if name in BUSY_NVML else 0


@pytest.fixture(autouse=True)
def on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, misbehaving: None) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    small = replace(study.get("throughput"), cases={"gpu": (CASE,)})
    monkeypatch.setattr("bench.studies.throughput.STUDY", small)


def compared(new: str, tmp_path: Path, **options: Any) -> Outcome:
    asked = plan.make("gpu", ["pretend_gpu", new], threads=1)
    chosen = Options(memory=False, **({"stages": (5, 10), "confirming": False} | options))
    return compare.compare("backend:pretend_gpu", f"backend:{new}", lambda: asked, tmp_path, Collector(), chosen)


def time_row(outcome: Outcome) -> Any:
    (row,) = [row for row in outcome.rows if row.metric == "time"]
    return row


def test_five_percent_more_work_is_slower(tmp_path):
    row = time_row(compared("pretend_gpu_slower", tmp_path))
    assert row.decision.verdict == "SLOWER", row.decision


def test_the_same_work_is_not(tmp_path):
    outcome = compared("pretend_gpu", tmp_path)
    assert time_row(outcome).decision.verdict in ("SAME", "UNDECIDED") and outcome.exit_code != 1


@pytest.fixture
def asked(monkeypatch) -> list[list[str]]:
    """The sides of each measurement, in order, measured briefly."""
    found: list[list[str]] = []
    measure = rounds.measure

    def noted(workers, *arguments, **more):
        found.append(list(workers))
        return measure(workers, *arguments, **more)

    monkeypatch.setattr(rounds, "measure", noted)
    monkeypatch.setitem(comparison.PACES, "gpu", Pace(2, 0.0, 0.01))
    return found


def test_both_sides_live_at_once_and_interleave(tmp_path, asked):
    compared("pretend_gpu", tmp_path, stages=(2,))
    assert asked == [["base", "new"], ["new", "base"]]


def test_sides_that_do_not_fit_together_follow_each_other(tmp_path, asked, monkeypatch):
    monkeypatch.setattr(costs, "at_once", lambda case, count: 1)
    compared("pretend_gpu", tmp_path, stages=(2,))
    assert asked == [["base"], ["new"], ["new"], ["base"]]


def test_two_frameworks_live_one_at_a_time(tmp_path, asked, monkeypatch):
    facts = comparison.impls.facts
    monkeypatch.setattr(comparison.impls, "facts", lambda name: dataclasses.replace(facts(name), framework=name))
    compared("pretend_gpu_slower", tmp_path, stages=(2,))
    assert asked == [["base"], ["new"], ["new"], ["base"]]


@pytest.mark.parametrize("slowed", ["new", None])
def test_sides_whose_clocks_differ_are_not_compared(tmp_path, asked, monkeypatch, slowed):
    """The clock is read at the end of each turn, so that each side has its own."""
    turn: list[str] = []
    note = conditions.GpuWatch.note_turn

    def noted(self, name: str) -> None:
        turn[:] = [name]
        note(self, name)

    fake = FakeNvml(lambda: 1700 if slowed and turn == [slowed] else 1980)
    monkeypatch.setattr(conditions.system, "first_gpu", lambda: (fake, 0))
    monkeypatch.setattr(conditions.GpuWatch, "note_turn", noted)
    monkeypatch.setattr(costs, "free_bytes", lambda device: 10**12)
    outcome = compared("pretend_gpu", tmp_path, stages=(2,))
    clocks = {
        side: {record.conditions["sm_clock_mhz"] for record in store.read(path).records}
        for side, path in zip(("base", "new"), outcome.paths, strict=True)
    }
    assert clocks == {"base": {1980}, "new": {1700 if slowed else 1980}}
    decision = time_row(outcome).decision
    assert (decision.verdict == "UNCOMPARABLE") == bool(slowed), decision
    assert not slowed or decision.reason == "the GPU ran at 1980 MHz for base and 1700 MHz for new"


def test_code_that_ignores_the_launch_mode_is_unsupported():
    response = WorkerResponse("ok", provenance={"ran": "cudnn"})
    graph, eager = CASE.to_dict(), replace(CASE, launch="eager").to_dict()
    assert rounds._as_launched(response, eager) == response
    assert rounds._as_launched(replace(response, provenance={"ran": "graph of cudnn"}), graph).status == "ok"
    refused = rounds._as_launched(response, graph)
    assert refused.status == "skipped" and refused.reason.startswith("unsupported: the code of this revision knows no launch=")
