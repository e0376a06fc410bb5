"""What the table of instruments says of ratios that are known."""

from __future__ import annotations

import pytest

from tests.perf.side_by_side import rows


def line(*ratios: float | None) -> dict[str, dict[str, object]]:
    return {"ratios": {"paired, median": {str(n): ratio for n, ratio in enumerate(ratios)}}, "seconds": {"paired": 12.0}}


def test_coverage_of_95_percent_needs_59_ratios_without_a_miss():
    ((name, count, misses, share, off, cost),) = rows([line(*[1.001] * 30), line(*[0.999] * 29)])
    assert (name, count, misses, cost, len(off)) == ("paired, median", 59, 0, 12.0, 59) and share == pytest.approx(
        0.05 ** (1 / 59)
    )
    assert share > 0.95
    ((_, _, misses, share, off, _),) = rows([line(*[1.001] * 58, 1.04)])
    assert misses == 1 and share < 0.95 and off[-1] == pytest.approx(0.0392, abs=1e-3)


def test_a_comparison_that_came_to_nothing_is_a_miss():
    ((_, count, misses, share, _, _),) = rows([line(None)])
    assert (count, misses, share) == (1, 1, 0.0)
