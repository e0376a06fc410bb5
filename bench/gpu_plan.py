"""The plan of `gpu-check`: every item, then the goal grid, within a time stated beforehand."""

from __future__ import annotations

from collections.abc import Sequence

import impls
from bench import processors
from bench.gpu.emulated import BACKEND
from bench.gpu.items import ITEMS
from bench.plan import SUITES, Plan
from impls import UnknownName

GRID = "grid"  # item (g), which is the study `goal`
SECONDS = 510.0  # what is left of 9 minutes ends what is under way when this is spent
EMULATED_BACKENDS = (BACKEND, "torch")
SLOW_TO_COMPILE = ("flashrnn", "torch_compile")
MACHINE_SECONDS = 25.0  # ceilings of three dtypes, and the price of the harness


def make(chosen: Sequence[str] = (), emulated: bool = False) -> Plan:
    """`chosen` items only. There is no limit of time then, nor under the emulation. Raises `UnknownName`."""
    for name in chosen:
        if name not in (*ITEMS, GRID):
            raise UnknownName("item", name, (*ITEMS, GRID))
    suite = "emulated" if emulated else "grid"
    return Plan(
        suite=suite,
        studies=("goal",) if GRID in chosen or not chosen else (),
        backends=EMULATED_BACKENDS if emulated else _peers(),
        threads=len(processors.usable()),
        replicates=SUITES[suite].replicates,
        time_budget=None if chosen or emulated else SECONDS,
        items=tuple(name for name in ITEMS if name in chosen or not chosen),
        emulated=emulated,
    )


def _peers() -> tuple[str, ...]:
    """Ours first, and last those that compile for each size."""
    names = [name for name in impls.names() if "cuda" in impls.devices(name)]
    return tuple(sorted(names, key=lambda name: (name in SLOW_TO_COMPILE, name != "cuda", name)))


def predicted(plan: Plan) -> list[tuple[str, str, str, float, float | None]]:
    """Letter, name, question, seconds predicted and seconds allowed of each item on one H200. Modelled, never measured."""
    rows: list[tuple[str, str, str, float, float | None]] = [
        (
            ITEMS[name].letter,
            name,
            ITEMS[name].question,
            ITEMS[name].predicted,
            ITEMS[name].budget if plan.time_budget else None,
        )
        for name in plan.items
    ]
    if plan.studies:
        left = None if plan.time_budget is None else plan.time_budget - sum(ITEMS[name].predicted for name in plan.items)
        rows.append(("g", GRID, "is our kernel faster than every peer, over the goal grid?", grid_seconds(plan), left))
    return rows


def grid_seconds(plan: Plan) -> float:
    """Drawing, moving and checking data on the host outweighs the GPU: assumed 40 million values a second and half a second."""
    values = sum(8 * case.spec.hidden_size**2 + case.tokens * 2 * case.spec.hidden_size for case in plan.cases("goal"))
    return MACHINE_SECONDS + len(plan.compared()) * (values / 40e6 + 0.5 * len(plan.cases("goal")))
