"""Which backend is faster: decisions on pairs of backends by the geometric mean over a phase's cases, and where more time goes.

The unit is the replicate. Each gives a backend's mean over the cases of the logarithm of its time: the lower quartile of all
samples of its process on a CPU, where contention only ever adds time, the median on a GPU. The cases are fixed, not drawn. A
pair's interval is that of the mean of the differences over replicates, with variances pooled over the pairs of the phase
(`analysis.statistics.pooling`).

A run that adapts looks twice: after its fixed replicates, and after those that it adds where a ranking was open. A pair that
had only the first has an interval of 1 − `SPENT[0]`, one with more of 1 − `SPENT[1]`. The two errors add up to 5 %, so that at
most 5 % of the intervals miss whatever decides who gets more replicates (the union bound; Bonferroni's form of alpha spending,
Lan & DeMets 1983, Biometrika 70, 659).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import pandas as pd
from scipy import special

from analysis.statistics import CONFIDENCE
from analysis.statistics.hosts import HOST
from analysis.statistics.hosts import between as between_hosts
from analysis.statistics.pooling import Pooled, Unit, pool
from analysis.statistics.ratios import NOT_COMPARED, Ratio, Statistic, aggregate

SPENT = (0.02, 0.03)
WITHIN = math.log(1.05)  # two backends that differ by less are alike
# To start and to end the processes of a further replicate, and of each backend in it: two cores of an AMD EPYC, 2026-11-27.
START_SECONDS, START_SECONDS_EACH = 3.0, 0.3
MOST_WANTED = 200  # replicates, beyond which none is a promise
Verdict = Literal["faster", "slower", "within", "open"]
At = tuple[str, str, str]  # device, phase, launch
_OPPOSITE: dict[Verdict, Verdict] = {"faster": "slower", "slower": "faster", "within": "within", "open": "open"}


@dataclass(frozen=True, slots=True)
class Pair:
    """speedup: of the first backend over the second. verdict: of the first. wanted: replicates in all that would decide an open
    pair, as far as its scatter tells; None where it is decided, or where more than `MOST_WANTED` would not."""

    speedup: Ratio
    verdict: Verdict
    wanted: int | None = None

    @property
    def inverse(self) -> Pair:
        """With the two backends exchanged."""
        return Pair(self.speedup.inverse, _OPPOSITE[self.verdict], self.wanted)


@dataclass(frozen=True, slots=True)
class Ranking:
    """Geometric means over the cases that all backends of `ratios` share.

    Attributes:
        ratios: speedups over the baseline, fastest first.
        pairs: each two of them in this order.
        shared: cases that were averaged, of `total` that the baseline ran.
        left_out: backends that cover less than half of these, which would shrink what is shared, with their count.
        replicates: of each backend.
        pooled: the variances.
    """

    ratios: dict[str, Ratio]
    pairs: Mapping[tuple[str, str], Pair]
    shared: int
    total: int
    left_out: dict[str, int]
    replicates: Mapping[str, int]
    pooled: Pooled[tuple[str, str]]

    def pair(self, first: str, second: str) -> Pair:
        """The decision on two backends in any order."""
        return self.pairs[first, second] if (first, second) in self.pairs else self.pairs[second, first].inverse

    @property
    def open(self) -> list[tuple[str, str]]:
        """The pairs that are not decided."""
        return [names for names, pair in self.pairs.items() if pair.verdict == "open"]


@dataclass(frozen=True, slots=True)
class Standing:
    """speed: relative to the fastest. beside: the decision on the backend before and it; None for the fastest."""

    place: int
    backend: str
    speed: Ratio
    beside: Verdict | None


def standings(ranking: Ranking) -> list[Standing]:
    """Of all ranked backends, the fastest first."""
    names = list(ranking.ratios)
    alone = Ratio(1.0, None, None, ranking.replicates[names[0]], ranking.ratios[names[0]].statistic, ranking.shared)
    rest = [
        Standing(place, name, ranking.pair(name, names[0]).speedup, ranking.pair(before, name).verdict)
        for place, (before, name) in enumerate(itertools.pairwise(names), 2)
    ]
    return [Standing(1, names[0], alone, None), *rest]


def statistic_of(device: str, statistic: Statistic) -> Statistic:
    """What stands for a process's samples in a ranking: of the median, which is the usual one, the lower quartile on a CPU."""
    return "lower_quartile" if statistic == "median" and device == "cpu" else statistic


def confidence(replicates: int, fixed: int | None) -> float:
    """Of the interval of a pair with so many replicates, in a run that looks after `fixed` of them; 95 % where none looks."""
    return CONFIDENCE if fixed is None else 1 - SPENT[replicates > fixed]


