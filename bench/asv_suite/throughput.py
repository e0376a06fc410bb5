"""The throughput study under asv, which tracks the harness's own figure; pytest-benchmark has the same cases.

asv run --python=same --launch-method=spawn
"""

from __future__ import annotations

import os
import statistics

import impls
from bench.harness import study
from bench.harness.case import Case
from bench.harness.suites import SUITES, Suite, offered
from bench.machine import system
from bench.processes import rounds, scratch
from bench.processes.rounds import Seat, Workers
from bench.worker.prepare import NULL
from impls import UnknownName

SCALE_VARIABLE = "LSTM_BENCH_SCALE"


def suite() -> Suite:
    """The suite named by LSTM_BENCH_SCALE, `smoke` if it is not set."""
    name = os.environ.get(SCALE_VARIABLE, "smoke")
    if name not in SUITES:
        raise UnknownName(f"suite (in the variable {SCALE_VARIABLE})", name, offered())
    return SUITES[name]


def cases(study_name: str) -> dict[str, Case]:
    """The study's cases at the chosen scale, by key."""
    return {case.key: case for case in study.get(study_name).cases.get(suite().scale, ())}


def backends() -> list[str]:
    """All but the no-op baseline."""
    return [name for name in impls.names() if name != NULL and not getattr(impls.facts(name), "on_request", False)]


def parameters(study_name: str) -> tuple[list[str], list[str]]:
    """asv's parameters: case keys and backend names."""
    return list(cases(study_name)), backends()


def median_seconds(study_name: str, key: str, backend: str) -> float:
    """Median seconds a call in one fresh worker.

    Raises `NotImplementedError` with the reason where the backend skips the case (asv shows n/a), and `RuntimeError`
    where it fails.
    """
    case = cases(study_name)[key]
    with scratch.folder() as cache, Workers(system.usable(), cache) as workers:
        outcome = rounds.measure_case(
            {backend: Seat(workers, backend)}, case, lambda ready, _: rounds.measure(ready, case.to_dict(), suite().pace, True)
        )
    response = outcome.responses[backend]
    if response.status == "skipped":
        raise NotImplementedError(response.reason)
    if response.status == "failed":
        raise RuntimeError(f"{response.kind}: {response.reason}")
    return statistics.median(response.measurements[0].samples)


class Throughput:
    """Median seconds a call, by case and backend. Cases are those of the scale in LSTM_BENCH_SCALE (default: smoke)."""

    param_names = ("case", "backend")
    params = parameters("throughput")
    unit = "s"
    version = "1"  # fixed by hand: editing this file must not begin a new series
    timeout = 600

    def setup(self, case: str, backend: str) -> None:
        # Measured here, since only in a setup does asv take NotImplementedError for n/a.
        self.seconds = median_seconds("throughput", case, backend)

    def track_median_seconds(self, case: str, backend: str) -> float:
        return self.seconds
