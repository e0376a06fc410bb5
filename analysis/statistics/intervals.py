"""Intervals of a mean: Student's and Welch's t, the bootstrap, and how far a spread may lie above what few values show."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy import stats

RESAMPLES = 2000
SPREAD_ALPHA = 0.05


def bounds(values: np.ndarray, alpha: float) -> tuple[float, float, float]:
    """Mean, and Student's bounds each of which is wrong with probability `alpha`."""
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    reach = quantile(alpha, len(values) - 1) * error
    return mean, mean - reach, mean + reach


def bootstrap_bounds(values: np.ndarray, alpha: float) -> tuple[float, float]:
    """The same bounds by the bias-corrected and accelerated bootstrap (Efron 1987); its draws are fixed by seed."""
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    interval = stats.bootstrap(
        (values,), np.mean, confidence_level=1 - 2 * alpha, n_resamples=RESAMPLES, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    return float(interval.low), float(interval.high)


def welch(base: np.ndarray, new: np.ndarray) -> tuple[float, float, float]:
    """Difference of two means, its standard error and degrees of freedom (Welch 1947; Satterthwaite 1946)."""
    parts = [float(values.var(ddof=1)) / len(values) for values in (base, new)]
    squares = sum(part**2 / (len(values) - 1) for part, values in zip(parts, (base, new), strict=True))
    least = min(len(base), len(new)) - 1
    degrees = sum(parts) ** 2 / squares if squares > 0 else float(least)
    return float(new.mean() - base.mean()), math.sqrt(sum(parts)), degrees


@lru_cache(maxsize=4096)
def quantile(alpha: float, degrees: float) -> float:
    """Of Student's t, exceeded with probability `alpha`."""
    return float(stats.t.ppf(1 - alpha, degrees))


@lru_cache(maxsize=4096)
def spread_limit(degrees: float, alpha: float = SPREAD_ALPHA) -> float:
    """The factor by which a standard deviation may lie above the one that was seen: its upper limit by chi-square."""
    return math.sqrt(degrees / float(stats.chi2.ppf(alpha, degrees)))
