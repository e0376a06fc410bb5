"""Stacked and bidirectional networks: the gradient of the inputs by lag beside that of one layer."""

from __future__ import annotations

import pandas as pd
from matplotlib.lines import Line2D

from analysis import attenuation, verdicts
from analysis.figures import decades
from analysis.figures.drawing import Drawing, look, panels
from analysis.figures.inits import beside
from analysis.style import DASHES, FAINT, PALETTE

LOOKS = {"one layer": (PALETTE[0], DASHES[0]), "two layers": (PALETTE[1], DASHES[1]), "bidirectional": (PALETTE[4], DASHES[2])}


def draw(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; the networks of the probe `inputs` in double precision."""
    rows = series[(series["probe"] == "inputs") & (series["dtype"] == "float64")] if "probe" in series else series.iloc[:0]
    if rows.empty:
        return None
    found = {}
    for (layers, both), part in rows.groupby(["num_layers", "bidirectional"]):
        of = attenuation.curve(part, "log_input")
        if of is not None:
            name = (
                "bidirectional" if both else {1: "one layer", 2: "two layers"}.get(int(float(str(layers))), f"{layers} layers")
            )
            found[name] = of
    if len(found) < 2:
        return None
    with look():
        figure, grid = panels(1, height=3.2)
        axes = grid[0][0]
        handles = []
        for place, (name, of) in enumerate(found.items()):
            colour, dash = LOOKS.get(name, (PALETTE[2 + place % 4], DASHES[3]))
            middle, half = of.mean * decades.PER_NAT, of.half_width * decades.PER_NAT
            axes.fill_between(of.lags, middle - half, middle + half, color=colour, alpha=0.18, lw=0)
            axes.plot(of.lags, middle, color=colour, linestyle=dash)
            handles.append(Line2D([], [], color=colour, linestyle=dash, label=name))
        axes.axhline(-3, color=FAINT, lw=1)
        axes.set_xlim(0, 60)
        axes.set_ylim(-12, 1)
        decades.ticks(axes, (0, -3, -6, -9, -12))
        axes.set_xlabel("lag k, steps back from the loss")
        axes.set_ylabel("dL/dx over that at lag 0")
        beside(axes, handles)
    horizons = [f"{name} {verdicts.spoken('horizon', attenuation.horizon(of))}" for name, of in found.items()]
    hidden = int(rows["hidden_size"].iloc[0])
    caption = (
        f"LSTM as PyTorch initialises it, H = {hidden}, the oracle’s backward pass, a loss at the last step. "
        f"Steps to a thousandth: {', '.join(horizons)}. The direction that runs back has read one step at the last output, "
        "so its part is at lag 0 alone."
    )
    return Drawing(figure, "Stacked and bidirectional networks", caption)