def rank(times: pd.DataFrame, baseline: str, statistic: Statistic, fixed: int | None = None) -> Ranking:
    """Rank backends of one device, phase and launch mode.

    Args:
        times: a row for each case, backend and replicate: `study`, `case`, `backend`, `replicate_key`, `samples` in seconds.
        baseline: the backend whose cases count.
        statistic: of a process's samples.
        fixed: replicates after which the run looked for the first time; None where it had a fixed number of them.

    Returns:
        The ranking; without intervals where no two replicates have every case.
    """
    positive = np.array([bool((samples > 0).all()) for samples in times["samples"]], dtype=bool)
    rows = times[~times["backend"].isin(NOT_COMPARED) & positive]
    logs = np.array([math.log(aggregate(samples, statistic)) for samples in rows["samples"]], dtype=float)
    rows = rows.assign(cell=rows["study"] + "\n" + rows["case"], log=logs)
    cells = rows.groupby("backend", sort=False)["cell"].agg(set).to_dict()
    own = {str(name): its & cells.get(baseline, set()) for name, its in cells.items()}
    total = len(cells.get(baseline, set()))
    kept = [name for name, its in own.items() if name == baseline or 2 * len(its) >= total]
    shared = sorted(set.intersection(*(own[name] for name in kept))) if kept else []
    table = rows[rows["cell"].isin(shared)].pivot_table(
        index="replicate_key", columns=["backend", "cell"], values="log", sort=False
    )
    grids = {name: pd.DataFrame(table[name]).reindex(columns=shared).to_numpy() for name in kept} if shared else {}
    between = _between_hosts(rows[rows["cell"].isin(shared) & rows["backend"].isin(kept)], fixed)
    made = rank_grids(grids, baseline, statistic, fixed, between)
    return dataclasses.replace(made, total=total, left_out={name: len(its) for name, its in own.items() if name not in kept})


def _between_hosts(rows: pd.DataFrame, fixed: int | None) -> dict[frozenset[str], float]:
    """By pair what the hosts of a run over several add to half of its interval.

    Nothing where each replicate lies on one host: there the replicates' own scatter holds it. A replicate that lies on several
    hosts is a mean over them, so that replicates differ by less than the hosts do.
    """
    if HOST not in rows or rows[HOST].nunique() < 2 or (rows.groupby("replicate_key")[HOST].nunique() == 1).all():
        return {}
    table = rows.pivot_table(index=["cell", "replicate_key", HOST], columns="backend", values="log", sort=False)
    found = {}
    for first, second in itertools.combinations(map(str, table.columns), 2):
        apart = (table[second] - table[first]).dropna()
        hosts, cells = (apart.index.get_level_values(name) for name in (HOST, "cell"))
        among = between_hosts(apart.tolist(), cells.tolist(), hosts.tolist())
        if among is not None:
            shares = hosts.value_counts(normalize=True)
            count = int(apart.index.get_level_values("replicate_key").nunique())
            found[frozenset((first, second))] = among.half_width(shares, confidence(count, fixed))
    return found


def rank_grids(
    grids: Mapping[str, np.ndarray],
    baseline: str,
    statistic: Statistic = "lower_quartile",
    fixed: int | None = None,
    between: Mapping[frozenset[str], float] = MappingProxyType({}),
) -> Ranking:
    """Rank backends by the logarithms of their times.

    Args:
        grids: of each backend [replicates, cases], the same for all; NaN where nothing was measured.
        baseline, statistic, fixed: as for `rank`.
        between: by pair what is added in quadrature to half of its interval, of the logarithm.
    """
    cases = next(iter(grids.values())).shape[1] if grids else 0
    middles = {name: float(np.nanmean(grid, axis=0).mean()) for name, grid in grids.items()}
    order = sorted(grids, key=lambda name: middles[name])
    means = {name: grids[name].mean(axis=1) for name in order}  # NaN where a replicate lacks a case
    differences = {names: means[names[1]] - means[names[0]] for names in itertools.combinations(order, 2)}
    units = {names: Unit(values[np.isfinite(values)], cases) for names, values in differences.items()}
    # Differences of the same backends: what their variances have in common is known from fewer than there are pairs.
    pooled = pool(units, most_freedom=(len(order) - 1) / 2)
    apart = {names: middles[names[1]] - middles[names[0]] for names in units}
    pairs = {}
    for names, unit in units.items():
        count = len(unit.values)
        half = pooled.half_width(names, confidence(count, fixed)) if count >= 2 else math.inf
        half = math.hypot(half, between.get(frozenset(names), 0.0))
        pairs[names] = _pair(names, unit, apart[names], pooled, statistic, half)
    replicates = {name: int(np.isfinite(means[name]).sum()) for name in order}
    made = Ranking({}, pairs, cases, cases, {}, replicates, pooled)
    for name in order if baseline in grids else ():
        itself = Ratio(1.0, 1.0, 1.0, replicates[name], statistic, cases)
        made.ratios[name] = itself if name == baseline else made.pair(name, baseline).speedup
    return made


