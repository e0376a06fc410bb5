"""The forecast is honest: nothing before it knows anything, then what is left times what it took."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from rich.console import Console

from lstm_bench.views.progress import Forecast, LiveDisplay, PlainDisplay, for_terminal, packed, result, shortened
from results.output import format_si
from results.record import Measurement, Record


def record(backend: str, seconds: float = 2.0, **outcome) -> Record:
    values = {"status": "ok", "measurements": (Measurement("time", "s", (0.00123,)),)} | outcome
    return Record("throughput", "case", backend, 0, parameters={}, seconds=seconds, **values)


def test_the_time_left_is_estimated_after_the_first_replicate():
    forecast = Forecast()
    forecast.on_planned("throughput", 20)
    forecast.on_records([record("numpy")])
    assert forecast.remaining() == "estimating"
    forecast.on_records([record(name) for name in ("a", "b", "c")])
    assert forecast.remaining() == "about 32 s left"
    forecast.on_planned("throughput", -6)
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
    assert [format_si(2.5e-7, "s"), format_si(3e-5, "s"), format_si(0.9999, "s")] == ["250 ns", "30.0 µs", "1.00 s"]


@pytest.mark.parametrize(("terminal", "kind"), [("xterm", LiveDisplay), ("dumb", PlainDisplay)])
def test_a_terminal_that_redraws_nothing_gets_plain_lines(terminal: str, kind: type, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert isinstance(for_terminal(), kind)


WHAT = "replicate 3  lstm-I10-H8-T5-B8-forward_backward-float32-cpu-probe=learning-task=recall  torch_compile: 12.3 ms"


@pytest.mark.parametrize("width", [80, 40])
@pytest.mark.parametrize(("done", "total", "remaining"), [(3, 12, "estimating"), (1033, 1440, "2 h 14 min left")])
def test_progress_keeps_bar_count_and_time_to_finish_on_one_line(width: int, done: int, total: int, remaining: str):
    screen = Console(file=io.StringIO(), width=width, color_system=None, record=True)
    display = LiveDisplay(screen)
    if width == 80 and remaining != "estimating":
        remaining = f"about {remaining}"
    display.now = WHAT
    display.progress.update(display.task, completed=done, total=total, remaining=remaining)
    screen.print(display.progress.get_renderable())
    first, second = screen.export_text().splitlines()
    assert len(first) <= width and len(second) <= width
    assert re.match(r"[━╸╺ ]{10}", first) and f"{done}/{total}" in first and remaining in first
    assert second.startswith("replicate 3") and second.endswith("torch_compile: 12.3 ms"[-(width // 2 - 1) :])


def test_a_result_stands_below_its_case_and_wraps_at_words():
    screen = Console(file=io.StringIO(), width=40, color_system=None, record=True)
    LiveDisplay(screen).on_records([record(name) for name in ("torch_compile", "onnxruntime", "numpy")])
    case, *results = screen.export_text().splitlines()
    assert case == "case" and len(results) == 2 and all(line.startswith("  ") and len(line) <= 40 for line in results)


def test_lines_break_between_backends_and_not_before_a_unit():
    lines = packed("torch_compile 1.23 ms  numpy 624 µs  a very long reason why something failed  2 skipped", 34).splitlines()
    assert lines == ["torch_compile 1.23 ms", "numpy 624 µs", "a very long reason why something failed", "2 skipped"]


def test_what_runs_now_loses_its_middle_and_no_more_than_it_must():
    assert shortened("short", 10) == "short" and shortened("0123456789", 10) == "0123456789"
    assert len(shortened(WHAT, 79)) <= 79 and shortened(WHAT, 40).startswith("replicate 3  lstm-")


def test_a_real_terminal_of_80_columns_gets_lines_that_fit(tmp_path: Path):
    """What the terminal is sent, line by line: nothing is left for it to wrap."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    command = [sys.executable, "-m", "lstm_bench", "run", "smoke", "--backend", "numpy", "--where", "phase=forward_backward"]
    variables = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    running = subprocess.Popen(
        [*command, "--out", str(tmp_path)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs,
        env=variables | {"TERM": "xterm-256color", "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    os.close(theirs)
    said = b""
    while select.select([ours], [], [], 60)[0]:
        try:
            said += os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
    assert running.wait(60) == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode())
    lines = [part for line in plain.split("\n") for part in line.split("\r")]
    drawn = [line for line in lines if "━" in line]
    assert drawn and max(map(len, drawn)) <= 80 and any(re.search(r"[━╸╺ ] *[0-9]+/[0-9]+ [0-9:]+ ", line) for line in drawn)
    assert any(line == "lstm-I32-H32-T8-B4-forward_backward-float32-cpu" for line in lines), lines


def test_pairs_that_are_measured_until_they_decide_are_counted():
    screen = Console(file=io.StringIO(), width=80, color_system=None, record=True)
    display = LiveDisplay(screen)
    for _ in range(3):
        display.on_records([record("numpy"), record("torch")])
    screen.export_text()
    screen.print(display.progress.get_renderable())
    first = screen.export_text().splitlines()[0]
    assert " 3/? " in first and first.rstrip().endswith("until decided")
