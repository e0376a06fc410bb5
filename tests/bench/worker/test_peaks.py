"""The roofs of the roofline: what was copied, and that a case is compared with the memory that holds it."""

from __future__ import annotations

import pytest

from analysis.studies.throughput.figures import HELD, MEMORIES
from bench.worker import peaks


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_each_peak_is_measured_seven_times(monkeypatch, dtype):
    monkeypatch.setattr(peaks, "GEMM_SIZE", {"cpu": 32})
    monkeypatch.setattr(peaks, "COPIES", {"cpu": {"copy": 1 << 20, "copy_l2": 1 << 10}})
    monkeypatch.setattr(peaks, "LEAST_BYTES", 1 << 14)
    calls: list[int] = []
    copy = peaks._copy
    monkeypatch.setattr(peaks, "_copy", lambda size: lambda: (calls.append(size), copy(size)())[1])
    found = {item.metric: item for item in peaks.measure("cpu", dtype)}
    assert list(found) == ["gemm", "copy", "copy_l2"]
    assert all(len(item.samples) == peaks.REPEATS and min(item.samples) > 0 for item in found.values())
    assert calls.count(1 << 20) == 1 + peaks.REPEATS and calls.count(1 << 10) == 16 * (1 + peaks.REPEATS)


def test_the_roofline_knows_what_each_copy_used():
    for device, copies in peaks.COPIES.items():
        assert {metric: 2 * size for metric, size in copies.items() if metric != "copy"} == HELD[device]
        assert set(copies) <= set(MEMORIES)
