"""What an LSTM or a GRU costs beside a vanilla RNN in the same backend: paired by replicate, its interval over replicates."""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
import pandas as pd

from analysis.statistics import seeds
from analysis.statistics.quantities import Quantity
from analysis.statistics.ratios import NOT_COMPARED, aggregate, of_one_launch
from analysis.statistics.seeds import NOT_MEASURED, Estimate, exact, missing
from analysis.studies.pages import Measured, markdown_table

Equal = Literal["width", "parameters"]
PARAMETERS_WITHIN = 0.03  # relative, to count as equal


def time_over_rnn(rows: pd.DataFrame, cell: str = "lstm") -> Estimate:
    """Seconds a call of the cell over those of the RNN, both of one backend and one replicate's worker process.

    rows: of one backend and of one network of each cell. Geometric mean over replicates with its t-interval.

    Paired within a replicate: what differs between processes (memory layout, clocks, neighbours) cancels, and drift within
    one is random, since the order of networks is shuffled.
    """
    timed = rows[rows["metric"] == "time"]
    own, other = (timed[timed["cell"] == name] for name in (cell, "rnn"))
    if own.empty or other.empty:
        return NOT_MEASURED
    if own["case"].nunique() > 1 or other["case"].nunique() > 1 or timed["backend"].nunique() > 1:
        return missing("more than one network to compare")
    own, other = (part.set_index("replicate_key")["samples"] for part in (own, other))
    shared = [key for key in own.index if key in other.index]
    logs = [np.log(aggregate(own[key], "median") / aggregate(other[key], "median")) for key in shared]
    return seeds.geometric_mean(np.array(logs, float))


def count_over_rnn(rows: pd.DataFrame, name: str) -> Estimate:
    """A closed-form count of the LSTM over that of the RNN: exact, its own interval."""
    own, other = (rows.loc[rows["cell"] == cell, f"count_{name}"].unique() for cell in ("lstm", "rnn"))
    if len(own) != 1 or len(other) != 1:
        return NOT_MEASURED
    return exact(own[0] / other[0])


def ratios(series: pd.DataFrame, equal: Equal, phase: str) -> pd.DataFrame:
    """One row per backend, LSTM's hidden size and cell: its time over the RNN's that is as wide, or as large. Columns
    backend, device, hidden_size, cell, value, low, high."""
    rows = series[(series["study"] == "cost") & (series["metric"] == "time") & (series["phase"] == phase)]
    rows = of_one_launch(rows[~rows["backend"].isin(NOT_COMPARED)])
    found = []
    for (device, backend), own in rows.groupby(["device", "backend"], sort=False):
        lstms = own[own["cell"] == "lstm"].drop_duplicates("case").sort_values("hidden_size")
        for hidden, parameters in zip(lstms["hidden_size"], lstms["count_parameters"], strict=True):
            if equal == "width":
                alike = own[own["hidden_size"] == hidden]
            else:
                alike = own[(own["count_parameters"] / parameters - 1).abs() <= PARAMETERS_WITHIN]
            for cell in ("lstm", "gru"):
                estimate = time_over_rnn(alike, cell)
                if estimate.value is not None:
                    found.append((backend, device, int(hidden), cell, estimate.value, estimate.low, estimate.high))
    return pd.DataFrame(found, columns=["backend", "device", "hidden_size", "cell", "value", "low", "high"])


# The measured table of docs/studies/cost.md.

SIZES = (64, 256)
PHASE = "forward_backward"
CELLS = (("torch", "lstm"), ("torch", "gru"), ("jax", "lstm"), ("jax", "gru"), ("numpy", "lstm"), ("numpy", "gru"))


def _ratio(every: pd.DataFrame, backend: str, cell: str, size: int) -> Measured:
    def measured(_: pd.DataFrame) -> Estimate:
        own = every[(every["backend"] == backend) & (every["cell"] == cell) & (every["hidden_size"] == size)]
        if own.empty:
            return NOT_MEASURED
        value, low, high = (float(own[name].iloc[0]) for name in ("value", "low", "high"))
        return Estimate(value, low, high)

    return measured


def ratio_table(series: pd.DataFrame) -> str:
    """Time over the RNN's, at equal width and at equal parameters."""
    rows, of_width, of_parameters = [], ratios(series, "width", PHASE), ratios(series, "parameters", PHASE)
    for backend, cell in CELLS:
        cells: list[Measured | None] = [_ratio(of_width, backend, cell, size) for size in SIZES]
        cells += [_ratio(of_parameters, backend, cell, size) if cell == "lstm" else None for size in SIZES]
        rows.append((f"{backend}, {cell.upper()}", cells))
    head = [f"equal {what}, H = {size}" for what in ("width", "parameters") for size in SIZES]
    return markdown_table(series, ["time over the RNN's", *head], rows)


TABLES = {"ratios": ratio_table}
QUANTITIES = {
    "time_over_rnn": Quantity(time_over_rnn, "time", "×"),
    "parameters_over_rnn": Quantity(partial(count_over_rnn, name="parameters"), "parameters", "×"),
    "flops_over_rnn": Quantity(partial(count_over_rnn, name="flops"), "FLOPs", "×"),
}
