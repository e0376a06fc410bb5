"""What came of a request, as a record, and where the rest of a time budget goes."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from bench.processes.turns import Reply
from bench.worker.prepare import NULL
from results.record import EMULATED_METRIC, HOST_PEAK, Measurement, Record, measurement_from_dict

# Where the next replicate is worth most: the cases whose intervals are widest.


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


# From a worker's reply to a record.


def outcome(
    study_name: str, case: str, backend: str, replicate: int, parameters: dict[str, Any], counts: dict[str, int],
    reply: Reply, conditions: dict[str, Any], started: float, seconds: float, marks: dict[str, str],
) -> Record:  # fmt: skip
    """`marks` are added to the provenance, whatever the status. Of an emulated run no metric keeps its name."""
    measurements = [measurement_from_dict(item) for item in reply.get("measurements", ())]
    if replicate == 0 and "first_call_seconds" in reply and backend != NULL:
        notes = tuple(reply.get("first_call_notes", ()))
        measurements.append(Measurement("first_call", "s", (reply["first_call_seconds"],), notes=notes))
    if "emulated" in marks:
        measurements = [
            replace(item, metric=EMULATED_METRIC + item.metric.removeprefix(EMULATED_METRIC)) for item in measurements
        ]
    peak = {name: reply[name] for name in (HOST_PEAK,) if name in reply}
    return Record(
        study=study_name, case=case, backend=backend, replicate=replicate, status=reply["status"], parameters=parameters,
        reason=reply.get("reason", ""), kind=reply.get("kind"), measurements=tuple(measurements), counts=dict(counts),
        provenance=reply.get("provenance", {}) | marks, conditions=conditions | peak, started=started, seconds=seconds,
    )  # fmt: skip
