"""How far hosts lie apart, from records of cases that several of them measured."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.statistics import hosts
from results.record import Measurement, Record


def record(case: str, host: str | None, seconds: float, replicate: int = 0, status: str = "ok", metric: str = "time") -> Record:
    return Record(
        "throughput", case, "numpy", replicate, status, {}, "a reason" if status != "ok" else "",
        measurements=(Measurement(metric, "s", (seconds, seconds, 9.0 * seconds)),), conditions={"host": host} if host else {},
    )  # type: ignore[arg-type]  # fmt: skip


def test_the_spread_is_found_that_was_put_in():
    random = np.random.default_rng(5)
    offsets = random.normal(0, 0.03, 200)
    records = [
        record(f"case{case}", f"host{number}", 1e-3 * (case + 1) * math.exp(offset), number)
        for case in range(2)
        for number, offset in enumerate(offsets)
    ]
    found = hosts.spread(records)
    assert found is not None and found.cases == 2
    assert found.relative == pytest.approx(np.std(offsets, ddof=1), rel=1e-9) and hosts.count(records) == 200


def test_replicates_of_one_host_are_one_value():
    records = [record("case", "a", 1.0), record("case", "a", math.exp(0.2), 1), record("case", "b", math.exp(0.5), 2)]
    found = hosts.spread(records)
    assert found is not None and found.relative == pytest.approx(0.4 / math.sqrt(2))


@pytest.mark.parametrize(
    "other",
    [record("case", "a", 2.0, 1), record("other", "b", 2.0), record("case", None, 2.0, 1),
     record("case", "b", 2.0, 1, "skipped"), record("case", "b", 2.0, 1, metric="first_call")],
    ids=["one host", "another case", "no host", "not measured", "another metric"],
)  # fmt: skip
def test_without_a_case_of_two_hosts_nothing_is_said(other: Record):
    assert hosts.spread([record("case", "a", 1.0), other]) is None
