"""Deep networks and a Transformer on the axes of the attenuation curves."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.report.drawing import Drawing, look, panels
from analysis.report.style import FAINT, PALETTE
from analysis.statistics import quantities, verdicts
from analysis.studies.gradients import attenuation, decades, inits

NAMES = {
    "plain": "no shortcut", "residual_halved": "shortcut halved", "residual_0.9": "shortcut times 0.9", "residual": "residual",
    "residual_normed": "residual, normed",
    "transformer": "Transformer",
}  # fmt: skip
COLOURS = dict(zip(NAMES, (PALETTE[0], PALETTE[2], PALETTE[5], PALETTE[1], PALETTE[4], PALETTE[3]), strict=True))
RECURRENT = (("rnn", "pytorch"), ("lstm", "pytorch"), ("lstm", "forget:3"))
GREY_DASHES = ((0, ()), (0, (5, 1.5)), (0, (1.2, 1.2)))


def draw(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`."""
    rows = series[series["probe"] == "controls"] if "probe" in series else series.iloc[:0]
    if rows.empty:
        return None
    deep, flat = rows[rows["network"] != "transformer"], rows[rows["network"] == "transformer"]
    beside = series[(series["probe"] == "attenuation") & (series["hidden_size"] == int(rows["hidden_size"].iloc[0]))]
    shown = [part for part in (deep, flat) if not part.empty]
    with look():
        figure, grid = panels(len(shown), height=3.5)
        for axes, part in zip(grid[0], shown, strict=True):
            through_depth = part is deep
            _panel(axes, part, beside, "log_gradient" if through_depth else "log_input")
            axes.set_title("Layers: the lag is the depth" if through_depth else "Positions: dL/dx by lag")
            axes.set_xlabel("layers below the loss" if through_depth else "lag k, steps back from the loss")
        grid[0][0].set_ylabel("gradient over that at lag 1")
    return Drawing(figure, "The same curves for networks without a cell", _caption(rows))


def _panel(axes: Axes, rows: pd.DataFrame, beside: pd.DataFrame, metric: str) -> None:
    handles = []
    for place, (cell, init) in enumerate(RECURRENT):
        part = beside[(beside["cell"] == cell) & (beside["init"] == init)]
        if not part.empty and _line(axes, part[part["steps"] == part["steps"].max()], metric, FAINT, GREY_DASHES[place]):
            label = f"{cell.upper()} {inits.name(init)}"
            handles.append(Line2D([], [], color=FAINT, linestyle=GREY_DASHES[place], label=label))
    for network, part in rows.groupby("network", sort=False):
        colour = COLOURS.get(str(network), PALETTE[6])
        if _line(axes, part, metric, colour, "-"):
            handles.append(Line2D([], [], color=colour, label=NAMES.get(str(network), str(network))))
    axes.set_xlim(0, 150)
    axes.set_ylim(-12, 3)
    decades.ticks(axes, (2, 0, -3, -6, -9, -12))
    inits.beside(axes, handles)


def _line(axes: Axes, rows: pd.DataFrame, metric: str, colour: str, dash: object) -> bool:
    found = attenuation.curve(rows, metric)
    if found is None or len(found.lags) < 2:
        return False
    # Lag 0 is the loss's own place, where a Transformer keeps most of the gradient.
    first = found.logs[:, 1:2]
    of = attenuation.Curve(found.lags[1:], found.logs[:, 1:] - first, found.steps)
    middle, half = of.mean * decades.PER_NAT, of.half_width * decades.PER_NAT
    axes.fill_between(of.lags, middle - half, middle + half, color=colour, alpha=0.18, lw=0)
    axes.plot(of.lags, middle, color=colour, linestyle=dash)  # pyright: ignore[reportArgumentType]
    return True


def _caption(rows: pd.DataFrame) -> str:
    said = []
    for network, part in rows.groupby("network", sort=False):
        name = "input_passed_over_100" if network == "transformer" else "passed_over_100"
        said.append(f"{NAMES.get(str(network), str(network))} {verdicts.spoken(name, quantities.QUANTITIES[name](part))}")
    return (
        f"Width {int(rows['hidden_size'].iloc[0])}, before training; 95 % t-bands over seeds. A(100)/A(1): {', '.join(said)}."
    )
