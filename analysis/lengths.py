"""From records to costs over length, and the numbers that the study `scaling` is judged by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from analysis import scaling, seeds
from analysis.ratios import locate
from analysis.scaling import Series
from analysis.seeds import Estimate, missing

CHALLENGER, INCUMBENT = "lstm_stack", "transformer"
MEMORY = ("device_peak", "rss_peak")
ENERGY = ("energy",)
UPPER = 256  # lengths from which on a power is fitted: below, what a call costs however short weighs in


def over_length(rows: pd.DataFrame, *metrics: str) -> Series | None:
    """The first of the metrics that is there, per token, at each length; a replicate's location is the median of its samples.

    A length that some replicate lacks stays as NaN there.
    """
    for metric in metrics:
        found = rows[rows["metric"] == metric]
        if found.empty:
            continue
        values = [locate(samples, "median") for samples in found["samples"]]
        table = found.assign(value=np.array(values) / found["count_tokens"])
        table = table.pivot_table(index="replicate_key", columns="steps", values="value")
        return Series(table.columns.to_numpy(float), table.to_numpy(float))
    return None


def flops(rows: pd.DataFrame) -> Series | None:
    """Operations a token at each length, by the closed forms that stand in the records."""
    found = rows[rows["metric"] == "time"].drop_duplicates("steps").sort_values("steps")
    if found.empty:
        return None
    return Series(found["steps"].to_numpy(float), (found["count_flops"] / found["count_tokens"]).to_numpy(float)[None])


def crossover(rows: pd.DataFrame, *metrics: str) -> Estimate:
    """From which length the LSTM costs less than the Transformer. One replicate gives where, and no interval."""
    sides = [over_length(rows[rows["cell"] == cell], *metrics) for cell in (CHALLENGER, INCUMBENT)]
    first, second = sides
    if first is None or second is None:
        return missing("not measured")
    return scaling.crossover(first, second)


def _over(factor: float, *metrics: str) -> Callable[[pd.DataFrame], Estimate]:
    """The crossover as a multiple of factor · d, d the Transformer's width."""

    def quantity(rows: pd.DataFrame) -> Estimate:
        found = crossover(rows, *metrics)
        widths = rows.loc[rows["cell"] == INCUMBENT, "hidden_size"]
        if widths.empty:
            return missing("not measured")
        unit = factor * float(widths.iloc[0])
        value, low, high, beyond = (
            None if each is None else each / unit for each in (found.value, found.low, found.high, found.beyond)
        )
        why = f"< {high:.2g}" if found.value is None and found.beyond is None and high is not None else found.why
        return Estimate(value, low, high, found.seeds, beyond, why)

    return quantity


def rate_kept(rows: pd.DataFrame) -> Estimate:
    """FLOP/s at the longest sequences over FLOP/s at the shortest."""
    times, counted = over_length(rows, "time"), flops(rows)
    if times is None or counted is None or len(times.lengths) < 2:
        return missing("not measured")
    rates = np.log(counted.values) - np.log(times.values)
    return seeds.geometric_mean(rates[:, -1] - rates[:, 0])


def length_exponent(rows: pd.DataFrame) -> Estimate:
    """d ln t / d ln T of a whole sequence from `UPPER` steps on."""
    times = over_length(rows, "time")
    if times is None:
        return missing("not measured")
    return scaling.exponent(Series(times.lengths, times.values * times.lengths), UPPER)


def newton_rounds(rows: pd.DataFrame) -> Estimate:
    """Mean over seeds at the most steps; beyond the limit where a seed had not converged."""
    rows = rows[rows["steps"] == rows["steps"].max()]
    found = rows[rows["metric"] == "rounds"]
    if found.empty:
        return missing("not measured")
    samples = found["samples"].iloc[0]
    if any(found["notes"]):
        return Estimate(None, low=float(samples.min()), seeds=len(samples), beyond=float(samples.max()))
    return seeds.mean(samples)


QUANTITIES: dict[str, Callable[[pd.DataFrame], Estimate]] = {
    "length_exponent": length_exponent,
    "rate_kept": rate_kept,
    "crossover_time": lambda rows: crossover(rows, "time"),
    "crossover_memory": lambda rows: crossover(rows, *MEMORY),
    "crossover_energy": lambda rows: crossover(rows, *ENERGY),
    "crossover_over_12d": _over(12, "time"),
    "crossover_over_6d": _over(6, "time"),
    "newton_rounds": newton_rounds,
}
WORDS = {
    "length_exponent": "d ln t / d ln T", "rate_kept": "FLOP/s kept", "crossover_time": "T*", "crossover_memory": "T*",
    "crossover_energy": "T*", "crossover_over_12d": "T* / 12 d", "crossover_over_6d": "T* / 6 d", "newton_rounds": "rounds",
}  # fmt: skip
UNITS = {"crossover_time": "steps", "crossover_memory": "steps", "crossover_energy": "steps"}
