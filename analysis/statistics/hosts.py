"""How far hosts of one kind lie apart, from cases that several of them measured, and intervals that hold it.

Where each replicate of a case lies on a host of its own, their spread holds it already. Where there are fewer hosts than
replicates, or the replicates are means over cases that lie on several hosts, it is added: what a host adds to the logarithm of
a time is taken to be the same for all of its measurements, so that more replicates on it make it no smaller.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from results.record import Record

HOST = "host"  # among the conditions of a record of a fleet


class Spread(NamedTuple):
    """relative: standard deviation over hosts of the median time of a case, pooled over `cases` cases and backends."""

    relative: float
    cases: int


def count(records: Iterable[Record]) -> int:
    """How many hosts made the records."""
    return len({record.conditions[HOST] for record in records if HOST in record.conditions})


def spread(records: Iterable[Record]) -> Spread | None:
    """Of the times of cases that at least two hosts measured; None where there is no such case.

    The deviation of a host's mean over its replicates, so that what a host's own replicates differ by is in it too.
    """
    times: dict[tuple[str, str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        for measured in record.measurements:
            if record.status == "ok" and measured.metric == "time" and HOST in record.conditions:
                median = statistics.median(measured.samples)
                times[record.study, record.case, record.backend][record.conditions[HOST]].append(math.log(median))
    squares, freedom, cases = 0.0, 0, 0
    for by_host in times.values():
        if len(by_host) >= 2:
            means = [statistics.fmean(values) for values in by_host.values()]
            squares += statistics.variance(means) * (len(means) - 1)
            freedom += len(means) - 1
            cases += 1
    return Spread(math.sqrt(squares / freedom), cases) if freedom else None


class Between(NamedTuple):
    """deviation: standard deviation between hosts of a logarithm. freedom: one less than the hosts it is from."""

    deviation: float
    freedom: int

    def half_width(self, weights: Iterable[float], confidence: float) -> float:
        """Of the interval of a mean in which the hosts have these weights, as far as it is due to the hosts."""
        quantile = float(stats.t.ppf(0.5 + confidence / 2, self.freedom))
        return quantile * self.deviation * math.sqrt(sum(weight**2 for weight in weights))


def between(values: Sequence[float], groups: Sequence[object], hosts: Sequence[str]) -> Between | None:
    """Between the hosts' means of each group, pooled over the groups that several hosts have; None where there is none.

    Args:
        values: logarithms.
        groups: of each value what is compared over hosts: a case and backend.
        hosts: of each value.

    The freedom is that of the hosts and not of the groups: a host that is slow is slow in every group.
    """
    table = pd.DataFrame({"value": values, "group": list(groups), "host": list(hosts)})
    means = table[table["host"] != ""].groupby(["group", "host"], sort=False)["value"].mean()
    squares, freedom, known = 0.0, 0, set[str]()
    for _, own in means.groupby(level="group", sort=False):
        if len(own) >= 2:
            squares += float(own.var(ddof=1)) * (len(own) - 1)
            freedom += len(own) - 1
            known |= set(own.index.get_level_values("host"))
    return Between(math.sqrt(squares / freedom), len(known) - 1) if freedom else None


def interval(
    values: Sequence[float] | np.ndarray, hosts: Sequence[str], among: Between | None, confidence: float
) -> tuple[float, float, float] | None:
    """Mean of replicates of one case with its interval; None where the usual t-interval holds the variance between hosts.

    Args:
        values: logarithms, one a replicate.
        hosts: of each replicate.
        among: what the hosts of the run differ by; without it the hosts' means are the replicates.
        confidence: of the interval.

    Two terms are added in quadrature: that of replicates on one host, and that of hosts with their shares of the replicates.
    """
    values = np.asarray(values, dtype=float)
    counted = Counter(hosts)
    number, apart = len(values), len(counted)
    if number < 2 or apart == number or (apart == 1 and among is None):
        return None
    grouped = pd.Series(values).groupby(list(hosts))
    if among is None:
        means = grouped.mean().to_numpy()
        half = float(stats.t.ppf(0.5 + confidence / 2, apart - 1)) * float(means.std(ddof=1)) / apart**0.5
        mean = float(means.mean())
        return mean, mean - half, mean + half
    within = float(((values - grouped.transform("mean").to_numpy()) ** 2).sum()) / (number - apart)
    half = float(stats.t.ppf(0.5 + confidence / 2, number - apart)) * math.sqrt(within / number)
    half = math.hypot(half, among.half_width((count / number for count in counted.values()), confidence))
    mean = float(values.mean())
    return mean, mean - half, mean + half
