"""The precision horizon: the same gradient kept in three formats, until it is exactly zero."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.report.drawing import Drawing, look, panels
from analysis.report.style import FAINT, INK, PALETTE
from analysis.statistics import seeds, verdicts
from analysis.statistics.seeds import Estimate
from analysis.studies.gradients import decades, inits, precision

FORMATS = {"float16": PALETTE[0], "bfloat16": PALETTE[1], "float32": PALETTE[2]}
WIDTHS = {"float16": 1.2, "bfloat16": 2.0, "float32": 3.2}  # they lie on one another as long as all are right
SCALED = (0, (2.5, 1.5))
MOST_SHOWN = 320


def draw(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`."""
    rows = series[series["probe"] == "precision"] if "probe" in series else series.iloc[:0]
    if rows.empty:
        return None
    networks = [(str(cell), str(init)) for cell, init in rows[["cell", "init"]].drop_duplicates().itertuples(index=False)]
    with look():
        figure, grid = panels(len(networks), height=3.0)
        said = []
        for axes, (cell, init) in zip(grid[0], networks, strict=True):
            part = rows[(rows["cell"] == cell) & (rows["init"] == init)]
            axes.set_title(f"{cell.upper()}, {inits.name(init)}")
            said.append(_panel(axes, part, f"{cell.upper()} {inits.name(init)}"))
        grid[0][0].set_ylabel("largest number of dL/ds")
        handles = [Line2D([], [], color=colour, label=name) for name, colour in FORMATS.items()]
        handles.append(Line2D([], [], color=INK, linestyle=SCALED, label="loss × 2¹⁶"))
        handles.append(Line2D([], [], color=INK, marker="x", linestyle="", label="exactly zero from here"))
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), handlelength=1.8, columnspacing=1.4)
    caption = (
        "Trajectory and backward pass computed in the format itself, nothing scaled on the way. Zero from lag "
        f"(mean), and with the loss multiplied by 2¹⁶: {'; '.join(said)}. Grey: the smallest normal numbers. "
        "What never is zero may be frozen: the smallest number there is, times a forget gate above ½, rounds back to itself."
    )
    return Drawing(figure, "Where a gradient ends in few bits", caption)


def _panel(axes: Axes, rows: pd.DataFrame, name: str) -> str:
    said = []
    for kind, colour in reversed(FORMATS.items()):
        of = rows[rows["dtype"] == kind]
        if of.empty:
            continue
        for metric, dash in (("log_largest", "-"), ("log_largest_scaled", SCALED)):
            found = seeds.together(seeds.metric(of, metric))
            if not found.size:
                continue
            middle = found.mean(0) * decades.PER_NAT
            axes.plot(np.arange(len(middle)), middle, color=colour, linestyle=dash, lw=WIDTHS[kind])
            if len(middle) < int(of["steps"].iloc[0]):
                axes.plot(len(middle) - 1, middle[-1], "x", color=colour, ms=6, clip_on=False, zorder=4)
        plain, scaled = (_lag(precision.zero_lag(of, f"log_largest{end}")) for end in ("", "_scaled"))
        said.append(f"{kind} {plain} and {scaled}")
        axes.axhline(np.log10(precision.SMALLEST_NORMAL[kind]), color=FAINT, lw=0.8)
    axes.set_xlim(0, min(MOST_SHOWN, int(rows["steps"].iloc[0])))
    axes.set_ylim(-48, 8)
    decades.ticks(axes, (0, -10, -20, -30, -40))
    axes.set_xlabel("lag k, steps back from the loss")
    return f"{name}: {', '.join(said)}"


def _lag(found: Estimate) -> str:
    """Without the interval: the board has it."""
    return f"{found.value:.0f}" if found.value is not None else verdicts.spoken("zero_lag", found).partition(" [")[0]
