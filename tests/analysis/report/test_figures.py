"""Every figure draws what is there, says so in computed words, and is None where there is nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from analysis.report import drawing as report_drawing
from analysis.report.drawing import FAINT, GRID, INK, PAPER, UNDECIDED, Drawing
from analysis.report.findings import Findings, find_out, timings
from analysis.report.groups import groups
from analysis.report.load import load, rows_of
from analysis.report.words import format_significant
from analysis.statistics.rankings import rank_grids
from analysis.studies.memory import figures as memory_figures
from analysis.studies.throughput import figures as throughput_figures
from analysis.studies.throughput import maps
from tests.analysis.synthetic import Synthetic, write


def draw(found: Findings, rows: slice = slice(None)) -> dict[str, Drawing | None]:
    """Every figure of a section's cpu; `rows` cuts all frames to test what is missing."""
    series, cases, times = found.section.series.iloc[rows], found.cases.iloc[rows], timings(found.section).iloc[rows]
    rankings = {phase: ranking for (_, phase, _), ranking in found.rankings.items()} if rows == slice(None) else {}
    return {
        "batch": throughput_figures.draw_throughput(cases, "batch"),
        "hidden_size": throughput_figures.draw_throughput(cases, "hidden_size"),
        "steps": throughput_figures.draw_throughput(cases, "steps"),
        "latency": throughput_figures.draw_latency(times),
        "heatmap": maps.draw_heatmap(cases, times, "median"),
        "roofline": throughput_figures.draw_roofline(cases, series[series["backend"] == "machine"]),
        "memory": memory_figures.draw(series),
        "ratios": throughput_figures.draw_ratio(cases, rankings, "torch"),
    }


@pytest.fixture(scope="module")
def drawn(found: Findings) -> dict[str, Drawing | None]:
    return draw(found)


def test_every_figure_draws_and_speaks(drawn: dict[str, Drawing | None]) -> None:
    for name, drawing in drawn.items():
        assert drawing is not None, name
        assert any(axes.has_data() or axes.patches or axes.texts for axes in drawing.figure.axes), name
        assert drawing.caption.endswith(".") and "nan" not in drawing.caption, drawing.caption


def test_the_roofs_of_memories_are_named_from_above(found: Findings) -> None:
    peaks = [("gemm", 1e12), ("copy", 2e10), ("copy_l3", 9e10), ("copy_l2", 8e10)]
    ceilings = pd.DataFrame([{"metric": metric, "samples": np.array([peak])} for metric, peak in peaks])
    for some, names in ((ceilings, "Slopes from above: L3, L2 and memory."), (ceilings[:2], "")):
        drawing = throughput_figures.draw_roofline(found.cases, some)
        assert drawing is not None and names in drawing.caption and ("Slopes" in drawing.caption) == bool(names)


def test_a_speedup_over_other_replicates_is_said(found: Findings) -> None:
    logs = np.log([[[1.0], [1.1], [1.0], [4.0]], [[0.5], [0.6], [0.5], [0.5]], [[0.3], [0.3], [0.4], [np.nan]]])

    def caption(replicates: int) -> str:
        grids = dict(zip(("torch", "jax", "onnxruntime"), logs[:, :replicates], strict=True))
        drawing = throughput_figures.draw_ratio(found.cases, {"forward": rank_grids(grids, "torch")}, "torch")
        assert drawing is not None
        return drawing.caption

    assert "3 to 4 replicates; each is compared over those that torch has too." in caption(4)
    assert "is compared over" not in caption(3)


def test_nothing_to_show_is_none(found: Findings) -> None:
    assert set(draw(found, slice(0, 0)).values()) == {None}


def test_captions_are_computed(drawn: dict[str, Drawing | None], found: Findings) -> None:
    best = rows_of(found.cases[found.cases["phase"] == "step"].nsmallest(1, "seconds"))[0]
    caption = drawn["latency"] and drawn["latency"].caption
    assert caption and f"{best['backend']}’s" in caption
    assert drawn["ratios"] is not None
    inference = next(axes for axes in drawn["ratios"].figure.axes if axes.get_title(loc="left").startswith("Inference"))
    ratios = found.rankings["cpu", "forward", "eager"].ratios
    decided = {format_significant(ratio.value) for ratio in ratios.values() if ratio.verdict is not None}
    assert decided and decided == {text.get_text() for text in inference.texts if text.get_fontweight() == "bold"}
    assert len({axes.get_xlim() for axes in drawn["ratios"].figure.axes}) == 1, "one scale for all panels"
    caption = drawn["heatmap"] and drawn["heatmap"].caption
    assert caption and caption.startswith("Fastest of 30 cells: onnxruntime in 18 and torch in 12;")


def test_a_lead_within_the_noise_is_not_decided(tmp_path: Path) -> None:
    what = Synthetic(backends=("torch", "cudnn"), batches=(1, 8), hiddens=(64, 128), between=0.05, replicates=3)
    found = find_out(load([write(what, tmp_path)])[0])
    drawing = maps.draw_heatmap(found.cases, timings(found.section), "median")
    assert drawing is not None and "inconclusive in" in drawing.caption
    assert "inconclusive" in {text.get_text() for axes in drawing.figure.axes for text in axes.texts}


def test_one_replicate_decides_nothing(tmp_path: Path) -> None:
    found = find_out(load([write(Synthetic(replicates=1, hiddens=(64, 128), batches=(1, 8)), tmp_path)])[0])
    drawing = maps.draw_heatmap(found.cases, timings(found.section), "median")
    assert drawing is not None and "inconclusive in 12" in drawing.caption


def test_svg_is_clean_and_follows_the_page(drawn: dict[str, Drawing | None]) -> None:
    drawing = drawn["batch"]
    assert drawing is not None
    text = report_drawing.inline(drawing.figure, "one", drawing.title)
    ElementTree.fromstring(text)
    ElementTree.fromstring(report_drawing.alone(text))
    assert "currentColor" in text and "var(--grid" in text and ">batch size B</text>" in text
    for sentinel in (INK, GRID, PAPER, FAINT, UNDECIDED):
        assert sentinel not in text
    for unwanted in ("DejaVu", "xlink", "<metadata", "<!--"):
        assert unwanted not in text


def test_two_devices_have_figures_each(tmp_path: Path) -> None:
    small = Synthetic(phases=("step",), hiddens=(64,), backends=("torch", "jax"), memory=False)
    write(small, tmp_path)
    write(replace(small, run="b", device="cuda", seed=9), tmp_path)
    found = find_out(load([tmp_path])[0])
    files = [picture.file for group in groups(found) for picture in group.pictures]
    assert {"speedup-by-phase-cpu.svg", "speedup-by-phase-cuda.svg", "latency-cuda.svg"} <= set(files)
    assert len(files) == len(set(files))


def test_memory_prefers_what_compares_across_frameworks(found: Findings) -> None:
    series = found.section.series[found.section.series["metric"] == "rss_peak"]
    both = pd.concat([series, series.assign(metric="alloc_peak")], ignore_index=True)
    drawing = memory_figures.draw(both)
    assert drawing is not None and "resident memory" in drawing.caption
