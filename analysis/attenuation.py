"""What an attenuation curve says: its rate, its horizon, its half-life, and whether it is an exponential of lag."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis import seeds
from analysis.seeds import Estimate, missing

FADED = 1e-3  # of the gradient at lag 0: the horizon's threshold
RATE_WINDOW = (20, 200)  # lags
FIRST_FITTED_LAG = 5  # the offset's first steps are no part of the law
FEWEST_POINTS = 8


@dataclass(frozen=True, slots=True)
class Curve:
    """logs: [S, K], ln A at `lags`, each seed's own value at lag 0 taken off. steps: T of the case."""

    lags: np.ndarray
    logs: np.ndarray
    steps: int

    @property
    def mean(self) -> np.ndarray:
        return self.logs.mean(0)

    @property
    def half_width(self) -> np.ndarray:
        """Of the pointwise t-interval over seeds; zero where one seed leaves nothing to bound it with."""
        return seeds.half_width(self.logs) if len(self.logs) > 1 else np.zeros(len(self.lags))

    def at(self, lag: int) -> np.ndarray | None:
        """Every seed's value at a lag, None beyond the curve."""
        return None if lag > self.lags[-1] else np.array([np.interp(lag, self.lags, own) for own in self.logs])


def curve(rows: pd.DataFrame, name: str = "log_gradient", relative: bool = True) -> Curve | None:
    """The curve of the rows of one case; None where it has none."""
    found = seeds.together(seeds.metric(rows, name))
    lags = rows.loc[rows["metric"] == "lag", "samples"]
    if not found.size or lags.empty:
        return None
    first = found[:, :1] if relative else 0.0
    return Curve(lags.iloc[0][: found.shape[1]], found - first, int(rows["steps"].iloc[0]))


def horizon(of: Curve, faded: float = FADED) -> Estimate:
    """The first lag at which the mean over seeds of ln A has fallen by ln `faded`.

    Its interval is where the edges of the pointwise t-band over seeds fall as far. A curve or an edge that never does is
    censored: beyond the last lag, not at it.
    """
    if len(of.logs) < seeds.FEWEST_SEEDS:
        return missing(f"{len(of.logs)} seeds: too few for an interval")
    middle, half, threshold = of.mean, of.half_width, float(np.log(faded))
    value, low, high = (_crossing(of.lags, values, threshold) for values in (middle, middle - half, middle + half))
    last = float(of.lags[-1])
    beyond = last if value is None or high is None else None
    return Estimate(value, last if low is None else low, high, len(of.logs), beyond)


def _crossing(lags: np.ndarray, values: np.ndarray, threshold: float) -> float | None:
    """The first whole lag at which the values, interpolated between the kept lags, lie below the threshold."""
    below = np.flatnonzero(values < threshold)
    if not len(below):
        return None
    place = int(below[0])
    if place == 0:
        return float(lags[0])
    (left, right), (upper, lower) = lags[place - 1 : place + 1], values[place - 1 : place + 1]
    exact = left + (right - left) * (upper - threshold) / (upper - lower)
    return float(np.floor(exact) + 1 if exact == np.floor(exact) else np.ceil(exact))


def rate(of: Curve) -> Estimate:
    """Nats a step: each seed's least-squares slope over `RATE_WINDOW`, or what there is of it."""
    window = (of.lags >= RATE_WINDOW[0]) & (of.lags <= RATE_WINDOW[1])
    if window.sum() < FEWEST_POINTS:
        return missing(f"{int(window.sum())} lags between {RATE_WINDOW[0]} and {RATE_WINDOW[1]}: too few for a slope")
    return seeds.mean(np.polyfit(of.lags[window], of.logs[:, window].T, 1)[0])


def half_life(of: Curve) -> Estimate:
    """Steps in which the gradient halves at its rate; none where it does not fall."""
    found = rate(of)
    if found.value is None or found.low is None or found.high is None:
        return found
    if found.value >= 0:
        return missing("does not fall")
    value, low = (float(np.log(0.5) / slope) for slope in (found.value, found.low))
    if found.high >= 0:
        return Estimate(None, low, None, found.seeds, beyond=low)
    return Estimate(value, low, float(np.log(0.5) / found.high), found.seeds)


def bic_for_exponential(of: Curve) -> Estimate:
    """BIC of the power law less that of the exponential, mean over seeds with its t-interval; above 10 is decisive.

    ln A is a sum of one random stretch a step, so its errors pile up along the curve and neighbouring points tell the same
    thing twice. The likelihood is therefore that of the increments: ln A(k') − ln A(k) is normal with variance in proportion
    to k' − k, and with mean b·(k' − k) for an exponential, b·(ln k' − ln k) for a power. Both laws have two parameters.
    (Kass & Raftery 1995 for the scale of evidence: a difference of 10 is "very strong".)
    """
    window = of.lags >= FIRST_FITTED_LAG
    lags, logs = of.lags[window], of.logs[:, window]
    if len(lags) <= FEWEST_POINTS:
        return missing(f"{len(lags)} lags: too few to tell the laws apart")
    widths = np.sqrt(np.diff(lags))
    rises = np.diff(logs, axis=1) / widths
    found = []
    for own in rises:
        exponential, power = (_left_over(own, regressor / widths) for regressor in (np.diff(lags), np.diff(np.log(lags))))
        if exponential <= 0 or power <= 0:
            return missing("a curve without noise: no likelihood")
        found.append(len(own) * np.log(power / exponential))
    return seeds.mean(np.array(found))


def _left_over(values: np.ndarray, regressor: np.ndarray) -> float:
    """Residual sum of squares of values = b · regressor."""
    slope = float(values @ regressor / (regressor @ regressor))
    return float(np.square(values - slope * regressor).sum())
