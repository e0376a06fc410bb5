"""The budget goes where the intervals are widest."""

from __future__ import annotations

from bench.processes import rounds
from results.record import Measurement, Record


def record(case: str, replicate: int, seconds: float) -> Record:
    measurement = Measurement("time", "s", (seconds,))
    return Record("throughput", case, "numpy", replicate, "ok", {}, measurements=(measurement,))


def test_single_replicates_come_first_then_the_noisiest():
    records = [record("quiet", n, 1.0 + 0.001 * n) for n in range(3)]
    records += [record("noisy", n, 1.0 + 0.2 * n) for n in range(3)]
    records += [record("single", 0, 1.0)]
    assert rounds.most_uncertain(records, 3) == ["single", "noisy", "quiet"]
    assert rounds.most_uncertain(records, 1) == ["single"]
