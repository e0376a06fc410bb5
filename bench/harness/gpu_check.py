"""`gpu-check` on the parent's side: its plan within a stated time, and checks asked of a worker within budgets."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from bench import costs
from bench.gpu_check.groups import EMULATED_BACKEND, EMULATION, GROUPS, PROBE, STUDY, Source
from bench.harness import standalone
from bench.harness import study as harness_study
from bench.harness.plan import SUITES, Plan
from bench.machine import system
from bench.machine.conditions import Watch
from bench.processes.code import Code
from bench.processes.process import WorkerProcess
from bench.processes.response import Observed, Subject, WorkerFailed, WorkerResponse, build_record
from impls import UnknownName
from results.record import Record

GRID = "grid"  # the study `goal`, reduced to what is compared here
SECONDS = 480.0
BACKENDS = ("cuda", "cudnn")
FILTERS = ("dtype=bfloat16", "launch=graph")  # the other data types, eager launches and baselines: lstm-bench run goal
EMULATED_BACKENDS = (EMULATED_BACKEND, "torch")
START_SECONDS = 120.0
LIST_SECONDS = 120.0
EMULATED_PATIENCE = 5
LIST = "parts"  # the key of the record that says why a group's checks are not even known


# The plan: outputs and gradients, the grid of sizes against cuDNN, then the probes.


class Row(NamedTuple):
    """One step of the plan. at_most: seconds; None where there is no limit."""

    name: str
    question: str
    predicted: float
    source: Source
    at_most: float | None


def make(chosen: Sequence[str] = (), emulated: bool = False) -> Plan:
    """The plan of `gpu-check`.

    Args:
        chosen: groups of checks, or `grid`; all if empty. There is no limit of time where some are chosen.
        emulated: run our kernels under the emulation on a CPU, with no limit of time either.

    Raises:
        UnknownName: there is no such group.
    """
    for name in chosen:
        if name not in (*GROUPS, GRID):
            raise UnknownName("item", name, (*GROUPS, GRID))
    suite = "emulated" if emulated else "grid"
    return Plan(
        suite=suite,
        studies=(harness_study.get("goal"),) if GRID in chosen or not chosen else (),
        backends=EMULATED_BACKENDS if emulated else BACKENDS,
        filters=() if emulated else FILTERS,
        threads=len(system.usable()),
        replicates=SUITES[suite].replicates,
        time_budget=None if chosen or emulated else SECONDS,
        items=tuple(name for name in GROUPS if name in chosen or not chosen),
        emulated=emulated,
    )


def predicted(plan: Plan) -> list[Row]:
    """The steps of a plan in their order, with what each is predicted to take and may take at most."""
    rows = []
    for name in plan.items:
        group = GROUPS[name]
        rows.append(Row(name, group.question, group.predicted, group.source, group.budget if plan.time_budget else None))
    if plan.studies:
        before = [row for row in rows if GROUPS[row.name].first]
        left = None
        if plan.time_budget is not None:
            left = plan.time_budget - reserved(plan.items) - sum(row.predicted for row in before)
        grid = Row(GRID, "is our kernel faster than cuDNN, by size, both in CUDA graphs?", grid_seconds(plan), "measured", left)
        rows.insert(len(before), grid)
    return rows


def grid_seconds(plan: Plan) -> float:
    """From the costs of a case that were recorded on an H100; both workers start side by side."""
    cases = [(case, backend) for its in plan.studies for case in plan.cases(its) for backend in plan.compared()]
    once = costs.START_SECONDS_H100 + costs.PEAKS_SECONDS * len(plan.peak_dtypes())
    return once + sum(costs.case_seconds(case, cudnn=backend == "cudnn") for case, backend in cases)


def reserved(names: Sequence[str]) -> float:
    """Seconds that the groups measured after the grid are predicted to take; where they take longer, the last give way."""
    return sum(GROUPS[name].predicted for name in names if not GROUPS[name].first)


@dataclass(slots=True)
class CheckGroups:
    """Measures groups of checks in one worker, which is replaced where it dies or its CUDA context is corrupted.

    Args:
        emulated: under the emulation on a CPU.
        ends: monotonic time by which everything must be over, and within it each group has its own budget; None for no limit.
        is_finished: whether a check (study, key) is on disk already.
        on_status: told what is measured now.
    """

    emulated: bool
    ends: float | None
    cpus: Sequence[int]
    cache: Path
    code: Code
    is_finished: Callable[[str, str], bool] = lambda study, key: False
    on_status: Callable[[str], None] = lambda text: None
    _worker: WorkerProcess | None = field(default=None, init=False)
    _group_ends: float = field(default=math.inf, init=False)

    def measure(self, names: Sequence[str]) -> Generator[Record]:
        """Records of the groups' checks as they come, without those that are finished.

        A check that fails, dies or hangs costs itself alone. What a budget does not reach is skipped as not measured.
        """
        try:
            for name in names:
                self._group_ends = math.inf if self.ends is None else min(time.monotonic() + GROUPS[name].budget, self.ends)
                yield from self._measure_group(name)
        finally:
            self._drop_worker()

    def _measure_group(self, name: str) -> Iterator[Record]:
        study, (backend, device) = STUDY + name, self._place
        marks = {"emulated": "true"} if self.emulated else {}
        started, clock = time.time(), time.monotonic()
        listed = self._ask("parts", LIST_SECONDS, item=name) if self._left() > 0 else self._unreached(name)
        if listed.status != "ok":
            observed = Observed({}, started, time.monotonic() - clock)
            yield build_record(Subject(study, LIST, backend, 0, {"device": device}), listed, observed, marks)
            return
        for check in listed.checks:
            if self.is_finished(study, check["key"]):
                continue
            started, clock, conditions = time.time(), time.monotonic(), Watch(device)
            if self._left() <= 0:
                response = self._unreached(name)
            else:
                self.on_status(f"{name}  {check['key']}")
                with conditions:
                    response = self._ask("part", GROUPS[name].check_seconds, item=name, key=check["key"])
                response = response.unless_unstable(conditions.invalid())
            observed = Observed(conditions.summary, started, time.monotonic() - clock)
            subject = Subject(study, check["key"], backend, 0, check["parameters"])
            yield build_record(subject, response, observed, marks)

    @property
    def _place(self) -> tuple[str, str]:
        return (EMULATION, "cpu") if self.emulated else (PROBE, "cuda")

    def _left(self) -> float:
        return self._group_ends - time.monotonic()

    def _at_most(self, seconds: float) -> float:
        """Seconds to wait: the emulation is slow, and nothing on a GPU may outlive its group's budget."""
        return EMULATED_PATIENCE * seconds if self.emulated else min(seconds, max(1.0, self._left()))

    def _ask(self, operation: str, seconds: float, /, **arguments: Any) -> WorkerResponse:
        if self._worker is None:
            backend, _ = self._place
            self._worker = WorkerProcess(backend, self.cpus, self.cache, self._at_most(START_SECONDS), self.code)
        try:
            self._worker.await_start()
        except WorkerFailed as failure:
            response = WorkerResponse.of_failure(failure)
        else:
            response = standalone.ask(self._worker, operation, self._at_most(seconds), emulated=self.emulated, **arguments)
        if response.died:
            self._drop_worker()
        return response

    def _drop_worker(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker = None

    def _unreached(self, name: str) -> WorkerResponse:
        return WorkerResponse.not_measured(
            f"the {GROUPS[name].budget:.0f} s of this item, or those of the whole check, were spent before its "
            f"turn; without a limit: lstm-bench gpu-check --check {name}"
        )
