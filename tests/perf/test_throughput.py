"""The throughput study under pytest-benchmark, for a developer's before and after; published numbers are `lstm-bench`'s.

pytest tests/perf --benchmark-enable --benchmark-autosave
"""

from __future__ import annotations

import pytest

from bench.asv_suite import throughput
from bench.harness.case import Case
from bench.worker.prepare import Skip, prepare

EVERYTHING = [
    pytest.param(case, backend, id=f"{case.key}/{backend}")
    for case in throughput.cases("throughput").values()
    for backend in throughput.backends()
]


@pytest.mark.parametrize(("case", "backend"), EVERYTHING)
def test_throughput(benchmark, case: Case, backend: str):
    try:
        prepared = prepare(case, backend)
    except Skip as reason:
        pytest.skip(str(reason))
    call, wait = prepared.call, prepared.wait
    benchmark(lambda: (call(), wait()))
