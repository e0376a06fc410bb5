"""The gradient's horizon before training against the lag that could be learnt, a panel a task."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.report.drawing import Drawing, log_values, look, panels
from analysis.report.style import FAINT, MARKERS, PALETTE, PAPER
from analysis.statistics import quantities, verdicts
from analysis.statistics.seeds import Estimate
from analysis.studies.horizon import foretelling
from analysis.studies.horizon.foretelling import Pair

TASKS = {"recall": "Recall", "adding": "Adding", "copy": "Copy", "temporal_order": "Temporal order"}
TICKS = (5, 10, 20, 50, 100, 200, 400)
LOOKS = {"rnn": (PALETTE[0], MARKERS[0]), "gru": (PALETTE[2], MARKERS[1]), "lstm": (PALETTE[4], MARKERS[2])}


def draw(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`."""
    rows = quantities.select(series, "probe=learning,truncation=0")
    if rows.empty:
        return None
    found = {task: foretelling.pairs(rows[rows["task"] == task]) for task in TASKS}
    found = {task: [pair for pair in each if pair.learnable.bounds and pair.horizon.bounds] for task, each in found.items()}
    found = {task: each for task, each in found.items() if each}
    if not found:
        return None
    with look():
        figure, grid = panels(len(found), height=3.3)
        for axes, (task, each) in zip(grid[0], found.items(), strict=True):
            _panel(axes, each)
            axes.set_title(TASKS[task])
        grid[0][0].set_ylabel("L50: lag that half of the networks learn, steps")
        handles = [Line2D([], [], color=colour, marker=marker, linestyle="", label=cell.upper())
                   for cell, (colour, marker) in LOOKS.items()]  # fmt: skip
        handles.append(Line2D([], [], color=FAINT, lw=1, label="L50 = n(10⁻³)"))
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    said = [f"{TASKS[task]} {_correlation(rows[rows['task'] == task])}" for task in found]
    caption = (
        f"A point is one initialisation of one cell; open towards where it is censored. Rank correlation: {', '.join(said)}."
    )
    return Drawing(figure, "Does the gradient's horizon foretell what is learnt?", caption)


def _correlation(rows: pd.DataFrame) -> str:
    return verdicts.spoken("horizon_rank_correlation", foretelling.rank_correlation(rows))


def _panel(axes: Axes, pairs: list[Pair]) -> None:
    for pair in pairs:
        colour, marker = LOOKS[pair.cell]
        x, y = _end(pair.horizon), _end(pair.learnable)
        known = pair.horizon.value is not None and pair.learnable.value is not None
        for across, found in ((True, pair.horizon), (False, pair.learnable)):
            edges = [found.low or 0.0, _end(found) if found.high is None else found.high]
            axes.plot(*((edges, [y, y]) if across else ([x, x], edges)), color=colour, lw=0.9, alpha=0.6)
        face = colour if known else PAPER
        axes.plot(x, y, marker=marker, color=colour, markerfacecolor=face, markeredgecolor=colour, linestyle="", zorder=3)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        log_values(axis, TICKS)
    axes.axline((10, 10), (100, 100), color=FAINT, lw=1)
    axes.set_xlabel("n(10⁻³) before training, steps")
    axes.tick_params(labelleft=True)


def _end(found: Estimate) -> float:
    """The value, or what it is known to lie beyond."""
    return found.value if found.value is not None else found.beyond or 0.0
