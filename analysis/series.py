"""One series of samples: its median with an interval that assumes no distribution, and whether it has two modes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

# Ashman's D of the two halves of a uniform distribution, the widest that still has one mode, is at most 3.5 (with standard
# deviations) and of a normal 2.7; 5 leaves a visible valley. Simulated in tests/analysis/test_series.py.
SEPARATION = 5.0
SMALLEST_SHARE = 0.1
FEWEST_SAMPLES = 20
FINEST_RELATIVE_WIDTH = 1e-3  # narrower than what a clock resolves: keeps two constant values from dividing by nothing


@dataclass(frozen=True, slots=True)
class Modes:
    """Two modes: their medians and the share of samples in the upper one."""

    lower: float
    upper: float
    upper_share: float


def median_interval(samples: np.ndarray, confidence: float = 0.95) -> tuple[float, float | None, float | None]:
    """Median with the narrowest symmetric pair of order statistics that covers it; None below 6 samples.

    Source: Conover, Practical Nonparametric Statistics, 3rd ed., §3.2 (binomial interval for a quantile).
    """
    ordered = np.sort(samples)
    count = len(ordered)
    rank = int(stats.binom.ppf((1 - confidence) / 2, count, 0.5))  # samples below the lower bound
    if rank < 1:
        return float(np.median(ordered)), None, None
    return float(np.median(ordered)), float(ordered[rank - 1]), float(ordered[count - rank])


def two_modes(samples: np.ndarray) -> Modes | None:
    """Two modes, or None where one is enough.

    Log samples are split where the variance between the halves is largest (Otsu 1979); they count as two modes if Ashman's
    D = √2·|m₁−m₂| / √(s₁²+s₂²) (Ashman, Bird & Zepf 1994) exceeds 5, with medians for m and scaled median absolute deviations
    for s, so that a tail of slow calls is no second mode, and if the smaller mode holds at least a tenth of the samples.
    """
    count = len(samples)
    if count < FEWEST_SAMPLES or np.min(samples) <= 0:
        return None
    ordered = np.sort(np.log(samples))
    sizes = np.arange(1, count)
    sums = np.cumsum(ordered)[:-1]
    gap = sums / sizes - (ordered.sum() - sums) / (count - sizes)
    between = sizes * (count - sizes) * gap**2
    fewest = max(int(np.ceil(SMALLEST_SHARE * count)), 2)
    split = fewest + int(np.argmax(between[fewest - 1 : count - fewest]))
    lower, upper = ordered[:split], ordered[split:]
    widths = [max(float(stats.median_abs_deviation(half, scale="normal")), FINEST_RELATIVE_WIDTH) for half in (lower, upper)]
    distance = float(np.median(upper) - np.median(lower))
    if np.sqrt(2) * distance / np.hypot(*widths) <= SEPARATION:
        return None
    return Modes(float(np.exp(np.median(lower))), float(np.exp(np.median(upper))), len(upper) / count)