def _pair(
    names: tuple[str, str], unit: Unit, apart: float, pooled: Pooled[tuple[str, str]], statistic: Statistic, half: float
) -> Pair:
    """apart: the difference of the two backends where no two replicates have every case. half: of the interval."""
    count = len(unit.values)
    if count < 2:
        return Pair(Ratio(math.exp(apart), None, None, count, statistic, unit.cases), "open")
    mean = float(unit.values.mean())
    low, high = mean - half, mean + half
    ratio = Ratio(math.exp(mean), math.exp(low), math.exp(high), count, statistic, unit.cases)
    verdict = decide(low, high)
    wanted = _wanted(mean, count, pooled.variances[names] * count, pooled.freedoms[names]) if verdict == "open" else None
    return Pair(ratio, verdict, wanted)


def decide(low: float, high: float) -> Verdict:
    """What an interval of the logarithm of a speedup says: within 5 %, else faster or slower, else nothing."""
    if -WITHIN < low and high < WITHIN:
        return "within"
    return "faster" if low > 0 else "slower" if high < 0 else "open"


def _wanted(mean: float, count: int, variance: float, freedom: float) -> int | None:
    """Replicates in all after which an interval about the same mean with the same scatter decides."""
    reach = max(abs(mean), WITHIN - abs(mean))
    numbers = np.arange(count + 1, MOST_WANTED + 1)
    quantiles = special.stdtrit(freedom + numbers - count, 1 - SPENT[1] / 2)
    enough = numbers[quantiles * np.sqrt(variance / numbers) < reach]
    return int(enough[0]) if len(enough) else None


# Where the time that is left goes: to the pairs that it decides.

Key = tuple[str, str]  # study, case
Part = tuple[str, str, str]  # of a replicate: study, case, backend


def further_replicates(
    rankings: Mapping[At, Ranking],
    cases: Mapping[At, Collection[Key]],
    seconds_of: Mapping[Part, float],
    seconds: float,
) -> list[tuple[set[Part], float]]:
    """What further replicates measure, so that as many open pairs as possible are decided in the time that is left.

    Args:
        rankings, cases: of each phase.
        seconds_of: what a case takes on a backend in a further replicate.
        seconds: that are left.

    Returns:
        Of each replicate its cases and backends, and the seconds that it should take. The pairs that cost least come first,
        with as many replicates as they want; what time is left goes to the others, a replicate each in turn. A pair gets all
        cases of its phase.
    """

    def seconds_taken(parts: set[Part]) -> float:
        return (
            sum(seconds_of.get(part, 0.0) for part in parts)
            + START_SECONDS_EACH * len({name for *_, name in parts})
            + START_SECONDS * bool(parts)
        )

    wanted = [
        ({(*key, name) for key in cases[at] for name in names}, pair.wanted - pair.speedup.replicates)
        for at, ranking in rankings.items()
        for names, pair in ranking.pairs.items()
        if pair.wanted is not None
    ]
    wanted.sort(key=lambda pair: pair[1] * seconds_taken(pair[0]))
    chosen: list[set[Part]] = []

    def add(own: set[Part], numbers: Collection[int]) -> bool:
        """Add what a pair wants to these replicates, if it fits."""
        nonlocal chosen
        several = max(len(chosen), max(numbers) + 1)
        tried = [(chosen[number] if number < len(chosen) else set()) | (own if number in numbers else set())
                 for number in range(several)]  # fmt: skip
        fits = sum(map(seconds_taken, tried)) <= seconds
        chosen = tried if fits else chosen
        return fits

    rest = [(own, count) for own, count in wanted if not add(own, range(count))]
    for number in range(max((count for _, count in rest), default=0)):
        if not any([add(own, [number]) for own, count in rest if number < count]):
            break
    return [(parts, seconds_taken(parts)) for parts in chosen]


def by_phase(times: pd.DataFrame, baseline: str, statistic: Statistic, fixed: int | None = None) -> dict[At, Ranking]:
    """The rankings of each device, phase and launch mode in which the baseline was timed."""
    found: dict[At, Ranking] = {}
    for at, part in times.groupby(["device", "phase", "launch"], sort=False):
        device, phase, launch = map(str, at)
        if (part["backend"] == baseline).any():
            ranked = rank(part, baseline, statistic_of(device, statistic), fixed)
            if ranked.ratios:
                found[device, phase, launch] = ranked
    return found
