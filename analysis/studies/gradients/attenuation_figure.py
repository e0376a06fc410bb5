"""The gradient's size against lag, a panel a kind of cell, a line an initialisation with its band over seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.report.drawing import Drawing, look, panels
from analysis.report.style import FAINT, INK
from analysis.statistics import verdicts
from analysis.studies.gradients import attenuation, decades, inits

LAST_LAG = 150
LOWEST, HIGHEST = -12.0, 3.0  # decades
TEN_STEPS = 10
THEORY = float(np.log10(1 / np.sqrt(3)))  # spectral radius of U(±1/√H) as H grows: a circular law of variance 1/(3H)
CELLS = {"rnn": "Vanilla RNN", "gru": "GRU", "lstm": "LSTM"}
AUDITED = ("keras", "flax", "tensorflow1", "jozefowicz")  # in the table of the init audit instead


def draw(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; the hidden size with the most initialisations is drawn."""
    rows = series[series["probe"] == "attenuation"] if "probe" in series else series.iloc[:0]
    rows = rows[~rows["init"].isin(AUDITED)] if len(rows) else rows
    if rows.empty:
        return None
    hidden = int(rows.groupby("hidden_size")["init"].nunique().sort_values(kind="stable").index.to_numpy()[-1])
    rows = rows[rows["hidden_size"] == hidden]
    cells = [cell for cell in CELLS if (rows["cell"] == cell).any()]
    if not cells:
        return None
    with look():
        figure, grid = panels(len(cells), height=3.9)
        for axes, cell in zip(grid[0], cells, strict=True):
            _panel(axes, cell, rows[rows["cell"] == cell])
        grid[0][0].set_ylabel("gradient over that at lag 0")
    return Drawing(figure, "How the gradient fades with lag", _caption(rows, hidden))


def curves(rows: pd.DataFrame) -> dict[str, tuple[attenuation.Curve, attenuation.Curve | None]]:
    """init → its curve, and for an LSTM that of the cell path alone; the longest case of each."""
    found = {}
    for init, part in rows.groupby("init", sort=False):
        part = part[part["steps"] == part["steps"].max()]
        own = attenuation.curve(part)
        if own is not None:
            found[str(init)] = own, attenuation.curve(part, "log_cell_only")
    return found


def _panel(axes: Axes, cell: str, rows: pd.DataFrame) -> None:
    handles = []
    for place, (init, (own, alone)) in enumerate(curves(rows).items()):
        colour, dash = inits.look(init, place)
        middle, half = own.mean * decades.PER_NAT, own.half_width * decades.PER_NAT
        axes.fill_between(own.lags, middle - half, middle + half, color=colour, alpha=0.18, lw=0)
        axes.plot(own.lags, middle, color=colour, linestyle=dash)
        for lag in (lag for lag in own.deaths if lag <= LAST_LAG):  # from the first of them on the mean has no number
            axes.plot([lag], [0.02], "x", color=colour, transform=axes.get_xaxis_transform(), clip_on=False)
        if alone is not None:
            axes.plot(alone.lags, alone.mean * decades.PER_NAT, color=colour, lw=0.9, linestyle=(0, (1.2, 1.6)))
        handles.append(inits.mark(init, place))
    axes.axvline(TEN_STEPS, color=FAINT, lw=1)
    axes.axhline(-3, color=FAINT, lw=1)
    if cell == "rnn":
        lags = np.array([0, LAST_LAG])
        axes.plot(lags, THEORY * lags, color=INK, lw=0.9, linestyle=(0, (4, 3)))
        handles.append(Line2D([], [], color=INK, lw=0.9, linestyle=(0, (4, 3)), label="0.577ᵏ, linear theory"))
    elif cell == "lstm":
        handles.append(Line2D([], [], color=INK, lw=0.9, linestyle=(0, (1.2, 1.6)), label="∏f: the cell path alone"))
    axes.set_xlim(0, LAST_LAG)
    axes.set_ylim(LOWEST, HIGHEST)
    decades.ticks(axes, (2, 0, -3, -6, -9, -12))
    axes.set_xlabel("lag k, steps back from the loss")
    axes.set_title(CELLS[cell])
    inits.beside(axes, handles)


def _caption(rows: pd.DataFrame, hidden: int) -> str:
    said, died = [], False
    for cell, title in CELLS.items():
        found = curves(rows[rows["cell"] == cell])
        died |= any(lag <= LAST_LAG for own, _ in found.values() for lag in own.deaths)
        horizons = {init: verdicts.spoken("horizon", attenuation.horizon(own)) for init, (own, _) in found.items()}
        parts = [f"{inits.name(init)} {horizon}" for init, horizon in horizons.items()]
        said += [f"{title}: {', '.join(parts)}"] if parts else []
    return (
        f"H = {hidden}, a loss at the last step; mean of ln‖gradient‖ over sequences and seeds, 95 % t-band over seeds. "
        f"Steps until a thousandth is left: {'. '.join(said)}. Grey: ten steps, a thousandth."
        + " A cross: from there on a seed’s gradient is exactly zero."
        * died
    )
