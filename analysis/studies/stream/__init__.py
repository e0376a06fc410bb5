"""Rounding error and memory over a long stream: whether either grows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.statistics import seeds
from analysis.statistics.quantities import Quantity
from analysis.statistics.seeds import NOT_MEASURED, Estimate, exact


def drift(rows: pd.DataFrame) -> Estimate:
    """Largest rounding error of the last half of a stream over that of the first; found, not estimated."""
    halves = [half for each in seeds.metric(rows, "state_error") for half in np.array_split(each, 2)]
    if not halves or halves[0].max() == 0:
        return NOT_MEASURED
    return exact(halves[1].max() / halves[0].max())


def growth(rows: pd.DataFrame) -> Estimate:
    """Bytes by which the process, or what is used of the device, grew from the first look to the last, whichever is more."""
    looks = [each for name in ("resident", "device_used") for each in seeds.metric(rows, name)]
    return exact(max(each[-1] - each[0] for each in looks)) if looks else NOT_MEASURED


QUANTITIES = {
    "stream_drift": Quantity(drift, "rounding error of the last half over the first"),
    "stream_growth": Quantity(growth, "bytes grown"),
}
