"""From which lag on a gradient kept in a format of few bits is no longer the number it should be."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.statistics import seeds
from analysis.statistics.seeds import Estimate, missing

SMALLEST_NORMAL = {"float16": 2.0**-14, "bfloat16": 2.0**-126, "float32": 2.0**-126, "float64": 2.0**-1022}


def zero_lag(rows: pd.DataFrame, metric: str = "log_largest") -> Estimate:
    """The first lag at which every number of the gradient is exactly zero; "> T" where that never comes."""
    return _first(rows, metric, -np.inf)


def denormal_lag(rows: pd.DataFrame, metric: str = "log_largest") -> Estimate:
    """The first lag at which the largest number of the gradient is below the format's smallest normal one: digits go."""
    return _first(rows, metric, float(np.log(SMALLEST_NORMAL[str(rows["dtype"].iloc[0])])))


def _first(rows: pd.DataFrame, metric: str, threshold: float) -> Estimate:
    """A seed's curve ends where all is zero, so its length is that lag. rows: of one case."""
    found = seeds.metric(rows, metric)
    if not found:
        return missing("not measured")
    if any("not finite" in note for notes in rows.loc[rows["metric"] == metric, "notes"] for note in notes):
        return missing("overflows")
    steps = int(rows["steps"].iloc[0])
    lags = [int(np.flatnonzero(np.append(own < threshold, True))[0]) for own in found]
    reached = [lag for lag in lags if lag < steps]
    if len(reached) == len(lags):
        return seeds.mean(np.array(lags, float))
    return Estimate(None, float(min(*lags, steps - 1)), None, len(lags), beyond=float(steps - 1))
