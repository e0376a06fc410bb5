"""What is learnt at which lag: a row an initialisation, a column a lag, with the gradient's horizon laid over."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from analysis.report.drawing import Drawing, log_values, look, panels
from analysis.report.style import INK, PALETTE, PAPER
from analysis.statistics import quantities, verdicts
from analysis.statistics.seeds import Estimate
from analysis.studies.gradients import attenuation, inits
from analysis.studies.horizon import foretelling, learnable

SELECTION = "probe=learning,task=recall,truncation=0"
LEARNT, HORIZON = PALETTE[4], PALETTE[0]
HALF_STEP = 2**0.25  # lags are half an octave apart
ROW = 0.31  # inches
CELLS = (("rnn", "gru"), ("lstm",))  # a panel each
CELL_ORDER = [cell for cells in CELLS for cell in cells]
SIDES = ("Vanilla RNN and GRU", "LSTM")


def draw(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; the widest networks that have most initialisations are drawn."""
    rows = quantities.select(series, SELECTION)
    if rows.empty:
        return None
    hidden = int(rows.groupby("hidden_size")["case"].nunique().sort_values(kind="stable").index.to_numpy()[-1])
    rows = rows[rows["hidden_size"] == hidden]
    sides = [(title, rows[rows["cell"].isin(cells)]) for title, cells in zip(SIDES, CELLS, strict=True)]
    sides = [(title, part) for title, part in sides if len(part)]
    lags = sorted({lag for own in rows.loc[rows["metric"] == "trained_lag", "samples"] for lag in own})
    tallest = max(part["case"].nunique() for _, part in sides)
    with look():
        figure, grid = panels(len(sides), height=1.1 + ROW * tallest, share_y=False)
        figure.set_figwidth(figure.get_figwidth() + 0.9 * len(sides))  # names of the rows
        for axes, (title, part) in zip(grid[0], sides, strict=True):
            _panel(axes, part)
            axes.set_title(title)
            axes.set_ylim(tallest - 0.45, -0.55)
            axes.set_xlim(lags[0] / HALF_STEP**2, max(lags[-1], *_horizons(rows)) * HALF_STEP)
            log_values(axes.xaxis, lags)
        figure.legend(handles=_legend(), loc="outside lower left", ncols=4, handlelength=1.4, columnspacing=1.4)
    return Drawing(figure, "What is learnt at which lag", _caption(rows, hidden))


def _horizons(rows: pd.DataFrame) -> list[float]:
    """How far right the horizons of all rows lie, censored ones at the edge of what was seen."""
    found = [pair.horizon for pair in foretelling.pairs(rows)]
    return [each.value or each.beyond or 1.0 for each in found] or [1.0]


def _panel(axes: Axes, rows: pd.DataFrame) -> None:
    names = []
    cases = [own for _, own in rows.groupby("case", sort=False)]
    cases.sort(key=lambda own: (CELL_ORDER.index(own["cell"].iloc[0]), inits.place(str(own["init"].iloc[0]))))
    for place, own in enumerate(cases):
        found = learnable.trials(own)
        curve = attenuation.curve(own)
        cell, init = str(own["cell"].iloc[0]), str(own["init"].iloc[0])
        names.append(inits.name(init) if cell == "lstm" else f"{cell.upper()} {inits.name(init).partition(' (')[0]}")
        if found is None:
            continue
        for lag, learnt, trained in zip(found.lags, found.learnt, found.trained, strict=True):
            _cell(axes, place, lag, learnt / trained)
        _lag(axes, place, learnable.learnable_lag(found))
        horizon = attenuation.horizon(curve) if curve is not None else None
        if horizon is not None and (at := horizon.value or horizon.beyond):
            marker = "D" if horizon.value is not None else ">"
            axes.plot(at, place, marker=marker, color=HORIZON, markeredgecolor=PAPER, markersize=6.5, zorder=4, clip_on=False)
    axes.set_xscale("log")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("lag, steps")
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[["left", "bottom"]].set_visible(False)


def _cell(axes: Axes, place: int, lag: float, share: float) -> None:
    width = lag * (HALF_STEP - 1 / HALF_STEP)
    corner = lag / HALF_STEP, place - 0.42
    axes.add_patch(Rectangle(corner, width, 0.84, facecolor=LEARNT, alpha=0.06 + 0.74 * share, edgecolor=PAPER, linewidth=1.0))


def _lag(axes: Axes, place: int, found: Estimate) -> None:
    """L50 as an upright stroke on its interval; censored, an interval that is open to the right."""
    if found.bounds is None:
        return
    low, high = found.bounds[0], found.high if found.high is not None else found.beyond or 0.0
    axes.plot([low, high], [place, place], color=INK, lw=1.1, zorder=3)
    if found.value is not None:
        axes.plot([found.value] * 2, [place - 0.3, place + 0.3], color=INK, lw=2.0, zorder=3)
    if found.high is None:
        axes.plot(high, place, marker=">", color=INK, markersize=5.5, zorder=3)


def _legend() -> list[Line2D | Patch]:
    return [
        Patch(facecolor=LEARNT, alpha=0.8, label="all networks learnt it"),
        Patch(facecolor=LEARNT, alpha=0.06 + 0.37, label="half did"),
        Line2D([], [], color=INK, marker="|", markersize=9, markeredgewidth=2, lw=1.1, label="L50, 95 %"),
        Line2D([], [], color=HORIZON, marker="D", linestyle="", label="n(10⁻³) before training"),
    ]


def _caption(rows: pd.DataFrame, hidden: int) -> str:
    correlation = verdicts.spoken("horizon_rank_correlation", quantities.QUANTITIES["horizon_rank_correlation"](rows))
    seeds, updates = int(rows["seeds"].min()), int(rows["updates"].min())
    return (
        f"One of two symbols is to be recalled after so many distractors; H = {hidden}, {seeds} networks a lag, "
        f"{updates} updates. A row ends after the first lag that none learnt; arrowheads: beyond. "
        f"Rank correlation of n(10⁻³) and L50: {correlation}."
    )
