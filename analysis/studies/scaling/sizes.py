"""How the time of a training step grows with width, depth and batch: exponents over three values and more of one of them."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from analysis.statistics.ratios import locate
from analysis.statistics.seeds import Estimate, missing
from analysis.studies.scaling import scaling
from analysis.studies.scaling.scaling import Series

AXES = {"hidden_size": "width", "num_layers": "layers", "batch": "batch"}  # column: what a reader calls it
GROUPS = {"hidden_size": "size", "num_layers": "num_layers", "batch": "batch"}  # of all architectures alike


def along(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """The rows of one architecture that differ in this of the `AXES` alone: about the middle, where most of its values are."""
    if rows.empty:
        return rows
    others = [GROUPS[other] for other in AXES if other != column]
    parts = [part for _, part in rows.groupby(others, sort=False)]
    return max(parts, key=lambda part: part[column].nunique())


def over(rows: pd.DataFrame, column: str) -> Series | None:
    """Seconds of a call over one of the `AXES`, each replicate's median; the width is the architecture's own."""
    found = rows[rows["metric"] == "time"]
    found = along(found[found["sweep"] == "sizes"], column) if "sweep" in found else found.iloc[:0]
    if found.empty:
        return None
    table = found.assign(value=[locate(samples, "median") for samples in found["samples"]])
    table = table.pivot_table(index="replicate_key", columns=column, values="value")
    return Series(table.columns.to_numpy(float), table.to_numpy(float))


def _exponent(column: str) -> Callable[[pd.DataFrame], Estimate]:
    def quantity(rows: pd.DataFrame) -> Estimate:
        found = over(rows, column)
        return missing("not measured") if found is None else scaling.exponent(found)

    return quantity


QUANTITIES: dict[str, Callable[[pd.DataFrame], Estimate]] = {
    "width_exponent": _exponent("hidden_size"),
    "depth_exponent": _exponent("num_layers"),
    "batch_exponent": _exponent("batch"),
}
WORDS = {"width_exponent": "d ln t / d ln width", "depth_exponent": "d ln t / d ln L", "batch_exponent": "d ln t / d ln B"}
