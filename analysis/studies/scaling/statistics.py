"""Time, memory and operations over length and sizes: exponents and crossovers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import optimize, stats

from analysis.statistics import CONFIDENCE, seeds
from analysis.statistics.ratios import locate
from analysis.statistics.seeds import Estimate, mean, missing

# Cost against length: local exponents, fits t ~ a + bT + cT², and the length at which one series overtakes another.
#
# A replicate is one fresh process; it is the unit of every interval. What lies outside the lengths that were measured is a
# bound and never a number, and a length that did not fit in memory bounds the lengths that count.

FEWEST_REPLICATES = 2
FEWEST_LENGTHS = 3


@dataclass(frozen=True, slots=True)
class Series:
    """A cost at each length, or over another size: `values` [R, K] of R replicates at K rising `lengths`, positive, NaN where
    one is missing.

    A length at which a series has no value, out of memory perhaps, is not among its lengths.
    """

    lengths: np.ndarray
    values: np.ndarray

    def at(self, lengths: np.ndarray) -> np.ndarray:
        """Logarithms of the values at some of its lengths, [R, k]."""
        return np.log(self.values[:, np.isin(self.lengths, lengths)])

    def locations(self) -> np.ndarray:
        """The geometric mean over replicates at each length."""
        return np.exp(np.nanmean(np.log(self.values), axis=0))


@dataclass(frozen=True, slots=True)
class Fit:
    """t = a + bT + cT², none of them below zero, each with its interval over replicates."""

    a: Estimate
    b: Estimate
    c: Estimate


def exponents(series: Series) -> np.ndarray:
    """d ln t / d ln T between neighbouring lengths, [R, K − 1]."""
    return np.diff(np.log(series.values), axis=1) / np.diff(np.log(series.lengths))


def exponent(series: Series, least: float = 0.0) -> Estimate:
    """The slope of ln t over ln T at lengths of at least `least`, by least squares in each replicate."""
    lengths = series.lengths[series.lengths >= least]
    if len(lengths) < FEWEST_LENGTHS:
        return missing(f"{len(lengths)} lengths: too few for a slope")
    x = np.log(lengths) - np.log(lengths).mean()
    return mean(series.at(lengths) @ x / (x @ x))


def fit(series: Series) -> Fit:
    """The coefficients of t = a + bT + cT², in each replicate, and their intervals."""
    if len(series.lengths) < FEWEST_LENGTHS:
        none = missing(f"{len(series.lengths)} lengths: too few for three coefficients")
        return Fit(none, none, none)
    return Fit(*(_within(mean(column), 0.0) for column in coefficients(series).T))


def quadratic_share_scaling(series: Series) -> Estimate:
    """cT² over a + bT + cT² at the longest length, between 0 and 1."""
    if len(series.lengths) <= FEWEST_LENGTHS:
        return missing(f"{len(series.lengths)} lengths: too few to tell a square from a line")
    terms = coefficients(series) * series.lengths.max() ** np.arange(3)
    return _within(mean(terms[:, 2] / terms.sum(1)), 0.0, 1.0)


def coefficients(series: Series) -> np.ndarray:
    """a, b and c of each replicate that has every length, [R, 3]: non-negative least squares of the relative residuals
    (Lawson & Hanson 1974)."""
    unit = series.lengths.max()
    powers = (series.lengths[:, None] / unit) ** np.arange(3)
    found = []
    for values in series.values[np.isfinite(series.values).all(1)]:
        found.append(optimize.nnls(powers / values[:, None], np.ones(len(values)))[0] / unit ** np.arange(3))
    return np.array(found).reshape(-1, 3)


def _within(found: Estimate, low: float, high: float = float("inf")) -> Estimate:
    """What is known to lie between two bounds has an interval that does."""
    if found.low is None or found.high is None:
        return found
    return replace(found, low=max(found.low, low), high=min(found.high, high))


def crossover_scaling(first: Series, second: Series, confidence: float = CONFIDENCE) -> Estimate:
    """The length from which `first` costs less than `second`, with its interval.

    D(T) = ln first − ln second, mean over replicates, straight in ln T between lengths; T* is where it falls through zero. The
    interval holds the lengths at which D = 0 is not rejected: where the t-band about D, its deviation pooled over lengths,
    includes zero (Fieller's way, length by length), and what a bend between two lengths may add (see `_fall`). `first` dearer
    throughout: above the longest length both have; cheaper throughout: below the shortest. Neither is extrapolated.
    """
    lengths = np.intersect1d(first.lengths, second.lengths)
    replicates = min(len(first.values), len(second.values))
    if len(lengths) < 2:
        return missing("fewer than two lengths that both have")
    if replicates < FEWEST_REPLICATES:
        return missing(f"{replicates} replicates: too few for an interval")
    differences = first.at(lengths)[:replicates] - second.at(lengths)[:replicates]
    differences = differences[np.isfinite(differences).all(1)]
    if len(differences) < FEWEST_REPLICATES:
        return missing("fewer than two replicates have every length")
    middle, half = _band(differences, confidence)
    return _crossing(lengths.astype(float), middle, half, len(differences))


def _band(differences: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean [K] and half-width of its t-interval, from the deviation pooled over lengths."""
    count, places = differences.shape
    deviation = np.sqrt(differences.var(axis=0, ddof=1).mean())
    quantile = float(stats.t.ppf(0.5 + confidence / 2, places * (count - 1)))
    return differences.mean(0), np.full(places, quantile * deviation / np.sqrt(count))


def _crossing(lengths: np.ndarray, middle: np.ndarray, half: np.ndarray, count: int) -> Estimate:
    shortest, longest = float(lengths[0]), float(lengths[-1])
    low, high = min(_fall(lengths, middle - half)), max(_fall(lengths, middle + half))
    value = _fall(lengths, middle)[0]
    if low > longest:  # dearer throughout, and surely so
        return Estimate(None, low=longest, seeds=count, beyond=longest)
    if high < shortest:  # cheaper throughout
        return Estimate(None, low=0.0, high=shortest, seeds=count, why=f"< {shortest:.0f}")
    bounded = 0.0 if low < shortest else low
    if high > longest:
        inside = value if shortest <= value <= longest else None
        return Estimate(inside, bounded, None, count, beyond=longest)
    if value < shortest:
        return Estimate(None, bounded, high, count, why=f"< {high:.0f}")
    return Estimate(value, bounded, high, count)


def _fall(lengths: np.ndarray, curve: np.ndarray) -> tuple[float, ...]:
    """Where the curve falls through zero for the last time: on its chord, and how far off a bend between the two lengths may
    put it. (−inf,) where it is below throughout, (inf,) where it ends above.

    A curve that bends one way lies, between two lengths, on one side of their chord and on the other side of its neighbours
    extended; so its zero lies between theirs. Where there is no neighbour nothing is known but the two lengths.
    """
    if curve[-1] > 0:
        return (float("inf"),)
    above = np.flatnonzero(curve > 0)
    if not len(above):
        return (float("-inf"),)
    left, places = int(above[-1]), np.log(lengths)
    bracket = places[left], places[left + 1]
    zeros = [_zero(places, curve, left)]
    for neighbour in (left - 1, left + 1):
        if 0 <= neighbour < len(places) - 1:
            falls = curve[neighbour] > curve[neighbour + 1]
            # A neighbour that does not fall never meets zero in the bracket: the curve clings to its own end of it.
            end = bracket[1] if neighbour < left else bracket[0]
            zeros.append(float(np.clip(_zero(places, curve, neighbour), *bracket)) if falls else end)
        else:
            zeros += bracket
    return tuple(float(np.exp(zero)) for zero in zeros)


def _zero(places: np.ndarray, curve: np.ndarray, left: int) -> float:
    """Where the chord from `left` on, extended, meets zero."""
    share = curve[left] / (curve[left] - curve[left + 1])
    return float(places[left] + share * (places[left + 1] - places[left]))


# Crossovers that need no clock: where operations and bytes, by the closed forms in the records, overtake one another.
#
# Counts are whole numbers, so nothing is estimated: where a crossover lies it is its own interval.

CHALLENGER, INCUMBENT = "lstm_stack", "transformer"
NOT_MEASURED = missing("not measured")


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
        return Estimate(None, low=0.0, high=float(lengths[0]), seeds=1, why=f"< {lengths[0]:.0f}")
    left = int(above[-1])
    share = more[left] / (more[left] - more[left + 1])
    return _exactly(float(lengths[left] + share * (lengths[left + 1] - lengths[left])))


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
    return _exactly(float((short - slope * first) / slope))


def cache_equals_weights(rows: pd.DataFrame) -> Estimate:
    """Tokens of all streams together at which keys and values take as many bytes as the weights: 6 d, hence 6 d/B each."""
    found = _of_decode(rows, INCUMBENT)
    return NOT_MEASURED if found is None else _exactly(found["count_parameter_bytes"] / _bytes_a_token(found))


def cache_passes_state(rows: pd.DataFrame) -> Estimate:
    """Tokens at which one stream's keys and values take as many bytes as an LSTM's state: H/d, which at as many parameters,
    8 H² and 12 d², is √1.5."""
    state, cache = _of_decode(rows, CHALLENGER), _of_decode(rows, INCUMBENT)
    if state is None or cache is None:
        return NOT_MEASURED
    return _exactly(state["count_state_bytes"] / state["batch"] / _bytes_a_token(cache))


def _of_decode(rows: pd.DataFrame, cell: str) -> pd.Series | None:
    found = rows[(rows["cell"] == cell) & (rows["phase"] == "step")]
    return None if found.empty else found.iloc[0]


def _bytes_a_token(found: pd.Series) -> float:
    return float(found["count_state_bytes"]) / float(found["batch"] * found["steps"])


def _exactly(value: float) -> Estimate:
    return Estimate(float(value), float(value), float(value), 1)


def _over_operations(factor: int, of: Callable[[pd.DataFrame], Estimate]) -> Callable[[pd.DataFrame], Estimate]:
    """As a multiple of factor · d, d the Transformer's width."""

    def quantity(rows: pd.DataFrame) -> Estimate:
        found = of(rows)
        if found.value is None:
            return found
        return _exactly(found.value / (factor * float(rows.loc[rows["cell"] == INCUMBENT, "hidden_size"].iloc[0])))

    return quantity


QUANTITIES_OPERATIONS: dict[str, Callable[[pd.DataFrame], Estimate]] = {
    "crossover_flops": crossover_operations,
    "attention_equals_rest": attention_equals_rest,
    "attention_over_12d": _over_operations(12, attention_equals_rest),
    "attention_over_6d": _over_operations(6, attention_equals_rest),
    "cache_equals_weights": cache_equals_weights,
    "cache_over_6d": _over_operations(6, cache_equals_weights),
    "cache_passes_state": cache_passes_state,
}
WORDS_OPERATIONS = {
    "crossover_flops": "T*", "attention_equals_rest": "T", "attention_over_12d": "T / 12 d", "attention_over_6d": "T / 6 d",
    "cache_equals_weights": "T·B", "cache_over_6d": "T·B / 6 d", "cache_passes_state": "tokens",
}  # fmt: skip
UNITS_OPERATIONS = {"crossover_flops": "steps", "attention_equals_rest": "steps", "cache_equals_weights": "steps"}


# From records to costs over length, and the numbers that the study `scaling` is judged by.

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


def crossover_lengths(rows: pd.DataFrame, *metrics: str) -> Estimate:
    """From which length the LSTM costs less than the Transformer. One replicate gives no interval, and so no number."""
    sides = [over_length(rows[rows["cell"] == cell], *metrics) for cell in (CHALLENGER, INCUMBENT)]
    first, second = sides
    if first is None or second is None:
        return missing("not measured")
    return crossover_scaling(first, second)


def _over_lengths(factor: float, *metrics: str) -> Callable[[pd.DataFrame], Estimate]:
    """The crossover as a multiple of factor · d, d the Transformer's width."""

    def quantity(rows: pd.DataFrame) -> Estimate:
        found = crossover_lengths(rows, *metrics)
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
    times, counted = over_length(rows, "time"), per_token(rows)
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
    return missing("not measured") if times is None else exponent(times, UPPER)


def quadratic_share_lengths(rows: pd.DataFrame) -> Estimate:
    """The share of cT² in the fit t = a + bT + cT² of a whole sequence, at the longest."""
    times = of_sequence(rows)
    return missing("not measured") if times is None else quadratic_share_scaling(times)


QUANTITIES_LENGTHS: dict[str, Callable[[pd.DataFrame], Estimate]] = {
    "length_exponent": length_exponent,
    "quadratic_share": quadratic_share_lengths,
    "rate_kept": rate_kept,
    "crossover_time": lambda rows: crossover_lengths(rows, "time"),
    "crossover_memory": lambda rows: crossover_lengths(rows, *MEMORY),
    "crossover_energy": lambda rows: crossover_lengths(rows, *ENERGY),
    "crossover_over_12d": _over_lengths(12, "time"),
    "crossover_over_6d": _over_lengths(6, "time"),
}
WORDS_LENGTHS = {
    "length_exponent": "d ln t / d ln T", "quadratic_share": "share of cT²", "rate_kept": "FLOP/s kept",
    "crossover_time": "T*", "crossover_memory": "T*", "crossover_energy": "T*",
    "crossover_over_12d": "T* / 12 d", "crossover_over_6d": "T* / 6 d",
}  # fmt: skip
UNITS_LENGTHS = {"crossover_time": "steps", "crossover_memory": "steps", "crossover_energy": "steps"}


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
    table = found.assign(value=[locate(samples, "median") for samples in found["samples"]])
    table = table.pivot_table(index="replicate_key", columns=column, values="value")
    return Series(table.columns.to_numpy(float), table.to_numpy(float))


def _exponent(column: str) -> Callable[[pd.DataFrame], Estimate]:
    def quantity(rows: pd.DataFrame) -> Estimate:
        found = over(rows, column)
        return missing("not measured") if found is None else exponent(found)

    return quantity


QUANTITIES_SIZES: dict[str, Callable[[pd.DataFrame], Estimate]] = {
    "width_exponent": _exponent("hidden_size"),
    "depth_exponent": _exponent("num_layers"),
    "batch_exponent": _exponent("batch"),
}
WORDS_SIZES = {
    "width_exponent": "d ln t / d ln width",
    "depth_exponent": "d ln t / d ln L",
    "batch_exponent": "d ln t / d ln B",
}
