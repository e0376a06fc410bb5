"""From records to costs over length, and the numbers that the study `scaling` is judged by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from analysis.statistics import seeds
from analysis.statistics.ratios import locate
from analysis.statistics.seeds import Estimate, missing
from analysis.studies.scaling import operations, scaling
from analysis.studies.scaling.operations import CHALLENGER, INCUMBENT
from analysis.studies.scaling.scaling import Series

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


def crossover(rows: pd.DataFrame, *metrics: str) -> Estimate:
    """From which length the LSTM costs less than the Transformer. One replicate gives no interval, and so no number."""
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
    times, counted = over_length(rows, "time"), operations.per_token(rows)
    if times is None or counted is None or len(times.lengths) < 2:
        return missing("not measured")
    rates = np.log(counted.values) - np.log(times.values)
    return seeds.geometric_mean(rates[:, -1] - rates[:, 0])


def of_sequence(rows: pd.DataFrame) -> Series | None:
    """Seconds of one whole sequence at each length, alone in its batch or at the price it has in it."""
    times = over_length(rows, "time")
    return None if times is None else Series(times.lengths, times.values * times.lengths)


def length_exponent(rows: pd.DataFrame) -> Estimate:
    """d ln t / d ln T of a whole sequence from `UPPER` steps on."""
    times = of_sequence(rows)
    return missing("not measured") if times is None else scaling.exponent(times, UPPER)


def quadratic_share(rows: pd.DataFrame) -> Estimate:
    """The share of cT² in the fit t = a + bT + cT² of a whole sequence, at the longest."""
    times = of_sequence(rows)
    return missing("not measured") if times is None else scaling.quadratic_share(times)


QUANTITIES: dict[str, Callable[[pd.DataFrame], Estimate]] = {
    "length_exponent": length_exponent,
    "quadratic_share": quadratic_share,
    "rate_kept": rate_kept,
    "crossover_time": lambda rows: crossover(rows, "time"),
    "crossover_memory": lambda rows: crossover(rows, *MEMORY),
    "crossover_energy": lambda rows: crossover(rows, *ENERGY),
    "crossover_over_12d": _over(12, "time"),
    "crossover_over_6d": _over(6, "time"),
}
WORDS = {
    "length_exponent": "d ln t / d ln T", "quadratic_share": "share of cT²", "rate_kept": "FLOP/s kept",
    "crossover_time": "T*", "crossover_memory": "T*", "crossover_energy": "T*",
    "crossover_over_12d": "T* / 12 d", "crossover_over_6d": "T* / 6 d",
}  # fmt: skip
UNITS = {"crossover_time": "steps", "crossover_memory": "steps", "crossover_energy": "steps"}
