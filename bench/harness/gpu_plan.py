"""The plan of `gpu-check`: outputs and gradients, the grid of sizes against cuDNN, then the probes, within a stated time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench import costs
from bench.gpu_check.groups import EMULATED_BACKEND, GROUPS, Source
from bench.harness import check_groups
from bench.harness.plan import SUITES, Plan
from bench.machine import system
from impls import UnknownName

GRID = "grid"  # the study `goal`, reduced to what is compared here
SECONDS = 480.0
BACKENDS = ("cuda", "cudnn")
FILTERS = ("dtype=bfloat16", "launch=graph")  # the other data types, eager launches and baselines: lstm-bench run goal
EMULATED_BACKENDS = (EMULATED_BACKEND, "torch")


class Row(NamedTuple):
    """One step of the plan. at_most: seconds; None where there is no limit."""

    name: str
    question: str
    predicted: float
    source: Source
    at_most: float | None


def make(chosen: Sequence[str] = (), emulated: bool = False) -> Plan:
    """`chosen` items only. There is no limit of time then, nor under the emulation. Raises `UnknownName`."""
    for name in chosen:
        if name not in (*GROUPS, GRID):
            raise UnknownName("item", name, (*GROUPS, GRID))
    suite = "emulated" if emulated else "grid"
    return Plan(
        suite=suite,
        studies=("goal",) if GRID in chosen or not chosen else (),
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
        item = GROUPS[name]
        rows.append(Row(name, item.question, item.predicted, item.source, item.budget if plan.time_budget else None))
    if plan.studies:
        before = [row for row in rows if GROUPS[row.name].first]
        left = None
        if plan.time_budget is not None:
            left = plan.time_budget - check_groups.reserved(plan.items) - sum(row.predicted for row in before)
        grid = Row(GRID, "is our kernel faster than cuDNN, by size, both in CUDA graphs?", grid_seconds(plan), "measured", left)
        rows.insert(len(before), grid)
    return rows


def grid_seconds(plan: Plan) -> float:
    """From the costs of a case that were recorded on an H100; both workers start side by side."""
    cases = [(case, backend) for case in plan.cases("goal") for backend in plan.compared()]
    once = costs.START_SECONDS_H100 + costs.CEILINGS_SECONDS * len(plan.dtypes())
    return once + sum(costs.case_seconds(case, cudnn=backend == "cudnn") for case, backend in cases)
