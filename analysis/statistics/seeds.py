"""Estimates over seeds: a value, its 95 % interval, and what is known where there is no number. The seed is the unit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from analysis.statistics import CONFIDENCE

FEWEST_SEEDS = 3  # below that an interval says nothing
FEWEST_PAIRS = 5  # below that a correlation does not


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval, or what is known where there is no number.

    value: None where there is no number. low, high: bounds at 95 %. seeds: how many (or replicates) the interval is over.
    beyond: the value lies above this bound and is not known (censored); then `value` and `high` are None, `low` may be known.
    A value that lies below everything measured has `high` alone, beside a `low` of 0.
    why: for a reader, why there is no number, or what to know of one. measured: whether there was anything to estimate from.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    seeds: int = 0
    beyond: float | None = None
    why: str = ""
    measured: bool = True

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The interval a rule reads, a censored side taken as unbounded; None where there is no interval."""
        if self.low is None or (self.high is None and self.beyond is None):
            return None
        return self.low, float("inf") if self.high is None else self.high

    @property
    def reach(self) -> tuple[float, float]:
        """How far the interval reaches below and above the value, for a figure; 0 where it has no such bound."""
        assert self.value is not None
        return (
            0.0 if self.low is None else self.value - self.low,
            0.0 if self.high is None else self.high - self.value,
        )


NOT_MEASURED = Estimate(None, measured=False)
UNPAIRED = Estimate(None, why="not measured for both", measured=False)


def missing(why: str) -> Estimate:
    """No number, though something was measured."""
    return Estimate(None, why=why)


def too_few(count: int, noun: str, purpose: str) -> Estimate:
    """No number, because there are too few of something: `2 seeds: too few for an interval`."""
    return missing(f"{count} {noun}{'' if count == 1 else 's'}: too few {purpose}")


def within_unit(found: Estimate) -> Estimate:
    """Of a share: its t-interval cut at 0 and 1."""
    if found.low is None or found.high is None:
        return found
    return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))


def exact(value: float, seeds: int = 1) -> Estimate:
    """Counted or found, not estimated: its own interval."""
    return Estimate(float(value), float(value), float(value), seeds)


def scaled(found: Estimate, factor: float) -> Estimate:
    """The estimate times a positive factor."""
    value, low, high, beyond = (
        None if each is None else each * factor for each in (found.value, found.low, found.high, found.beyond)
    )
    return replace(found, value=value, low=low, high=high, beyond=beyond)


def mean(values: np.ndarray) -> Estimate:
    """The mean of one value a seed with its t-interval; none where a seed has no number, for the others are no fair sample."""
    without = int((~np.isfinite(values)).sum())
    if without:
        return missing(f"{without} of {len(values)} seeds without a number")
    if len(values) < FEWEST_SEEDS:
        return too_few(len(values), "seed", "for an interval")
    middle = float(values.mean())
    half = half_width(values[:, None])[0]
    return Estimate(middle, middle - half, middle + half, len(values))


def geometric_mean(logs: np.ndarray) -> Estimate:
    """exp of the mean of logarithms."""
    found = mean(logs)
    if found.value is None or found.low is None or found.high is None:
        return found
    return Estimate(float(np.exp(found.value)), float(np.exp(found.low)), float(np.exp(found.high)), found.seeds)


def half_width(values: np.ndarray) -> np.ndarray:
    """Half the t-interval of the mean over the first axis (seeds)."""
    count = len(values)
    quantile = float(stats.t.ppf(0.5 + CONFIDENCE / 2, count - 1))
    return quantile * values.std(axis=0, ddof=1) / np.sqrt(count)


def half_width_drawn(values: np.ndarray) -> np.ndarray:
    """As `half_width`, for a figure: 0 for a single seed, which is drawn without an interval."""
    return half_width(values) if len(values) > 1 else np.zeros(values.shape[1:])


def by_seed(samples: np.ndarray, blocks: tuple[int, ...]) -> list[np.ndarray]:
    """A measurement's samples cut at its blocks: one array a seed, perhaps shorter than the others'."""
    if not blocks or sum(blocks) != len(samples):
        return [samples]
    return np.split(samples, np.cumsum(blocks)[:-1])


def metric(rows: pd.DataFrame, name: str) -> list[np.ndarray]:
    """The seeds of the last row of a metric, the newest run's; none where it was not measured."""
    found = rows[rows["metric"] == name]
    return [] if found.empty else by_seed(found["samples"].iloc[-1], found["blocks"].iloc[-1])


def first(rows: pd.DataFrame, name: str) -> Estimate:
    """Of each seed's first value of a metric."""
    found = metric(rows, name)
    return mean(np.array([own[0] if len(own) else np.nan for own in found])) if found else NOT_MEASURED


def of_first(rows: pd.DataFrame, name: str) -> np.ndarray:
    """Each seed's first value of a metric, [S]."""
    found = together(metric(rows, name))
    return found[:, 0] if found.size else np.empty(0)


def less(one: np.ndarray, other: np.ndarray) -> Estimate:
    """The mean of one less the other, the k-th seeds of the two a pair."""
    count = min(len(one), len(other))
    return mean(one[:count] - other[:count]) if count else UNPAIRED


def share(hits: np.ndarray) -> Estimate:
    """The share of seeds for which something is true, with Wilson's interval (1927)."""
    if len(hits) < FEWEST_SEEDS:
        return too_few(len(hits), "seed", "for an interval")
    found = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(CONFIDENCE, "wilson")
    return Estimate(float(hits.mean()), float(found.low), float(found.high), len(hits))


def together(seeds: list[np.ndarray]) -> np.ndarray:
    """[S, K] with the K that all seeds have: none where one has no value, for a seed left out would not be missed."""
    shortest = min((len(values) for values in seeds), default=0)
    return np.array([values[:shortest] for values in seeds]).reshape(len(seeds), shortest)


def spearman(known: np.ndarray) -> tuple[float, float, float]:
    """Spearman's ρ of pairs [N, 2] and its 95 % interval (Bonett & Wright 2000, equation 4)."""
    value = float(np.corrcoef(stats.rankdata(known, axis=0).T)[0, 1])
    half = float(stats.norm.ppf(0.5 + CONFIDENCE / 2)) * np.sqrt((1 + value**2 / 2) / (len(known) - 3))
    middle = np.arctanh(np.clip(value, -1 + 1e-12, 1 - 1e-12))
    return value, float(np.tanh(middle - half)), float(np.tanh(middle + half))


def by_cell(rows: pd.DataFrame, name: str) -> dict[str, np.ndarray]:
    """A metric's values by cell, [S, K] each."""
    found = {str(cell): together(metric(part, name)) for cell, part in rows.groupby("cell", sort=False)}
    return {cell: values for cell, values in found.items() if values.size}
