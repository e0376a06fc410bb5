"""Samples of one case in their order, and cases that differ in one size alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

# One series of samples: its median with an interval that assumes no distribution, and whether it has two modes.

# With these four, draws from normal, uniform, exponential and Pareto distributions are called bimodal less than once in a
# hundred times: tests/analysis/statistics/test_series.py.
SEPARATION = 4.0
VALLEY = 0.2
SMALLEST_SHARE = 0.1
FEWEST_SAMPLES = 30  # in all, and in the smaller mode:
FEWEST_IN_MODE = 6
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

    Log samples are split where the variance between the halves is largest (Otsu 1979). They count as two modes if Ashman's
    D = √2·|m₁−m₂| / √(s₁²+s₂²) (Ashman, Bird & Zepf 1994) exceeds 4, with medians for m and scaled interdecile ranges for s;
    if the smaller mode holds a tenth of the samples; and if a valley lies between, for a tail of slow calls is no second mode:
    the middle half of the way from m₁ to m₂ holds at most a fifth as many samples as the smaller mode.
    """
    count = len(samples)
    if count < FEWEST_SAMPLES or np.min(samples) <= 0:
        return None
    ordered = np.sort(np.log(samples))
    sizes = np.arange(1, count)
    sums = np.cumsum(ordered)[:-1]
    gap = sums / sizes - (ordered.sum() - sums) / (count - sizes)
    between = sizes * (count - sizes) * gap**2
    fewest = max(int(np.ceil(SMALLEST_SHARE * count)), FEWEST_IN_MODE)
    split = fewest + int(np.argmax(between[fewest - 1 : count - fewest]))
    lower, upper = ordered[:split], ordered[split:]
    low, high = float(np.median(lower)), float(np.median(upper))
    widths = [max(_width(half), FINEST_RELATIVE_WIDTH) for half in (lower, upper)]
    if np.sqrt(2) * (high - low) / np.hypot(widths[0], widths[1]) <= SEPARATION:
        return None
    quarter = (high - low) / 4
    between_modes = np.count_nonzero((ordered > low + quarter) & (ordered < high - quarter))
    if between_modes > VALLEY * min(len(lower), len(upper)):
        return None
    return Modes(float(np.exp(low)), float(np.exp(high)), len(upper) / count)


def _width(values: np.ndarray) -> float:
    """The standard deviation that a normal distribution of the same interdecile range has."""
    tenth, nine_tenths = np.quantile(values, (0.1, 0.9))
    return float(nine_tenths - tenth) / (2 * float(stats.norm.ppf(0.9)))


# Which cases differ in one size only: what a curve may join.

PARAMETERS = (
    "cell", "input_size", "hidden_size", "num_layers", "bias", "bidirectional", "dtype", "device", "proj_size", "steps",
    "batch", "phase", "launch", "ragged", "initial_state", "seed",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sweep:
    """Rows that agree in every parameter but those swept. fixed: what they agree in."""

    fixed: dict[str, object]
    rows: pd.DataFrame


def sweeps(cases: pd.DataFrame, over: Sequence[str], least: int = 2) -> list[Sweep]:
    """Every group of cases that differ only in `over`, with at least `least` points, the largest group first.

    Where hidden_size is swept, an input_size that equals it is swept along.
    """
    if cases.empty or any(name not in cases for name in over):
        return []
    table = cases.copy()
    present = [name for name in PARAMETERS if name in table and name not in over]
    if "hidden_size" in over and "input_size" in table:
        table["input_size"] = table["input_size"].where(table["input_size"] != table["hidden_size"], other=-1)
    found = []
    keys = table[present].astype(object).where(table[present].notna(), None)
    for values, rows in cases.groupby([keys[name] for name in present], sort=False, dropna=False):
        points = rows.drop_duplicates(list(over))
        if len(points) >= least and all(points[name].nunique() >= 2 for name in over):
            fixed: dict[str, object] = dict(zip(present, values, strict=True))
            if fixed.get("input_size") == -1:
                del fixed["input_size"]
            found.append(Sweep(fixed, rows))
    return sorted(found, key=lambda sweep: -len(sweep.rows.drop_duplicates(list(over))))
