"""Which cases differ in one size only: what a curve may join."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

PARAMETERS = (
    "cell", "input_size", "hidden_size", "num_layers", "bias", "bidirectional", "dtype", "device", "proj_size", "steps",
    "batch", "phase", "launch", "ragged", "initial_state", "seed",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sweep:
    """Rows that agree in every parameter but those swept. fixed: what they agree in."""

    fixed: dict[str, object]
    rows: pd.DataFrame


def sweeps(cases: pd.DataFrame, over: Sequence[str], least: int = 2) -> list[Sweep]:
    """Every group of cases that differ only in `over`, with at least `least` points, the largest group first.

    Where hidden_size is swept, an input_size that equals it is swept along.
    """
    if cases.empty or any(name not in cases for name in over):
        return []
    table = cases.copy()
    present = [name for name in PARAMETERS if name in table and name not in over]
    if "hidden_size" in over and "input_size" in table:
        table["input_size"] = table["input_size"].where(table["input_size"] != table["hidden_size"], other=-1)
    found = []
    keys = table[present].astype(object).where(table[present].notna(), None)
    for values, rows in cases.groupby([keys[name] for name in present], sort=False, dropna=False):
        points = rows.drop_duplicates(list(over))
        if len(points) >= least and all(points[name].nunique() >= 2 for name in over):
            fixed: dict[str, object] = dict(zip(present, values, strict=True))
            if fixed.get("input_size") == -1:
                del fixed["input_size"]
            found.append(Sweep(fixed, rows))
    return sorted(found, key=lambda sweep: -len(sweep.rows.drop_duplicates(list(over))))
