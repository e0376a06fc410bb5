"""Lengths of time, read and spoken."""

from __future__ import annotations

import pytest

from lstm_bench.views.run_summary import InvalidDuration, seconds
from results.output import format_duration


@pytest.mark.parametrize(("text", "value"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5m", 90), (" 2H ", 7200)])
def test_reads_what_people_write(text: str, value: float):
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "10", "soon", "-5m", "0s", "5m3h"])
def test_refuses_the_rest(text: str):
    with pytest.raises(InvalidDuration, match="write it as 90s, 10m or 1h30m"):
        seconds(text)


@pytest.mark.parametrize(("value", "text"), [(12.4, "12 s"), (200, "3 min 20 s"), (1200, "20 min"), (3900, "1 h 5 min")])
def test_speaks_in_two_units(value: float, text: str):
    assert format_duration(value) == text
