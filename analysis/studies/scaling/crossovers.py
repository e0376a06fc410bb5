"""Costs over length or another size: local exponents, fits t ~ a + bT + cT², and where one series overtakes another.

A replicate is one fresh process; it is the unit of every interval. What lies outside the lengths that were measured is a
bound and never a number, and a length that did not fit in memory bounds the lengths that count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize, stats

from analysis.statistics import CONFIDENCE
from analysis.statistics.seeds import Estimate, mean, missing, too_few

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
        return too_few(len(lengths), "length", "for a slope")
    x = np.log(lengths) - np.log(lengths).mean()
    return mean(series.at(lengths) @ x / (x @ x))


def fit(series: Series) -> Fit:
    """The coefficients of t = a + bT + cT², in each replicate, and their intervals."""
    if len(series.lengths) < FEWEST_LENGTHS:
        none = too_few(len(series.lengths), "length", "for three coefficients")
        return Fit(none, none, none)
    return Fit(*(_within(mean(column), 0.0) for column in coefficients(series).T))


def quadratic_share(series: Series) -> Estimate:
    """cT² over a + bT + cT² at the longest length, between 0 and 1."""
    if len(series.lengths) <= FEWEST_LENGTHS:
        return too_few(len(series.lengths), "length", "to tell a square from a line")
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


def crossover(first: Series, second: Series, confidence: float = CONFIDENCE) -> Estimate:
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
        return too_few(replicates, "replicate", "for an interval")
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
        return Estimate(None, low=0.0, high=shortest, seeds=count)
    bounded = 0.0 if low < shortest else low
    if high > longest:
        inside = value if shortest <= value <= longest else None
        return Estimate(inside, bounded, None, count, beyond=longest)
    if value < shortest:
        return Estimate(None, bounded, high, count)
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
