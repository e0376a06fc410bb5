"""The plan of `gpu-check`: outputs and gradients, the grid of sizes against cuDNN, then the probes, within a stated time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench import items, processors
from bench.gpu.emulated import BACKEND
from bench.gpu.items import ITEMS, Source
from bench.plan import SUITES, Plan
from impls import UnknownName

GRID = "grid"  # the study `goal`, reduced to what is compared here
SECONDS = 480.0
BACKENDS = ("cuda", "cudnn")
FILTERS = ("dtype=bfloat16", "launch=graph")  # the other data types, eager launches and baselines: lstm-bench run goal
EMULATED_BACKENDS = (BACKEND, "torch")
# Of a case and backend on one H100 (2026-11-26, 14 cases of study `throughput`): about 1.3 s, and 0.03 s for each million of
# weights and inputs. The workers' start, the peak of one data type and the harness's own overhead are measured there too.
CASE_SECONDS, MILLION_SECONDS, START_SECONDS = 1.3, 0.03, 25.0


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
        if name not in (*ITEMS, GRID):
            raise UnknownName("item", name, (*ITEMS, GRID))
    suite = "emulated" if emulated else "grid"
    return Plan(
        suite=suite,
        studies=("goal",) if GRID in chosen or not chosen else (),
        backends=EMULATED_BACKENDS if emulated else BACKENDS,
        filters=() if emulated else FILTERS,
        threads=len(processors.usable()),
        replicates=SUITES[suite].replicates,
        time_budget=None if chosen or emulated else SECONDS,
        items=tuple(name for name in ITEMS if name in chosen or not chosen),
        emulated=emulated,
    )


def predicted(plan: Plan) -> list[Row]:
    """The steps of a plan in their order, with what each is predicted to take and may take at most."""
    rows = []
    for name in plan.items:
        item = ITEMS[name]
        rows.append(Row(name, item.question, item.predicted, item.source, item.budget if plan.time_budget else None))
    if plan.studies:
        before = [row for row in rows if ITEMS[row.name].first]
        left = None
        if plan.time_budget is not None:
            left = plan.time_budget - items.reserved(plan.items) - sum(row.predicted for row in before)
        grid = Row(GRID, "is our kernel faster than cuDNN, by size, both in CUDA graphs?", grid_seconds(plan), "measured", left)
        rows.insert(len(before), grid)
    return rows


def grid_seconds(plan: Plan) -> float:
    cases = plan.cases("goal")
    millions = sum(8 * case.spec.hidden_size**2 + case.tokens * 2 * case.spec.hidden_size for case in cases) / 1e6
    return START_SECONDS + len(plan.compared()) * (CASE_SECONDS * len(cases) + MILLION_SECONDS * millions)
