"""Where the next replicate is worth most: the cases whose intervals are widest."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence

from results.record import Record


def widest(records: Iterable[Record], count: int) -> list[str]:
    """Keys of the `count` cases with the widest relative interval, widest first.

    A case is as wide as its worst backend: the standard error over replicates of ln(median time). A case with a single
    replicate has no interval yet and comes before all others.
    """
    medians: dict[tuple[str, str], list[float]] = defaultdict(list)
    for record in records:
        for measurement in record.measurements:
            if measurement.metric == "time" and record.status == "ok":
                medians[record.case, record.backend].append(math.log(statistics.median(measurement.samples)))
    widths: dict[str, float] = defaultdict(float)
    for (case, _), values in medians.items():
        widths[case] = max(widths[case], standard_error(values))
    return sorted(widths, key=lambda case: (-widths[case], case))[:count]


def standard_error(values: Sequence[float]) -> float:
    return math.inf if len(values) < 2 else statistics.stdev(values) / math.sqrt(len(values))
