"""What goes into a pull request: Markdown of one screen, its verdict in the first line, beside a chart as PNG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results import output
from results.output import in_markdown, without_html

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, SOFT, GRID = "#1b1d21", "#5d626b", "#e4e4de"  # on white, whatever the reader's colour scheme: a PNG cannot follow it
WIDTH, ROW, MARGINS = 12.4, 0.3, 1.35  # inches: of the text, a row, and what stands above and below the rows
DPI = 100
MOST_ROWS = 16  # of a chart
BEYOND = 2.5  # an interval may reach so much farther than the values, as a factor; what lies beyond is an arrow
STEPS = (1, 1.2, 1.5, 2, 3, 5, 7)


@dataclass(frozen=True, slots=True)
class Dot:
    """A row of a chart: a factor with its 95 % interval, None where there is none; hollow: the baseline."""

    label: str
    value: float
    low: float | None
    high: float | None
    colour: str
    marker: str = "o"
    hollow: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """Rows under a title."""

    title: str
    dots: tuple[Dot, ...]


def document(
    verdict: str,
    facts: Sequence[str] = (),
    image: tuple[str, str] | None = None,
    table: Sequence[str] = (),
    folded: Sequence[tuple[str, str]] = (),
) -> str:
    """Markdown for a pull request.

    Args:
        verdict: the first line.
        facts: short sentences below it, one a line of a list.
        image: what the chart shows, and its file relative to this one.
        table: lines of a table.
        folded: what each fold holds, and its Markdown.
    """
    lines = [f"### {without_html(verdict)}", "", *(f"- {without_html(fact)}" for fact in facts)]
    if image:
        lines += ["", f"![{in_markdown(image[0])}]({image[1]})"]
    if table:
        lines += ["", *table]
    for summary, text in folded:
        lines += ["", f"<details><summary>{without_html(summary)}</summary>", "", text.strip("\n"), "", "</details>"]
    return "\n".join(lines).rstrip() + "\n"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; cells are made fit for one."""
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return head + ["| " + " | ".join(map(in_markdown, row)) + " |" for row in rows]


def chart(panels: Sequence[Panel], label: str, at_one: str, path: Path, tick: Callable[[float], str]) -> None:
    """Draw factors on one logarithmic scale for all panels, as PNG of full text width.

    Args:
        panels: side by side, with the same rows or with their own.
        label: of the axis.
        at_one: what a factor of 1 is, written at its line.
        path: the file.
        tick: a factor as text.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {
        "font.size": 10.5, "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left", "text.color": INK,
        "axes.labelcolor": INK, "xtick.color": SOFT, "ytick.color": INK, "xtick.labelcolor": INK, "axes.edgecolor": GRID,
        "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    }  # fmt: skip
    low, high = _range([dot for panel in panels for dot in panel.dots])
    with matplotlib.rc_context(settings):
        rows = max(len(panel.dots) for panel in panels)
        figure = Figure(figsize=(WIDTH, MARGINS + ROW * max(rows, 3)), dpi=DPI, layout="constrained", facecolor="white")
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            _draw(axes, panel, low, high)
            ticks = _ticks(low, high, 6 if len(panels) == 1 else 4)
            axes.set_xticks(ticks, [tick(value) for value in ticks])
            axes.set_xlabel(label)
            axes.annotate(
                at_one, (1, 1), xycoords=axes.get_xaxis_transform(), xytext=(3, -1), textcoords="offset points", va="bottom",
                fontsize=9.5, color=SOFT,
            )  # fmt: skip
        FigureCanvasAgg(figure)
        with output.replacing(path) as part:
            figure.savefig(part, format="png", metadata={"Software": None})


def _draw(axes: Axes, panel: Panel, low: float, high: float) -> None:
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.axvline(1, color=SOFT, lw=1)
    axes.grid(axis="x", color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.minorticks_off()
    for place, dot in enumerate(panel.dots):
        if dot.low is not None and dot.high is not None:
            ends = max(dot.low, low), min(dot.high, high)
            axes.plot(ends, (place, place), color=dot.colour, lw=1.6)
            for end, bound, arrow in ((ends[0], dot.low, "<"), (ends[1], dot.high, ">")):
                beyond = end != bound
                axes.plot(end, place, arrow if beyond else "|", color=dot.colour, markersize=7, clip_on=False)
        face = "white" if dot.hollow else dot.colour
        axes.plot(dot.value, place, dot.marker, color=dot.colour, markerfacecolor=face, markersize=7)
    axes.set_yticks(range(len(panel.dots)), [dot.label for dot in panel.dots])
    axes.set_ylim(len(panel.dots) - 0.4, -0.6)
    axes.tick_params(axis="both", length=0)
    axes.set_title(panel.title, pad=18)


def _range(dots: Sequence[Dot]) -> tuple[float, float]:
    """Of the axis: all values and 1, and of the intervals what does not reach much farther."""
    values = [1.0, *(dot.value for dot in dots)]
    least, most = min(values), max(values)
    lows = [max(dot.low, least / BEYOND) for dot in dots if dot.low is not None and dot.low > 0]
    highs = [min(dot.high, most * BEYOND) for dot in dots if dot.high is not None]
    low, high = min([least, *lows]), max([most, *highs])
    room = max((high / low) ** 0.06, 1.005)
    return low / room, high * room


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round factors: 1, 2, 5 of decades, or equal steps of percent where the axis spans less than a factor of 1.5."""
    if high / low < 1.5:
        step = next(size for size in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2) if (high - low) / size <= most)
        return [1 + step * number for number in range(math.ceil((low - 1) / step), math.floor((high - 1) / step) + 1)]
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in (STEPS, (1, 1.5, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(ticks) <= most:
            return ticks
    return ticks[:: math.ceil(len(ticks) / most)]
