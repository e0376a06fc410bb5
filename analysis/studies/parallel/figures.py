"""Figures of study `parallel`: rounds by length and initialisation, processors that it takes, and seconds by length."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from analysis.report import words
from analysis.report.drawing import DASHES, INK, PALETTE, Drawing, look, panels, short
from analysis.statistics import quantities
from analysis.statistics.quantities import select
from analysis.statistics.seeds import Estimate
from analysis.studies import of_series, parallel

LOOKS = {  # by weights and Jacobian
    ("full", "full"): (PALETTE[0], "o"),
    ("full", "blocks"): (PALETTE[1], "s"),
    ("full", "quasi"): (PALETTE[2], "^"),
    ("diagonal", "blocks"): (PALETTE[6], "D"),
}
LANES = 16_896  # of float32, of an H100 SXM5
Point = tuple[float, Estimate]


def _points(series: pd.DataFrame, kind: tuple[str, str], over: str, quantity: str, more: str) -> list[Point]:
    """An estimate at each value of a column."""
    where = f"study=parallel,weights={kind[0]},jacobian={kind[1]},{more}"
    rows = select(series, where) if {"weights", "jacobian"} <= set(series.columns) else series.iloc[:0]
    values = sorted(rows[over].unique())
    found = [(float(value), quantities.estimate(quantity, rows, f"{over}={value:g}")) for value in values]
    return [(value, each) for value, each in found if each.measured]


def _line(axes: Axes, points: list[Point], colour: str, marker: str) -> None:
    """Means with their intervals; an open mark for what is a lower bound."""
    known = [(x, found.value, *found.reach) for x, found in points if found.value is not None]
    if known:
        x, value, below, above = np.array(known, float).T
        axes.errorbar(x, value, np.abs([below, above]), color=colour, marker=marker, capsize=2.5, elinewidth=1)
    for place, found in points:
        if found.value is None and found.beyond is not None:
            axes.plot([place], [found.beyond], color=colour, marker=marker, mfc="none", linestyle="")


def _ticks(axes: Axes, points: list[Point]) -> None:
    """At what was measured alone."""
    values = [value for value, _ in points]
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()


def _legend() -> list[Line2D]:
    return [
        Line2D([], [], color=colour, marker=marker, label=parallel.KIND_NAMES[kind]) for kind, (colour, marker) in LOOKS.items()
    ]


def _said(points: list[Point], quantity: str) -> str:
    return ", ".join(f"{words.format_number(x)}: {quantities.named(quantity).format(found)}" for x, found in points)


def draw_rounds(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; a panel an initialisation."""
    found = {
        (init, kind): _points(series, kind, "steps", "newton_rounds", f"probe=rounds,init={init},gain=1,{parallel.BASE}")
        for init, _ in parallel.INITS
        for kind in LOOKS
    }
    if not any(found.values()):
        return None
    with look():
        figure, (line,) = panels(len(parallel.INITS), height=3.0)
        for axes, (init, name) in zip(line, parallel.INITS, strict=True):
            for kind, (colour, marker) in LOOKS.items():
                _line(axes, found[init, kind], colour, marker)
            axes.set(xscale="log", yscale="log", ylim=(2, 150), xlabel="steps T", title=name)
            axes.set_yticks([2, 5, 10, 20, 50, 100], ["2", "5", "10", "20", "50", "100"])
            _ticks(axes, found[init, ("full", "full")])
        line[0].set_ylabel("rounds")
        figure.legend(handles=_legend(), loc="outside upper left", ncols=2)
    told = [
        f"{parallel.KIND_NAMES[kind]}, {name}: {_said(found[init, kind], 'newton_rounds')}"
        for init, name in parallel.INITS
        for kind in (("full", "full"), ("diagonal", "blocks"))
        if found[init, kind]
    ]
    return Drawing(
        figure,
        "Newton rounds vs length and initialisation",
        "Linear systems solved until |s − F(s)| ≤ 10⁻¹² for all steps of one sequence, H = 16, float64; mean over seeds, 95 % "
        f"t-interval; an open mark is the limit of 100, which some seed reached. By T: {'; '.join(told)}.",
    )


def draw_processors(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; over the width, beside an H100's lanes."""
    where = "probe=rounds,init=pytorch,gain=1,steps=256"
    found = {kind: _points(series, kind, "hidden_size", "processors", where) for kind in LOOKS}
    if not any(found.values()):
        return None
    with look():
        figure, ((axes,),) = panels(1, height=3.1)
        for kind, (colour, marker) in LOOKS.items():
            _line(axes, found[kind], colour, marker)
        axes.axhline(LANES, color=INK, lw=1.1, linestyle=DASHES[1])
        axes.set(xscale="log", yscale="log", xlabel="width H", ylabel="processors")
        axes.set_xticks([8, 16, 32, 64], ["8", "16", "32", "64"])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value, "")))
        axes.minorticks_off()
        lanes = Line2D([], [], color=INK, lw=1.1, linestyle=DASHES[1], label="lanes of an H100")
        figure.legend(handles=[*_legend(), lanes], loc="outside upper left", ncols=2)
    told = [f"{parallel.KIND_NAMES[kind]}: {_said(points, 'processors')}" for kind, points in found.items() if points]
    return Drawing(
        figure,
        "Processors from which on evaluation in parallel is the faster, by count",
        "Where work / processors + critical path of Newton's method falls below that of stepping (Brent 1974), T = 256, as "
        f"PyTorch initialises; memory and communication cost nothing here. By H: {'; '.join(told)}.",
    )


def draw_times(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; milliseconds of a forward pass over the length, a panel a kind."""
    kinds = [kind for kind in LOOKS if _points(series, kind, "steps", "newton_milliseconds", "probe=time,phase=forward")]
    if not kinds:
        return None
    lines = (  # quantity, label, colour, marker
        ("newton_milliseconds", "Newton's method", PALETTE[0], "o"),
        ("sequential_milliseconds", "fastest backend", PALETTE[4], "s"),
        ("loop_milliseconds", "loop of PyTorch calls", PALETTE[5], "^"),
    )  # fmt: skip
    with look():
        figure, (line,) = panels(len(kinds), height=3.0)
        told = []
        for axes, kind in zip(line, kinds, strict=True):
            for name, _, colour, marker in lines:
                _line(axes, _points(series, kind, "steps", name, "probe=time,phase=forward"), colour, marker)
            axes.set(xscale="log", yscale="log", xlabel="steps T", title=parallel.KIND_NAMES[kind])
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            _ticks(axes, _points(series, kind, "steps", "newton_milliseconds", "probe=time,phase=forward"))
            slower = _points(series, kind, "steps", "newton_slowdown", "probe=time,phase=forward")
            told.append(f"{parallel.KIND_NAMES[kind]}: {_said(slower, 'newton_slowdown')}")
        line[0].set_ylabel("milliseconds")
        handles = [Line2D([], [], color=colour, marker=marker, label=label) for _, label, colour, marker in lines]
        figure.legend(handles=handles, loc="outside upper left", ncols=3)
    return Drawing(
        figure,
        "Seconds of evaluation in parallel and of stepping",
        "Forward pass of one sequence in float32; geometric mean over seeds, 95 % t-interval. Time of Newton's method over "
        f"that of the fastest backend, by T: {'; '.join(told)}.",
    )


SECTION = ("parallel", "Parallel over time")
FIGURES = of_series({"rounds": draw_rounds, "processors": draw_processors, "times": draw_times})
