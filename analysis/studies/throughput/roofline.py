"""Achieved FLOP/s over arithmetic intensity under this machine's own ceilings (Williams, Waterman & Patterson 2009)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.report import words
from analysis.report.drawing import Drawing, legend, log_units, log_values, look, panels
from analysis.report.load import rows_of
from analysis.report.style import INK, PAPER, style


def draw(cases: pd.DataFrame, ceilings: pd.DataFrame) -> Drawing | None:
    """cases: as in `Findings.cases`; ceilings: rows of `series` of backend `machine`; both of one device and data type."""
    roof = {
        str(metric): max(float(samples.max()) for samples in part["samples"]) for metric, part in ceilings.groupby("metric")
    }
    if "gemm" not in roof or "copy" not in roof or not {"count_flops", "count_least_bytes"} <= set(cases):
        return None
    points = cases.assign(intensity=cases["count_flops"] / cases["count_least_bytes"])
    points = points[points["phase"].isin(words.PHASES) & (points["intensity"] > 0) & (points["flops_per_second"] > 0)]
    if points.empty:
        return None
    points = points.assign(bound=np.minimum(roof["gemm"], points["intensity"] * roof["copy"]))
    points = points.assign(share=points["flops_per_second"] / points["bound"])
    phases = [phase for phase in words.PHASES if (points["phase"] == phase).any()]
    with look():
        figure, grid = panels(len(phases))
        span = points["intensity"].min() / 2, max(points["intensity"].max(), roof["gemm"] / roof["copy"]) * 2
        low, high = points["flops_per_second"].min() / 2, max(roof["gemm"], points["flops_per_second"].max()) * 1.8
        for axes, phase in zip(grid[0], phases, strict=True):
            _panel(axes, points[points["phase"] == phase], roof, span)
            axes.set_title(words.PHASES[phase].capitalize())
            axes.set_ylim(low, high)
            log_units(axes.yaxis, "", low, high)
        grid[0][0].set_ylabel("achieved FLOP/s")
        legend(figure, points["backend"].unique(), [Line2D([], [], color=INK, lw=1.2, label="measured ceilings")])
    return Drawing(figure, "Roofline", _caption(points, roof, phases))


def _panel(axes: Axes, points: pd.DataFrame, roof: dict[str, float], span: tuple[float, float]) -> None:
    ridge = roof["gemm"] / roof["copy"]
    axes.plot([span[0], ridge, span[1]], [span[0] * roof["copy"], roof["gemm"], roof["gemm"]], color=INK, lw=1.2, zorder=1)
    for backend, rows in points.groupby("backend", sort=False):
        own = style(str(backend))
        axes.plot(
            rows["intensity"], rows["flops_per_second"], own.marker, color=own.colour, mec=PAPER, mew=0.6, alpha=0.9, zorder=3
        )
    axes.set(xscale="log", yscale="log", xlim=span, xlabel="arithmetic intensity, FLOP/B")
    axes.tick_params(labelleft=True)
    log_values(
        axes.xaxis, [10.0**power for power in range(int(np.floor(np.log10(span[0]))), int(np.ceil(np.log10(span[1]))) + 1)]
    )
    axes.set_xlim(span)


def _caption(points: pd.DataFrame, roof: dict[str, float], phases: list[str]) -> str:
    said = []
    for phase in phases:
        rows = points[points["phase"] == phase]
        row = rows_of(rows.nlargest(1, "share"))[0]
        said.append(f"{words.percent(row['share'])} in {words.PHASES[phase]} ({row['backend']}, {words.sizes(row)})")
    ceilings = f"{words.scaled(roof['gemm'], 'FLOP/s')} of matrix products and {words.scaled(roof['copy'], 'B/s')} of copying"
    text = f"The nearest to the measured ceilings ({ceilings}): {words.listed(said)}."
    if (points["share"] > 1).any():
        above = int((points["share"] > 1).sum())
        text += f" {words.count(above, 'point')} above the roof: what stays in cache need not cross memory, "
        text += "or the ceilings were measured low."
    return text
