"""The measured tables of docs/studies/cost.md."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from analysis.statistics.quantities import NOT_MEASURED
from analysis.statistics.seeds import Estimate
from analysis.studies.beside_pilot import Cell, table
from analysis.studies.cost import statistics as cost_statistics

SIZES = (64, 256)
PHASE = "forward_backward"
CELLS = (("torch", "lstm"), ("torch", "gru"), ("jax", "lstm"), ("jax", "gru"), ("numpy", "lstm"), ("numpy", "gru"))
# What the pilot had by backend, cell and width: torch with its fused LSTM on; without it, 3.3 to 4.0 over all widths, which is
# what backends without a fused LSTM are held against; a GRU, never fused on a CPU, 2.8 to 5.2 over all widths.
FUSED, NOT_FUSED, GRU = {64: "0.54", 256: "1.56"}, "3.3–4.0", "2.8–5.2"
MACHINE = (
    "The pilot ran in one thread on two busy cores of another make. The length is not the reason: its T = 128 and our T = 32 "
    "give the same ratio on one machine, within a tenth."
)
OTHER_CODE = (
    "Not the pilot's code: there PyTorch with oneDNN switched off, here other products, in other proportion to the rest."
)


def _ratio(equal: cost_statistics.Equal, backend: str, cell: str, size: int) -> Callable[[pd.DataFrame], Estimate]:
    def measured(series: pd.DataFrame) -> Estimate:
        found = cost_statistics.ratios(series, equal, PHASE)
        own = found[(found["backend"] == backend) & (found["cell"] == cell) & (found["hidden_size"] == size)]
        if own.empty:
            return NOT_MEASURED
        value, low, high = (float(own[name].iloc[0]) for name in ("value", "low", "high"))
        return Estimate(value, low, high)

    return measured


def _pilot(backend: str, cell: str, size: int) -> tuple[str, str]:
    if backend == "torch":
        return (FUSED[size], MACHINE) if cell == "lstm" else (GRU, MACHINE)
    return (NOT_FUSED, OTHER_CODE) if cell == "lstm" else ("", "")


def ratios(series: pd.DataFrame) -> str:
    """Time over the RNN's, at equal width beside the pilot's and at equal parameters."""
    rows: list[tuple[str, list[Cell | None]]] = []
    for backend, cell in CELLS:
        cells: list[Cell | None] = [Cell(_ratio("width", backend, cell, size), *_pilot(backend, cell, size)) for size in SIZES]
        cells += [Cell(_ratio("parameters", backend, cell, size)) if cell == "lstm" else None for size in SIZES]
        rows.append((f"{backend}, {cell.upper()}", cells))
    head = [f"equal {what}, H = {size}" for what in ("width", "parameters") for size in SIZES]
    return table(series, ["time over the RNN's", *head], rows)


TABLES = {"ratios": ratios}
