"""The hop spectrum: which share of the gradient left the cell path how often, against lag."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from analysis.report import words
from analysis.report.drawing import Drawing, look, panels
from analysis.report.style import INK, PALETTE
from analysis.statistics import seeds
from analysis.studies.gradients import inits

PREFIX = "hop_share_"
SHOWN = ("never left", "once", "twice", "3 times", "4 or 5", "6 and more")
EDGES = (0, 1, 2, 3, 4, 6)  # first number of departures in each
COLOURS = (PALETTE[4], PALETTE[1], PALETTE[2], PALETTE[5], PALETTE[0], PALETTE[3])


def draw(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`."""
    rows = series[series["probe"] == "carousel"] if "probe" in series else series.iloc[:0]
    if rows.empty:
        return None
    rows = rows[rows["hidden_size"] == rows["hidden_size"].min()]
    found = {str(init): shares(part) for init, part in rows.groupby("init", sort=False)}
    found = {init: each for init, each in found.items() if len(each) > 1}
    if not found:
        return None
    with look():
        figure, grid = panels(len(found))
        figure.set_figwidth(2.35 * len(found) + 0.6 + (len(found) == 1))
        for axes, (init, each) in zip(grid[0], found.items(), strict=True):
            _panel(axes, each)
            axes.set_title(inits.name(init))
        grid[0][0].set_ylabel("share of the gradient")
        handles = [Patch(color=colour, label=label) for colour, label in zip(COLOURS, SHOWN, strict=True)]
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), handlelength=1.2, columnspacing=1.4)
    return Drawing(figure, "How much of the gradient stays on the carousel", _caption(found, int(rows["hidden_size"].iloc[0])))


def shares(rows: pd.DataFrame) -> dict[int, np.ndarray]:
    """lag → mean over seeds of the shares by departures."""
    names = sorted(
        {str(name) for name in rows["metric"] if str(name).startswith(PREFIX)}, key=lambda name: int(name[len(PREFIX) :])
    )
    return {int(name[len(PREFIX) :]): seeds.together(seeds.metric(rows, name)).mean(0) for name in names}


def _panel(axes: Axes, found: dict[int, np.ndarray]) -> None:
    lags = list(found)
    grouped = np.array(
        [[own[low:high].sum() for low, high in zip(EDGES, (*EDGES[1:], None), strict=True)] for own in found.values()]
    )
    # Signed shares: what cancels is drawn below zero, so that the whole still adds up to 1.
    for sign in (np.maximum, np.minimum):
        axes.stackplot(lags, sign(grouped, 0).T, colors=COLOURS, alpha=0.9, lw=0)
    axes.axhline(1, color=INK, lw=0.8)
    axes.axhline(0, color=INK, lw=0.8)
    axes.set_xlim(lags[0], lags[-1])
    axes.tick_params(labelleft=True)
    axes.set_xlabel("lag, steps")


def _caption(found: dict[str, dict[int, np.ndarray]], hidden: int) -> str:
    lag = next((lag for lag in (10, *next(iter(found.values()))) if all(lag in each for each in found.values())), 1)
    parts = [f"{inits.name(init)} {words.percent(float(each[lag][0]))}" for init, each in found.items()]
    return (
        "Each path of the gradient from the last cell back leaves the cell some number of times, through h. Shares are exact, "
        "signed and add up to 1; what lies above 1 is cancelled below 0. "
        f"Never left, at lag {lag}, H = {hidden}: {', '.join(parts)}."
    )
