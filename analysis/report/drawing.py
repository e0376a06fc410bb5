"""What every figure shares: the grid of panels, quiet axes, one legend, units on ticks, the caption beside the drawing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from analysis.report import words
from analysis.report.style import FAINT, GRID, INK, PAPER, ordered, style

PANEL_WIDTH, PANEL_HEIGHT, LEGEND_WIDTH = 3.55, 2.75, 1.35  # inches; the last of one entry of a legend


@dataclass(frozen=True, slots=True)
class Drawing:
    """caption: one sentence or two of what is seen, computed from the data."""

    figure: Figure
    title: str
    caption: str


def look() -> AbstractContextManager[None]:
    """Matplotlib settings under which figures are drawn: text stays text, ink and grid are sentinels for `analysis.report.svg`."""
    return matplotlib.rc_context(
        {
            "font.size": 9, "axes.titlesize": 9.5, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlepad": 8,
            "axes.labelsize": 9, "text.color": INK, "axes.labelcolor": INK, "axes.titlecolor": INK, "axes.edgecolor": FAINT,
            "axes.linewidth": 0.8, "axes.facecolor": "none", "axes.spines.top": False, "axes.spines.right": False,
            "axes.grid": True, "axes.axisbelow": True, "grid.color": GRID, "grid.linewidth": 0.8, "xtick.color": FAINT,
            "ytick.color": FAINT, "xtick.labelcolor": INK, "ytick.labelcolor": INK, "xtick.labelsize": 8.5,
            "ytick.labelsize": 8.5, "figure.facecolor": "none",
            "legend.frameon": False, "legend.labelcolor": INK, "legend.fontsize": 9,
            "lines.linewidth": 1.6, "lines.markersize": 5.5, "svg.fonttype": "none", "svg.hashsalt": "lstm-bench",
        }
    )  # fmt: skip


def panels(columns: int, rows: int = 1, height: float = PANEL_HEIGHT, share_y: bool = True) -> tuple[Figure, list[list[Axes]]]:
    """A figure of rows × columns panels, each of the same size whatever their number."""
    # One column alone needs room for its axis labels and legend.
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, wspace=0.03, hspace=0.06)
    figure = Figure(figsize=(PANEL_WIDTH * columns + 0.4 + 0.8 * (columns == 1), height * rows + 0.5), layout=layout)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=share_y)
    return figure, [list(row) for row in axes]


def legend(figure: Figure, backends: Iterable[str], more: Sequence[Line2D] = ()) -> None:
    """One legend above all panels."""
    handles = [mark(name) for name in ordered(backends)] + list(more)
    columns = max(int(figure.get_figwidth() / LEGEND_WIDTH), 2)
    figure.legend(
        handles=handles, loc="outside upper left", ncols=min(len(handles), columns), handlelength=1.8, columnspacing=1.6
    )


def mark(backend: str) -> Line2D:
    own = style(backend)
    return Line2D(
        [],
        [],
        color=own.colour,
        marker=own.marker,
        linestyle=own.dash,
        markeredgecolor=PAPER,
        markeredgewidth=0.6,
        label=backend,
    )


def log_values(axis: Axis, values: Iterable[float]) -> None:
    """A logarithmic axis with a tick at each measured value, thinned where they would touch."""
    ticks = sorted(set(values))
    while len(ticks) > 7:
        ticks = ticks[::2]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def log_units(axis: Axis, unit: str, low: float, high: float) -> None:
    """A logarithmic axis with SI prefixes, with ticks at 1, 2, 5 where it spans less than a decade and a half."""
    axis.set_major_locator(LogLocator(10, subs=(1,) if high / low > 30 else (1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value, unit)))
    axis.set_minor_formatter(NullFormatter())
    axis.set_minor_locator(NullLocator())


def short(value: float, unit: str) -> str:
    """A round number as ticks want it: 10 k, 2 ms."""
    number, _, rest = words.scaled(value, unit).partition(" ")
    number = number.rstrip("0").rstrip(".") if "." in number else number
    return f"{number} {rest}".rstrip()


def blank(axes: Iterable[Axes]) -> None:
    """Take unused panels away."""
    for each in axes:
        each.set_axis_off()
