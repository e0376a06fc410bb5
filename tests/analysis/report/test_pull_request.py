"""Markdown for pull requests: the verdict in the first line, one screen, a chart beside it, everything else folded."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from analysis.report import markdown, pull_request
from analysis.report.findings import Findings
from analysis.report.overview import overview
from analysis.report.page import Report
from analysis.report.pull_request import Dot, Panel

ONE_SCREEN, COLUMNS = 40, 80


def shown_lines(text: str) -> list[str]:
    """What a reader sees before unfolding anything: lines of 80 columns, without the chart."""
    text = re.sub(r"<details><summary>(.*?)</summary>.*?</details>", r"\1", text, flags=re.DOTALL)
    lines = [re.sub(r"[*`#|]+", " ", line).strip() for line in text.splitlines() if not line.startswith(("![", "|---"))]
    return [part for line in lines if line for part in textwrap.wrap(line, COLUMNS)]


def test_the_report_is_one_screen_with_its_verdict_first(report: Report, found: Findings) -> None:
    text = report.markdown.read_text(encoding="utf-8")
    first = text.splitlines()[0]
    assert first == f"### {overview(found).headline}" and "onnxruntime" in first
    shown = shown_lines(text)
    assert 5 < len(shown) <= ONE_SCREEN, "\n".join(shown)
    for card in overview(found).cards:
        assert card.value in text.split("<details>")[0] and card.verdict in text.split("<details>")[0]
    assert text.count("<details>") == text.count("</details>") >= 1
    assert "![Speedup by phase with 95 % intervals](report.png)" in text
    assert (report.markdown.parent / "report.png").read_bytes().startswith(b"\x89PNG")


def test_many_sections_stay_one_screen(found: Findings) -> None:
    text = markdown.render([found] * 12, [overview(found)] * 12, [("All", "nothing")], "today", "report.png")
    assert len(shown_lines(text)) <= ONE_SCREEN and "more lines below" in text
    assert text.splitlines()[0] == "### LSTM backends, measured on imaginary-cpu"


def test_a_text_of_elsewhere_brings_no_html() -> None:
    text = pull_request.document("<b>verdict", ["<i>"], None, pull_request.table(["a|b"], [["<u>|x"]]), [("<s>", "folded")])
    assert not re.search(r"<(b|i|u|s)>", text) and "&lt;u>\\|x" in text


def dot(value: float, low: float | None, high: float | None) -> Dot:
    return Dot("backend", value, low, high, "#ff0000")


def red_columns(path: Path) -> np.ndarray:
    """The columns of pixels of a chart that hold the colour of its one row."""
    image = imread(path)
    return np.flatnonzero(((image[..., 0] > 0.9) & (image[..., 1] < 0.2) & (image[..., 2] < 0.2)).any(axis=0))


def draw(path: Path, *dots: Dot) -> None:
    pull_request.chart([Panel("panel", dots)], "speedup", "1", path, lambda value: f"{value:g}")


def test_the_chart_has_the_text_width_and_its_intervals(tmp_path: Path) -> None:
    draw(tmp_path / "with.png", dot(2.0, 1.5, 2.6))
    draw(tmp_path / "without.png", dot(2.0, None, None))
    assert imread(tmp_path / "with.png").shape[1] == 1240
    wide, narrow = (np.ptp(red_columns(tmp_path / name)) for name in ("with.png", "without.png"))
    assert wide > 5 * narrow > 0


def test_an_interval_beyond_all_bounds_does_not_set_the_scale() -> None:
    low, high = pull_request._range([dot(2.0, 1.5, 2.6), dot(1.1, 1e-6, 1e6)])
    assert 0.3 < low < 1 and 2.6 < high < 6


@pytest.mark.parametrize(("low", "high"), [(0.97, 1.08), (0.2, 12), (0.001, 1000), (0.9, 1.7)])
def test_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    ticks = pull_request._ticks(low, high, 6)
    assert 2 <= len(ticks) <= 6 and low <= ticks[0] and ticks[-1] <= high
    assert all(float(f"{tick:.3g}") == pytest.approx(tick) for tick in ticks)
