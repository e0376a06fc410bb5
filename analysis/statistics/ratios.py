"""Statistics of timing samples: of rounds, of modes, and speedups over a baseline with intervals over replicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from scipy import stats

from analysis import AnalysisError
from analysis.statistics import CONFIDENCE, hosts
from analysis.statistics.hosts import HOST, Between

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


# Speedup over a baseline: baseline time / own time, with an interval over replicates. A replicate is a fresh worker process.

Statistic = Literal["median", "lower_quartile", "minimum"]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)
SHORT_NAMES: dict[Statistic, str] = {"median": "median", "lower_quartile": "p25", "minimum": "min"}  # for users
NOT_COMPARED = ("null", "machine", "reference", "probe", "emulation")
# `null` is the no-op baseline, `machine` holds the peaks, `reference` is a study's own float64 code,
# `probe` and `emulation` are what gpu-check asks of a GPU, and what it proves without one


class UnknownStatistic(AnalysisError):
    """A statistic that is not defined."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Speedup over the baseline. low and high bound it at 95 %; None where one replicate leaves nothing to bound it with.

    replicates: how many bound it; 0 where there are some, but no two of them have every case.
    cases: over how many cases the geometric mean was taken; 1 for a single case.
    """

    value: float
    low: float | None
    high: float | None
    replicates: int
    statistic: Statistic
    cases: int = 1

    @property
    def verdict(self) -> Literal["faster", "slower"] | None:
        """A word only where the interval excludes 1."""
        if self.low is not None and self.low > 1:
            return "faster"
        if self.high is not None and self.high < 1:
            return "slower"
        return None

    @property
    def inverse(self) -> Ratio:
        low, high = (None if bound is None else 1 / bound for bound in (self.high, self.low))
        return Ratio(1 / self.value, low, high, self.replicates, self.statistic, self.cases)


def aggregate(samples: np.ndarray, statistic: Statistic) -> float:
    """The statistic of samples. Minimum and lower quartile are for machines where contention only ever adds time."""
    statistic = statistic_named(statistic)
    if statistic == "median":
        return float(np.median(samples))
    if statistic == "lower_quartile":
        return float(np.quantile(samples, 0.25))
    return float(np.min(samples))


def statistic_named(name: str) -> Statistic:
    """A statistic by the name that users give it. Raises `UnknownLocation` with the choices, unless it is one of them."""
    for statistic in STATISTICS:
        if name in (statistic, SHORT_NAMES[statistic]):
            return statistic
    raise UnknownStatistic(f"no statistic {name!r}; choose from {', '.join(SHORT_NAMES.values())}")


def turns(samples: np.ndarray, blocks: Sequence[int]) -> list[np.ndarray]:
    """Samples cut into the turns they were taken in; one turn where there are no blocks, or an empty one."""
    if not blocks or min(blocks) < 1:
        return [samples]
    return np.split(samples, np.cumsum(blocks)[:-1])


def log_ratio(
    baseline: np.ndarray, own: np.ndarray, baseline_blocks: Sequence[int], own_blocks: Sequence[int], statistic: Statistic
) -> float:
    """ln(baseline time / own time) of one replicate: the median over adjacent rounds, which cancels shared drift.

    Args:
        baseline, own: samples in seconds, of one worker process each.
        baseline_blocks, own_blocks: numbers of samples per round; where they differ in length all samples are one round.
        statistic: statistic of the samples of a round.
    """
    ours, theirs = turns(own, own_blocks), turns(baseline, baseline_blocks)
    if len(ours) != len(theirs):
        ours, theirs = [own], [baseline]
    return float(
        np.median([np.log(aggregate(b, statistic) / aggregate(a, statistic)) for b, a in zip(theirs, ours, strict=True)])
    )


def over_replicates(
    log_ratios: Sequence[float] | np.ndarray,
    statistic: Statistic,
    cases: int = 1,
    *,
    confidence: float = CONFIDENCE,
    on: Sequence[str] = (),
    among: Between | None = None,
) -> Ratio:
    """Geometric mean of ratios with Student's t-interval, of 95 % unless another confidence is asked for.

    Args:
        log_ratios: one logarithm a replicate.
        statistic: statistic that they were taken with.
        cases: over how many cases each is a mean.
        confidence: of the interval.
        on: of a run over several hosts that of each replicate; among: what such hosts differ by.

    Returns:
        The ratio; without an interval where there is one replicate.
    """
    values = np.asarray(log_ratios, dtype=float)
    held = hosts.interval(values, on, among, confidence) if len(on) else None
    mean, low, high = held or t_interval(values, confidence)
    bounds = (None if low is None else float(np.exp(low)), None if high is None else float(np.exp(high)))
    return Ratio(float(np.exp(mean)), *bounds, len(values), statistic, cases)


def t_interval(values: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float | None, float | None]:
    """Mean with its t-interval; no interval from a single value."""
    mean = float(values.mean())
    if len(values) < 2:
        return mean, None, None
    half = float(stats.t.ppf(0.5 + confidence / 2, len(values) - 1)) * float(values.std(ddof=1)) / len(values) ** 0.5
    return mean, mean - half, mean + half


def of_one_launch(rows: pd.DataFrame) -> pd.DataFrame:
    """The eager ones, where some calls are eager and some launched from a CUDA graph: a number is of one launch mode."""
    if "launch" not in rows or rows["launch"].nunique() < 2:
        return rows
    return rows[rows["launch"] == "eager"]


def log_ratios(times: pd.DataFrame, baseline: str, statistic: Statistic) -> pd.DataFrame:
    """Per study, case, backend and replicate the log-ratio to the baseline of the same replicate (column `log_ratio`).

    times: rows of a section's `series` with metric `time`. Replicates the baseline has not measured are left out.
    """
    keys = ["study", "case", "replicate_key"]
    positive = np.array([bool((samples > 0).all()) for samples in times["samples"]], dtype=bool)
    usable = times[~times["backend"].isin(NOT_COMPARED) & positive]
    reference = usable.loc[usable["backend"] == baseline, [*keys, "samples", "blocks"]]
    pairs = usable.merge(reference, on=keys, suffixes=("", "_baseline"))
    values = [
        log_ratio(theirs, ours, their_turns, our_turns, statistic)
        for theirs, ours, their_turns, our_turns in zip(
            pairs["samples_baseline"], pairs["samples"], pairs["blocks_baseline"], pairs["blocks"], strict=True
        )
    ]
    return pairs.drop(columns=["samples_baseline", "blocks_baseline"]).assign(log_ratio=np.asarray(values, dtype=float))


def case_ratios(logs: pd.DataFrame, statistic: Statistic) -> dict[tuple[str, str, str], Ratio]:
    """(study, case, backend) → its ratio, from the frame `log_ratios` returned."""
    found = {}
    apart = {str(name): among(part, "log_ratio") for name, part in logs.groupby("backend")} if HOST in logs else {}
    for (study, case, backend), part in logs.groupby(["study", "case", "backend"], sort=False):
        ratio = over_replicates(part["log_ratio"].to_numpy(), statistic, on=on(part), among=apart.get(str(backend)))
        found[str(study), str(case), str(backend)] = ratio
    return found


def on(rows: pd.DataFrame) -> list[str]:
    """The host of each row of a run over several; empty of other runs."""
    return rows[HOST].fillna("").tolist() if HOST in rows else []


def among(rows: pd.DataFrame, column: str) -> Between | None:
    """What the hosts of a run differ by in a column of logarithms, over cases and backends that several of them measured."""
    groups = (rows["study"] + "\n" + rows["case"] + "\n" + rows["backend"]).tolist()
    return hosts.between(rows[column].tolist(), groups, on(rows)) if HOST in rows else None


def geometric_mean(grid: pd.DataFrame, statistic: Statistic) -> Ratio:
    """From replicates × cases. Only replicates that have every case can bound the mean, for each is one draw of the whole."""
    complete = grid.dropna()
    if len(complete) >= 2:
        return over_replicates(complete.mean(axis=1).to_numpy(), statistic, grid.shape[1])
    value = float(np.exp(grid.mean(axis=0).mean()))
    return Ratio(value, None, None, 1 if len(grid) == 1 else 0, statistic, grid.shape[1])
