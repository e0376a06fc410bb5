"""Stacked and bidirectional networks: the gradient of the inputs by lag beside that of one layer, a panel a cell."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.report.drawing import Drawing, look, panels
from analysis.report.style import DASHES, FAINT, INK, Dash
from analysis.statistics import verdicts
from analysis.studies.gradients import attenuation, decades, inits

TITLES = {"lstm": "LSTM", "gru": "GRU", "rnn": "Vanilla RNN"}
# Colour tells the initialisation, dash the network.
NETWORKS: dict[str, Dash] = {
    "one layer": DASHES[0], "two layers": DASHES[1], "bidirectional": DASHES[2], "two layers, bidirectional": DASHES[3],
}  # fmt: skip
LAST_LAG = 100
Curves = dict[tuple[str, str], attenuation.Curve]  # by init and network


def draw(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; the networks of the probe `inputs` in double precision."""
    rows = series[(series["probe"] == "inputs") & (series["dtype"] == "float64")] if "probe" in series else series.iloc[:0]
    if rows.empty:
        return None
    found = {cell: of for cell in TITLES if (of := curves(rows[rows["cell"] == cell]))}
    if not any(len(of) > 1 for of in found.values()):
        return None
    with look():
        figure, grid = panels(len(found), height=3.9)
        for axes, (cell, of) in zip(grid[0], found.items(), strict=True):
            _panel(axes, of)
            axes.set_title(TITLES[cell])
        grid[0][0].set_ylabel("dL/dx over that at lag 0")
    hidden = int(rows["hidden_size"].iloc[0])
    return Drawing(figure, "Stacked and bidirectional networks", _caption(found, hidden))


def curves(rows: pd.DataFrame) -> Curves:
    """Of one cell's rows."""
    found = {}
    for (init, layers, both), part in rows.groupby(["init", "num_layers", "bidirectional"], sort=False):
        of = attenuation.curve(part, "log_input")
        if of is not None:
            found[str(init), network(int(float(str(layers))), bool(both))] = of
    return dict(sorted(found.items(), key=lambda each: (inits.place(each[0][0]), *_order(each[0][1]))))


def network(layers: int, bidirectional: bool) -> str:
    stack = {1: "one layer", 2: "two layers"}.get(layers, f"{layers} layers")
    if not bidirectional:
        return stack
    return "bidirectional" if layers == 1 else f"{stack}, bidirectional"


def _order(name: str) -> tuple[int, str]:
    names = list(NETWORKS)
    return (names.index(name) if name in names else len(names)), name


def _panel(axes: Axes, found: Curves) -> None:
    places = {init: place for place, init in enumerate(dict.fromkeys(init for init, _ in found))}
    for (init, name), of in found.items():
        colour, _ = inits.look(init, places[init])
        middle, half = of.mean * decades.PER_NAT, of.half_width * decades.PER_NAT
        axes.fill_between(of.lags, middle - half, middle + half, color=colour, alpha=0.12, lw=0)
        axes.plot(of.lags, middle, color=colour, linestyle=NETWORKS.get(name, DASHES[3]))
    axes.axhline(-3, color=FAINT, lw=1)
    axes.set_xlim(0, LAST_LAG)
    axes.set_ylim(-12, 1)
    decades.ticks(axes, (0, -3, -6, -9, -12))
    axes.set_xlabel("lag k, steps back from the loss")
    colours = [Line2D([], [], color=inits.look(init, place)[0], label=inits.name(init)) for init, place in places.items()]
    dashes = [
        Line2D([], [], color=INK, lw=1, linestyle=NETWORKS.get(name, DASHES[3]), label=name)
        for name in sorted({name for _, name in found}, key=_order)
    ]
    inits.beside(axes, [*colours, *dashes])


def _caption(found: dict[str, Curves], hidden: int) -> str:
    said = []
    for cell, of in found.items():
        horizons = [
            f"{inits.name(init)}, {name} {verdicts.spoken('horizon', attenuation.horizon(own))}"
            for (init, name), own in of.items()
        ]
        said.append(f"{TITLES[cell]}: {'; '.join(horizons)}")
    return (
        f"H = {hidden}, the oracle’s backward pass, a loss at the last step; 95 % t-bands over seeds. "
        f"Steps to a thousandth. {'. '.join(said)}. The direction that runs back has read one step at the last output, "
        "so its part is at lag 0 alone."
    )
