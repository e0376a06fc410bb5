"""Lyapunov exponents in order: how many directions of the state survive, and how fast the others fade."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.report.drawing import Drawing, look, panels
from analysis.report.style import FAINT, INK
from analysis.statistics import quantities, seeds, verdicts
from analysis.studies.gradients import inits

CELLS = {"rnn": "Vanilla RNN: H exponents", "lstm": "LSTM: 2H exponents"}
LOWEST = -2.4  # nat a step; what fades faster is gone within two


def draw(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`."""
    rows = series[series["probe"] == "lyapunov"] if "probe" in series else series.iloc[:0]
    if rows.empty:
        return None
    rows = rows[rows["hidden_size"] == rows["hidden_size"].min()]
    cells = [cell for cell in CELLS if (rows["cell"] == cell).any()]
    with look():
        figure, grid = panels(len(cells), height=3.4)
        for axes, cell in zip(grid[0], cells, strict=True):
            _panel(axes, rows[rows["cell"] == cell])
            axes.set_title(CELLS[cell])
        grid[0][0].set_ylabel("exponent, nat a step")
    return Drawing(figure, "Lyapunov spectrum of the whole state", _caption(rows))


def _panel(axes: Axes, rows: pd.DataFrame) -> None:
    handles = []
    for place, (init, part) in enumerate(rows.groupby("init", sort=False)):
        colour, dash = inits.look(str(init), place)
        own = seeds.together(seeds.metric(part, "lyapunov"))
        if not own.size:
            continue
        share = (np.arange(own.shape[1]) + 1) / own.shape[1]
        axes.plot(share, own.mean(0), color=colour, linestyle=dash)
        mistaken = seeds.together(seeds.metric(part, "lyapunov_hidden_block"))
        if mistaken.size:
            axes.plot(0.02, max(float(mistaken.mean()), LOWEST + 0.05), marker="x", color=colour, clip_on=False, zorder=4)
        handles.append(inits.mark(str(init), place))
    if (rows["metric"] == "lyapunov_hidden_block").any():
        handles.append(Line2D([], [], color=INK, marker="x", linestyle="", label="largest, of the h block alone"))
    axes.axhline(0, color=FAINT, lw=1)
    axes.set_xlim(0, 1)
    axes.set_ylim(LOWEST, 0.25)
    axes.tick_params(labelleft=True)
    axes.set_xlabel("exponents in order, share of all")
    inits.beside(axes, handles)


def _caption(rows: pd.DataFrame) -> str:
    said = []
    for (cell, init), part in rows.groupby(["cell", "init"], sort=False):
        largest = quantities.QUANTITIES["largest_exponent"](part)
        said.append(f"{str(cell).upper()} {inits.name(str(init))} {verdicts.spoken('largest_exponent', largest)}")
    return (
        f"H = {int(rows['hidden_size'].iloc[0])}. Zero is a direction that neither fades nor grows. "
        f"Largest exponent: {', '.join(said)}. "
        "Crosses: what ∂h/∂h at fixed c would have said (below the axis where at its edge)."
    )
