"""`show` on a screen of 80 columns: every case under its parameters, no line too long, what is left out counted."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from lstm_bench.views import tables
from results.store import REFERENCE

H100 = REFERENCE / "2026-11-26-h100"


def shown(monkeypatch: pytest.MonkeyPatch, width: int) -> list[str]:
    text = io.StringIO()
    monkeypatch.setattr(tables, "console", lambda: Console(file=text, width=width, highlight=False, no_color=True))
    tables.show([H100 / "173700-throughput.jsonl", H100 / "182414-throughput.jsonl"], None, as_json=False)
    return text.getvalue().splitlines()


def test_eighty_columns(monkeypatch):
    lines = shown(monkeypatch, 80)
    assert max(map(len, lines)) <= 80
    place = lines.index("throughput: inference, LSTM H256 T256 B16, bfloat16 on cuda")
    assert [line.removeprefix("*").split()[:3] for line in lines[place + 2 : place + 5]] == [
        ["cuda", "284", "µs"], ["jax", "1.87", "ms"], ["cudnn", "5.58", "ms"],
    ]  # fmt: skip
    assert "19.6×" in lines[place + 2] and "baseline" in lines[place + 4]
    assert "16 outcomes of an invalid CUDA context are left out" in " ".join(" ".join(lines).split())
