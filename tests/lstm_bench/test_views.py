"""What commands show fits 80 columns, with nothing cut off that a reader needs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from analysis.report.summary import title
from lstm_bench.views import tables

RATIO = "1 234× [1 200, 1 270]"


def row(backend: str, **changes: str) -> dict[str, str]:
    values = {
        "machine": "m", "study": "throughput", "case": "key", "title": "throughput: inference, LSTM H32 T8 B4",
        "metric": "time", "baseline": "torch_compile", "backend": backend, "measured": "13.0 µs", "±": "±0.88 %",
        "tokens/s": "2.46 M", "ratio": RATIO, "notes": "no steady state",
    }  # fmt: skip
    return values | changes


def shown(*rows: dict[str, str]) -> str:
    screen = Console(file=io.StringIO(), width=80, color_system=None, highlight=False)
    tables._show_case(screen, rows)
    said = screen.file.getvalue()
    assert isinstance(said, str) and max(map(len, said.splitlines())) <= 80
    return said


@pytest.mark.parametrize("host", [{}, {"host": "1.23 ms"}], ids=["", "host"])
def test_a_case_is_a_table_with_the_fastest_marked(host):
    rows = [row("torch_compile", **host), row("onnxruntime", **host), row("slow", ratio="", notes="no steady state", **host)]
    said = shown(*rows).splitlines()
    assert said[0] == rows[0]["title"]
    first, second = said[2:4]
    assert first.startswith("*  torch_compile") and second.startswith("   onnxruntime")
    assert RATIO in first and RATIO in second and "…" not in "".join(said)
    assert ("1.23 ms" in first) == bool(host)
    assert said[-2] == "   torch_compile, onnxruntime, slow: no steady state", "what is noted of several is said once"


def test_a_comparison_fits_with_its_verdict_and_interval_whole():
    screen = Console(file=io.StringIO(), width=80, color_system=None, highlight=False)
    values = {"case": "lstm-I512-H512-T32-B32-forward_backward-float32-cpu", "metric": "time", "base": "39.0 µs", "pairs": "12"}
    change = {"new": "39.1 µs", "change": "+12.3 % [−14.1 %, +16.0 %]", "verdict": "UNDECIDED", "note": "not side by side " * 5}
    tables.comparison([values | change | {"backend": name} for name in ("torch_compile", "onnxruntime")], screen)
    said = screen.file.getvalue()
    assert isinstance(said, str) and max(map(len, said.splitlines())) <= 80 and "…" not in said
    assert said.splitlines()[0] == values["case"]
    for name in ("torch_compile", "onnxruntime"):
        (line,) = (line for line in said.splitlines() if line.startswith(f"{name} "))
        assert all(part in line for part in ("UNDECIDED", "39.0 µs", "39.1 µs", change["change"], "12"))
    assert " ".join(said.split()).count("not side by side") == 5, "said once for both"


def test_fastest_needs_two_backends_and_a_time():
    assert "*" not in shown(row("torch"))
    assert "*" not in shown(row("a", metric="memory"), row("b", metric="memory"))


def test_brackets_in_a_reason_are_no_style():
    assert "[above 104]" in shown(row("a", measured="failed", notes="out of range [above 104]"))


def test_a_case_is_named_by_its_parameters():
    values = {"study": "horizon", "phase": "forward_backward", "cell": "rnn", "hidden_size": 8, "steps": 5, "batch": 4,
              "dtype": "float32", "device": "cpu", "launch": "eager",
              "case": "rnn-I8-H8-T5-B4-cpu-probe=learning-lags=2/3"}  # fmt: skip
    assert title(values) == "horizon: training, RNN H8 T5 B4, float32 on cpu, probe=learning, lags=2/3"
