"""Names and notes with numbers in them are read back as they were made."""

from __future__ import annotations

import pytest

from results.metrics import HOP_SHARE, LOG_GRADIENT_AFTER, Gap


@pytest.mark.parametrize("metric", [HOP_SHARE, LOG_GRADIENT_AFTER], ids=lambda metric: metric.stem)
def test_a_numbered_metric_is_read_as_it_was_made(metric):
    assert metric.number(metric.name(10)) == 10
    assert [metric.number(f"{metric.stem}{other}") for other in ("", "_at_10", "_x", "_1_0", "s_10")] == [None] * 5


@pytest.mark.parametrize("gap, note", [
    (Gap("log_gradient", True, 3, 24), "log_gradient is exactly zero at lag 24 for seed 3"),
    (Gap("decay", False, 0), "decay is not finite for seed 0"),
])  # fmt: skip
def test_a_gap_is_read_as_it_was_noted(gap, note):
    assert gap.note() == note and Gap.from_note(note) == gap


def test_other_notes_are_no_gaps():
    assert [Gap.from_note(note) for note in ("no_steady_state", "x is exactly zero at lag 1", "")] == [None] * 3
