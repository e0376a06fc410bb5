"""What each lag adds to the gradient of the weights, and what is left of its direction where backpropagation is cut off."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.report import words
from analysis.report.drawing import Drawing, look, panels
from analysis.report.style import FAINT, PAPER
from analysis.statistics import seeds
from analysis.studies.gradients import attenuation, decades, inits
from analysis.studies.gradients.attenuation_figure import AUDITED, CELLS

CUT = 10  # steps, at which the caption reads the cosine


def draw(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; the hidden size with the most initialisations is drawn."""
    rows = series[series["probe"] == "attenuation"] if "probe" in series else series.iloc[:0]
    rows = rows[~rows["init"].isin(AUDITED)] if len(rows) else rows
    if not (rows["metric"] == "truncated_cosine").any():
        return None
    hidden = int(rows.groupby("hidden_size")["init"].nunique().sort_values(kind="stable").index.to_numpy()[-1])
    rows = rows[rows["hidden_size"] == hidden]
    rows = rows[rows["steps"] == int(rows["steps"].mode().iloc[0])]
    cells = [cell for cell in CELLS if (rows["cell"] == cell).any()]
    if not cells:
        return None
    with look():
        figure, grid = panels(len(cells), 2, height=2.9, share_y=False)
        for place, cell in enumerate(cells):
            own = rows[rows["cell"] == cell]
            _shares(grid[0][place], own)
            _cosines(grid[1][place], own)
            grid[0][place].set_title(CELLS[cell])
        grid[0][0].set_ylabel("‖lag’s part of dL/dW_hh‖")
        grid[1][0].set_ylabel("cosine with the whole dL/dW_hh")
    return Drawing(figure, "What truncated backpropagation leaves out", _caption(rows, cells, hidden))


def cosines(rows: pd.DataFrame) -> tuple[list[float], list[float]]:
    """Steps kept, and the mean over seeds of the cosine there; rows of one case."""
    cut = rows.loc[rows["metric"] == "truncation", "samples"]
    found = seeds.together(seeds.metric(rows, "truncated_cosine"))
    if cut.empty or not found.size:
        return [], []
    return list(cut.iloc[0][: found.shape[1]]), list(found.mean(0))


def at_horizon(rows: pd.DataFrame) -> tuple[float, float] | None:
    """n(10⁻³) of the whole state's gradient and the cosine of a cut there, read along the line between the cuts that were
    tried; None where either is not known. rows of one case."""
    of, (kept, values) = attenuation.curve(rows), cosines(rows)
    reach = None if of is None else attenuation.horizon(of).value
    if reach is None or not kept or not kept[0] <= reach <= kept[-1]:
        return None
    return reach, float(np.interp(np.log(reach), np.log(kept), values))


def _shares(axes: Axes, rows: pd.DataFrame) -> None:
    for place, (init, part) in enumerate(rows.groupby("init", sort=False)):
        of = attenuation.curve(part, "log_weight")
        if of is not None:
            colour, dash = inits.look(str(init), place)
            axes.plot(of.lags, of.mean * decades.PER_NAT, color=colour, linestyle=dash)
    axes.set_xlim(0, 150)
    axes.set_ylim(-12, 3)
    decades.ticks(axes, (2, 0, -3, -6, -9, -12))
    axes.set_xlabel("lag k, steps back from the loss")


def _cosines(axes: Axes, rows: pd.DataFrame) -> None:
    handles = []
    for place, (init, part) in enumerate(rows.groupby("init", sort=False)):
        kept, values = cosines(part)
        if kept:
            colour, dash = inits.look(str(init), place)
            axes.plot(kept, values, color=colour, linestyle=dash)
            if dot := at_horizon(part):
                axes.plot(*dot, "o", color=colour, mec=PAPER, mew=0.8, ms=6, zorder=4)
            handles.append(inits.mark(str(init), place))
    axes.axhline(1, color=FAINT, lw=1)
    axes.set_xscale("log")
    axes.set_xticks([1, 3, 10, 30, 100, 300], ["1", "3", "10", "30", "100", "300"])
    axes.set_xticks([], minor=True)
    axes.set_ylim(-0.05, 1.08)
    axes.tick_params(labelleft=True)
    axes.set_xlabel("steps kept before the cut")
    inits.beside(axes, handles)


def _caption(rows: pd.DataFrame, cells: list[str], hidden: int) -> str:
    said, reached, cut = [], [], float(CUT)
    for cell in cells:
        parts = []
        for init, part in rows[rows["cell"] == cell].groupby("init", sort=False):
            kept, values = cosines(part)
            near = min(range(len(kept)), key=lambda place: abs(kept[place] - CUT), default=None)
            if near is not None:
                parts.append(f"{inits.name(str(init))} {words.digits(values[near], 2)}")
                reached += [dot[1]] if (dot := at_horizon(part)) else []
                cut = kept[near]
        said.append(f"{CELLS[cell]}: {', '.join(parts)}")
    bias = (
        f" Dots: n(10⁻³), the steps to a thousandth; a cut there leaves a cosine of {words.digits(min(reached), 2)} to "
        f"{words.digits(max(reached), 2)}."
        if reached
        else ""
    )
    return (
        f"H = {hidden}, a loss at the last step. Above: size of what lag k adds to dL/dW_hh, over lag 0. Below: cosine "
        f"between dL/dW_hh of the last steps and of all, mean over seeds. After {cut:.0f} steps: {'. '.join(said)}.{bias}"
    )
