"""The attenuation curve before a network learns to recall, on the way, and after."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.report import words
from analysis.report.drawing import Drawing, look, panels
from analysis.report.style import FAINT, PALETTE
from analysis.statistics import seeds, verdicts
from analysis.studies.gradients import attenuation, decades, inits

PREFIX = "log_gradient_after_"
COLOURS = (PALETTE[1], PALETTE[2], PALETTE[0])


def draw(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`."""
    rows = series[series["probe"] == "training"] if "probe" in series else series.iloc[:0]
    if rows.empty:
        return None
    networks = [(str(cell), str(init)) for cell, init in rows[["cell", "init"]].drop_duplicates().itertuples(index=False)]
    with look():
        figure, grid = panels(len(networks), height=3.2)
        said = []
        for axes, (cell, init) in zip(grid[0], networks, strict=True):
            part = rows[(rows["cell"] == cell) & (rows["init"] == init)]
            _panel(axes, part)
            axes.set_title(f"{cell.upper()}, {inits.name(init)}")
            said.append(f"{cell.upper()} {inits.name(init)} {_told(part)}")
        grid[0][0].set_ylabel("gradient over that at lag 0")
    lag = int(rows["lag"].iloc[0])
    caption = (
        f"Recall of one bit over {lag} steps of noise (vertical line), Adam; curves are of longer such sequences. "
        f"Steps to a thousandth before and after, and share of right answers: {'; '.join(said)}."
    )
    return Drawing(figure, "Attenuation through training", caption)


def counts(rows: pd.DataFrame) -> list[int]:
    """The numbers of updates after which the curve was taken."""
    return sorted(int(str(name).removeprefix(PREFIX)) for name in rows["metric"].unique() if str(name).startswith(PREFIX))


def _panel(axes: Axes, rows: pd.DataFrame) -> None:
    handles = []
    for colour, done in zip(COLOURS, counts(rows), strict=False):
        of = attenuation.curve(rows, f"{PREFIX}{done}")
        if of is None:
            continue
        middle, half = of.mean * decades.PER_NAT, of.half_width * decades.PER_NAT
        axes.fill_between(of.lags, middle - half, middle + half, color=colour, alpha=0.18, lw=0)
        axes.plot(of.lags, middle, color=colour)
        handles.append(Line2D([], [], color=colour, label=f"after {done} updates" if done else "before"))
    axes.axvline(int(rows["lag"].iloc[0]), color=FAINT, lw=1)
    axes.axhline(-3, color=FAINT, lw=1)
    axes.set_xlim(0, 100)
    axes.set_ylim(-12, 3)
    decades.ticks(axes, (2, 0, -3, -6, -9, -12))
    axes.set_xlabel("lag k, steps back from the loss")
    inits.beside(axes, handles)


def _told(rows: pd.DataFrame) -> str:
    ends = [attenuation.curve(rows, f"{PREFIX}{done}") for done in (counts(rows)[0], counts(rows)[-1])]
    spoken = [verdicts.spoken("horizon", attenuation.horizon(of)) if of else words.NOT_MEASURED for of in ends]
    accuracy = seeds.together(seeds.metric(rows, "accuracy"))
    right = words.percent(float(accuracy.mean())) if accuracy.size else words.NOT_MEASURED
    return f"{spoken[0]} → {spoken[1]}, {right} right"
