"""Share of networks that learn a lag, by the number of steps the gradient was followed back."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.report.drawing import Drawing, log_values, look, panels
from analysis.report.style import INK, MARKERS, PALETTE
from analysis.statistics import quantities, verdicts
from analysis.studies.gradients import inits
from analysis.studies.horizon import learnable
from analysis.studies.horizon.learnable import Trials

COLOURS = (PALETTE[0], PALETTE[2], PALETTE[4], PALETTE[6])


def draw(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; a panel for each network that was trained with and without truncation."""
    rows = quantities.select(series, "probe=learning,task=recall")
    if rows.empty:
        return None
    groups = [(names, own) for names, own in rows.groupby(["cell", "init"], sort=False) if own["truncation"].nunique() > 1]
    if not groups:
        return None
    said = []
    with look():
        figure, grid = panels(max(len(groups), 2), height=3.3)
        for axes, ((cell, init), own) in zip(grid[0], groups, strict=False):
            title = f"{str(cell).upper()} {inits.name(str(init))}"
            said.append(f"{title}: {', '.join(_panel(axes, own))}")
            axes.set_title(title)
        for axes in grid[0][len(groups) :]:
            axes.set_axis_off()
        grid[0][0].set_ylabel("share of networks that learn it")
    return Drawing(
        figure,
        "What truncated backpropagation learns",
        "The state is carried over the cut, the gradient is not. Points: networks trained; lines: logistic fits; dotted: k. "
        f"L50. {'. '.join(said)}.",
    )


def _panel(axes: Axes, rows: pd.DataFrame) -> list[str]:
    handles, said, ticks = [], [], []
    order = sorted(rows["truncation"].unique(), key=lambda steps: steps or np.inf)
    for place, steps in enumerate(order):
        found = learnable.trials(rows[rows["truncation"] == steps])
        if found is None:
            continue
        colour = INK if steps == 0 else COLOURS[place % len(COLOURS)]
        name = f"k = {steps:g}" if steps else "all steps"
        fit = learnable.learnable_lag(found)
        said.append(f"{name} {verdicts.spoken('learnable_lag', fit)}")
        marker = MARKERS[place % len(MARKERS)]
        axes.plot(found.lags, found.learnt / found.trained, marker=marker, color=colour, linestyle="", clip_on=False, zorder=3)
        if fit.value is not None:
            axes.plot(*_curve(found, fit.value), color=colour, lw=1.3)
        if steps:
            axes.axvline(steps, color=colour, lw=0.9, linestyle=(0, (1.2, 1.6)))
        handles.append(Line2D([], [], color=colour, marker=marker, lw=1.3, label=name))
        ticks += list(found.lags)
    axes.set_xscale("log")
    log_values(axes.xaxis, ticks)
    axes.set_ylim(-0.03, 1.03)
    axes.tick_params(labelleft=True)
    axes.set_xlabel("lag, steps")
    inits.beside(axes, handles)
    return said


def _curve(found: Trials, lag: float) -> tuple[np.ndarray, np.ndarray]:
    """The fitted logistic from the shortest to the longest lag tried."""
    lags = np.geomspace(found.lags[0], found.lags[-1], 200)
    return lags, 1 / (1 + (lags / lag) ** learnable.steepness(found, lag))
