"""How far hosts of one kind lie apart, from cases that several of them measured.

Intervals need no term for it: the replicates of a case lie on different hosts, so that their spread holds it already.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

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
