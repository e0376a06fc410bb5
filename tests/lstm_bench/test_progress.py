"""The forecast is honest: nothing before it knows anything, then what is left times what it took."""

from __future__ import annotations

import pytest

from lstm_bench.progress import Forecast, LiveDisplay, PlainDisplay, for_terminal, in_unit, result
from results.record import Measurement, Record


def record(backend: str, seconds: float = 2.0, **outcome) -> Record:
    values = {"status": "ok", "measurements": (Measurement("time", "s", (0.00123,)),)} | outcome
    return Record("throughput", "case", backend, 0, parameters={}, seconds=seconds, **values)


def test_says_it_is_estimating_until_it_knows_and_then_multiplies():
    forecast = Forecast()
    forecast.expect("throughput", 20)
    forecast.recorded([record("numpy")])
    assert forecast.remaining() == "estimating"
    forecast.recorded([record(name) for name in ("a", "b", "c")])
    assert forecast.remaining() == "about 32 s left"
    forecast.expect("throughput", -6)
    assert forecast.remaining() == "about 20 s left"
    assert (forecast.done, forecast.total) == (4, 14)


def test_a_result_names_the_fastest_first_and_what_went_wrong():
    slow = record("slow", measurements=(Measurement("time", "s", (0.5,)),))
    failed = record("odd", status="failed", kind="crash", reason="killed by SIGSEGV")
    skipped = record("cudnn", status="skipped", reason="no GPU")
    text = result([slow, failed, record("fast"), skipped])
    assert text == "fast 1.23 ms  slow 500 ms  odd failed (crash): killed by SIGSEGV  1 skipped"


def test_a_pair_keeps_its_order_whichever_is_faster():
    slow = record("torch", measurements=(Measurement("time", "s", (0.5,)),))
    assert result([slow, record("torch")]) == "torch  base 500 ms  new 1.23 ms"
    failed = record("torch", status="failed", kind="crash", reason="killed by SIGSEGV")
    assert result([slow, failed]) == "torch  base 500 ms  new failed (crash): killed by SIGSEGV"


def test_units_are_those_people_read():
    assert [in_unit(2.5e-7, "s"), in_unit(3e-5, "s"), in_unit(4.56e7, "B")] == ["250 ns", "30 µs", "45.6 MB"]


@pytest.mark.parametrize(("terminal", "kind"), [("xterm", LiveDisplay), ("dumb", PlainDisplay)])
def test_a_terminal_that_redraws_nothing_gets_plain_lines(terminal: str, kind: type, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert isinstance(for_terminal(), kind)
