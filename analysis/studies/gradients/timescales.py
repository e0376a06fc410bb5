"""The census of timescales: which share of an LSTM's cells forgets within how many steps."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.report import words
from analysis.report.drawing import Drawing, log_units, look, panels
from analysis.statistics import seeds
from analysis.studies.gradients import inits


def draw(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`."""
    rows = series[series["metric"] == "timescale"]
    if rows.empty:
        return None
    rows = rows[rows["hidden_size"] == rows["hidden_size"].min()]
    found = {
        str(init): np.sort(np.concatenate(seeds.metric(part, "timescale"))) for init, part in rows.groupby("init", sort=False)
    }
    with look():
        figure, grid = panels(1, height=3.3)
        axes = grid[0][0]
        for place, (init, values) in enumerate(found.items()):
            colour, dash = inits.look(init, place)
            axes.step(values, np.arange(1, len(values) + 1) / len(values), where="post", color=colour, linestyle=dash)
        axes.set_xscale("log")
        ends = np.concatenate(list(found.values()))
        log_units(axes.xaxis, "", float(ends.min()), float(ends.max()))
        axes.set_ylim(0, 1)
        axes.set_xlabel("τ = −1/E ln f, steps")
        axes.set_ylabel("share of cells with no more")
        inits.beside(axes, [inits.mark(init, place) for place, init in enumerate(found)])
    parts = [f"{inits.name(init)} {words.digits(float(np.median(values)), 2)}" for init, values in found.items()]
    return Drawing(
        figure,
        "Census of timescales",
        f"The steps after which a lone cell’s gradient is 1/e, every cell of every seed. Medians: {', '.join(parts)}.",
    )
