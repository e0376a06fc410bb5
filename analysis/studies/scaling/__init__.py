"""Study `scaling`: time, memory and operations over length and sizes, and Newton's rounds; what its claims are judged by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from analysis.statistics import seeds
from analysis.statistics.quantities import Quantity
from analysis.statistics.ratios import aggregate
from analysis.statistics.seeds import FEWEST_PAIRS, NOT_MEASURED, Estimate, exact, missing, spearman, too_few
from analysis.studies.scaling.crossovers import Series, crossover, exponent, quadratic_share

# Crossovers that need no clock: where operations and bytes, by the closed forms in the records, overtake one another.
#
# Counts are whole numbers, so nothing is estimated: where a crossover lies it is its own interval.

CHALLENGER, INCUMBENT = "lstm_stack", "transformer"


def per_token(rows: pd.DataFrame) -> Series | None:
    """Operations a token at each length that was timed."""
    found = rows[rows["metric"] == "time"].drop_duplicates("steps").sort_values("steps")
    if found.empty:
        return None
    return Series(found["steps"].to_numpy(float), (found["count_flops"] / found["count_tokens"]).to_numpy(float)[None])


def crossover_operations(rows: pd.DataFrame) -> Estimate:
    """The length from which an LSTM's token takes fewer operations than a Transformer's; a bound outside the lengths both have.

    Operations a token are straight in T on either side (attention's context is), so the line between two lengths is exact.
    """
    first, second = (per_token(rows[rows["cell"] == cell]) for cell in (CHALLENGER, INCUMBENT))
    if first is None or second is None:
        return NOT_MEASURED
    lengths = np.intersect1d(first.lengths, second.lengths)
    if not len(lengths):
        return missing("no length that both have")
    more = (np.exp(first.at(lengths)) - np.exp(second.at(lengths)))[0]
    if more[-1] > 0:
        return Estimate(None, low=float(lengths[-1]), seeds=1, beyond=float(lengths[-1]))
    above = np.flatnonzero(more > 0)
    if not len(above):
        return Estimate(None, low=0.0, high=float(lengths[0]), seeds=1)
    left = int(above[-1])
    share = more[left] / (more[left] - more[left + 1])
    return exact(float(lengths[left] + share * (lengths[left + 1] - lengths[left])))


def attention_equals_rest(rows: pd.DataFrame) -> Estimate:
    """The length at which a Transformer's products with its context take as many operations a token as its weights do.

    For a feed-forward of 4d and no projection of the input: 12 d as the mean over causal training or prefill, 6 d in decode
    (Kaplan et al. 2020, table 1: 2·n·d against 24·d² operations a layer).
    """
    found = per_token(rows[rows["cell"] == INCUMBENT])
    if found is None or len(found.lengths) < 2:
        return NOT_MEASURED
    (first, last), (short, long) = found.lengths[[0, -1]], found.values[0, [0, -1]]
    slope = (long - short) / (last - first)
    return exact(float((short - slope * first) / slope))


def cache_equals_weights(rows: pd.DataFrame) -> Estimate:
    """Tokens of all streams together at which keys and values take as many bytes as the weights: 6 d, hence 6 d/B each."""
    found = _of_decode(rows, INCUMBENT)
    return NOT_MEASURED if found is None else exact(found["count_parameter_bytes"] / _bytes_a_token(found))


def cache_passes_state(rows: pd.DataFrame) -> Estimate:
    """Tokens at which one stream's keys and values take as many bytes as an LSTM's state: H/d, which at as many parameters,
    8 H² and 12 d², is √1.5."""
    state, cache = _of_decode(rows, CHALLENGER), _of_decode(rows, INCUMBENT)
    if state is None or cache is None:
        return NOT_MEASURED
    return exact(state["count_state_bytes"] / state["batch"] / _bytes_a_token(cache))


def _of_decode(rows: pd.DataFrame, cell: str) -> pd.Series | None:
    found = rows[(rows["cell"] == cell) & (rows["phase"] == "step")]
    return None if found.empty else found.iloc[0]


def _bytes_a_token(found: pd.Series) -> float:
    return float(found["count_state_bytes"]) / float(found["batch"] * found["steps"])


def _over_operations(factor: int, of: Callable[[pd.DataFrame], Estimate]) -> Callable[[pd.DataFrame], Estimate]:
    """As a multiple of factor · d, d the Transformer's width."""

    def quantity(rows: pd.DataFrame) -> Estimate:
        found = of(rows)
        if found.value is None:
            return found
        return exact(found.value / (factor * float(rows.loc[rows["cell"] == INCUMBENT, "hidden_size"].iloc[0])))

    return quantity


# From records to costs over length, and the numbers that the study `scaling` is judged by.

MEMORY = ("device_peak", "rss_peak")
ENERGY = ("energy",)
UPPER = 256  # lengths from which on a power is fitted: below, what a call costs however short weighs in


def over_length(rows: pd.DataFrame, *metrics: str) -> Series | None:
    """The first of the metrics that is there, per token, at each length; a replicate counts by the median of its samples.

    A length that some replicate lacks stays as NaN there.
    """
    for metric in metrics:
        found = rows[rows["metric"] == metric]
        if found.empty:
            continue
        values = [aggregate(samples, "median") for samples in found["samples"]]
        table = found.assign(value=np.array(values) / found["count_tokens"])
        table = table.pivot_table(index="replicate_key", columns="steps", values="value")
        return Series(table.columns.to_numpy(float), table.to_numpy(float))
    return None


def crossover_of(rows: pd.DataFrame, metrics: Sequence[str]) -> Estimate:
    """From which length the LSTM costs less than the Transformer. One replicate gives no interval, and so no number."""
    sides = [over_length(rows[rows["cell"] == cell], *metrics) for cell in (CHALLENGER, INCUMBENT)]
    first, second = sides
    if first is None or second is None:
        return NOT_MEASURED
    return crossover(first, second)


def _over_lengths(factor: float, *metrics: str) -> Callable[[pd.DataFrame], Estimate]:
    """The crossover as a multiple of factor · d, d the Transformer's width."""

    def quantity(rows: pd.DataFrame) -> Estimate:
        found = crossover_of(rows, metrics)
        widths = rows.loc[rows["cell"] == INCUMBENT, "hidden_size"]
        if widths.empty:
            return NOT_MEASURED
        return seeds.scaled(found, 1 / (factor * float(widths.iloc[0])))

    return quantity


def rate_kept(rows: pd.DataFrame) -> Estimate:
    """FLOP/s at the longest sequences over FLOP/s at the shortest."""
    times, counted = over_length(rows, "time"), per_token(rows)
    if times is None or counted is None or len(times.lengths) < 2:
        return NOT_MEASURED
    rates = np.log(counted.values) - np.log(times.values)
    return seeds.geometric_mean(rates[:, -1] - rates[:, 0])


def of_sequence(rows: pd.DataFrame) -> Series | None:
    """Seconds of one whole sequence at each length, alone in its batch or at the price it has in it."""
    times = over_length(rows, "time")
    return None if times is None else Series(times.lengths, times.values * times.lengths)


def length_exponent(rows: pd.DataFrame) -> Estimate:
    """d ln t / d ln T of a whole sequence from `UPPER` steps on."""
    times = of_sequence(rows)
    return NOT_MEASURED if times is None else exponent(times, UPPER)


def quadratic_term_share(rows: pd.DataFrame) -> Estimate:
    """The share of cT² in the fit t = a + bT + cT² of a whole sequence, at the longest."""
    times = of_sequence(rows)
    return NOT_MEASURED if times is None else quadratic_share(times)


# How the time of a training step grows with width, depth and batch: exponents over three values and more of one of them.

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
    table = found.assign(value=[aggregate(samples, "median") for samples in found["samples"]])
    table = table.pivot_table(index="replicate_key", columns=column, values="value")
    return Series(table.columns.to_numpy(float), table.to_numpy(float))


def _exponent(column: str) -> Callable[[pd.DataFrame], Estimate]:
    def quantity(rows: pd.DataFrame) -> Estimate:
        found = over(rows, column)
        return NOT_MEASURED if found is None else exponent(found)

    return quantity


# Rounds of Newton's method on an LSTM, and how they go with its largest Lyapunov exponent.


@dataclass(frozen=True, slots=True)
class Start:
    """One initialisation: its means over seeds. rounds: where a seed did not converge, of the limit it reached."""

    init: str
    exponent: float
    rounds: float


def longest(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["steps"] == rows["steps"].max()]


def newton_rounds(rows: pd.DataFrame) -> Estimate:
    """Mean over seeds at the most steps; beyond the limit where a seed had not converged."""
    rows = longest(rows)
    found = rows[rows["metric"] == "rounds"]
    if found.empty:
        return NOT_MEASURED
    samples = found["samples"].iloc[0]
    if any(found["notes"]):
        return Estimate(None, low=float(samples.min()), seeds=len(samples), beyond=float(samples.max()))
    return seeds.mean(samples)


def newton_starts(rows: pd.DataFrame) -> list[Start]:
    """By initialisation, at the most steps, in the order of their exponents."""
    found = []
    for init, part in longest(rows).groupby("init", sort=False):
        samples = part.set_index("metric")["samples"]
        if {"rounds", "lyapunov"} <= set(samples.index):
            found.append(Start(str(init), float(np.mean(samples["lyapunov"])), float(np.mean(samples["rounds"]))))
    return sorted(found, key=lambda start: start.exponent)


def newton_rank_correlation(rows: pd.DataFrame) -> Estimate:
    """Spearman's ρ of rounds and of how near the exponent is to zero, over initialisations, with its interval."""
    known = np.array([(start.rounds, -abs(start.exponent)) for start in newton_starts(rows)]).reshape(-1, 2)
    if len(known) < FEWEST_PAIRS:
        return too_few(len(known), "initialisation", "for a correlation")
    if (np.ptp(known, axis=0) == 0).any():
        return missing("all of them equal: nothing to rank")
    value, low, high = spearman(known)
    return Estimate(value, low, high, len(known))


QUANTITIES = {
    "length_exponent": Quantity(length_exponent, "scaling exponent of time over T", compares_cases=True),
    "quadratic_share": Quantity(quadratic_term_share, "share of cT²", compares_cases=True),
    "rate_kept": Quantity(rate_kept, "FLOP/s at the longest over the shortest", compares_cases=True),
    "crossover_time": Quantity(partial(crossover_of, metrics=("time",)), "crossover T*", "steps", compares_cases=True),
    "crossover_memory": Quantity(partial(crossover_of, metrics=MEMORY), "crossover T*", "steps", compares_cases=True),
    "crossover_energy": Quantity(partial(crossover_of, metrics=ENERGY), "crossover T*", "steps", compares_cases=True),
    "crossover_over_12d": Quantity(_over_lengths(12, "time"), "T* in units of 12 d", compares_cases=True),
    "crossover_over_6d": Quantity(_over_lengths(6, "time"), "T* in units of 6 d", compares_cases=True),
    "crossover_flops": Quantity(crossover_operations, "crossover T*", "steps", compares_cases=True),
    "attention_equals_rest": Quantity(attention_equals_rest, "T", "steps", compares_cases=True),
    "attention_over_12d": Quantity(_over_operations(12, attention_equals_rest), "T in units of 12 d", compares_cases=True),
    "attention_over_6d": Quantity(_over_operations(6, attention_equals_rest), "T in units of 6 d", compares_cases=True),
    "cache_equals_weights": Quantity(cache_equals_weights, "T·B", "steps", compares_cases=True),
    "cache_over_6d": Quantity(_over_operations(6, cache_equals_weights), "T·B in units of 6 d", compares_cases=True),
    "cache_passes_state": Quantity(cache_passes_state, "tokens", compares_cases=True),
    "width_exponent": Quantity(_exponent("hidden_size"), "scaling exponent of time over width", compares_cases=True),
    "depth_exponent": Quantity(_exponent("num_layers"), "scaling exponent of time over L", compares_cases=True),
    "batch_exponent": Quantity(_exponent("batch"), "scaling exponent of time over B", compares_cases=True),
    "newton_rounds": Quantity(newton_rounds, "rounds", compares_cases=True),
    "newton_rank_correlation": Quantity(newton_rank_correlation, "ρ of rounds and −|λ₁|", compares_cases=True),
}
