"""Figures of study `horizon`."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from analysis.report import drawing
from analysis.report.drawing import FAINT, INK, MARKERS, PALETTE, PAPER, Drawing, log_values, look, panels
from analysis.statistics import quantities
from analysis.statistics.seeds import Estimate
from analysis.studies import gradients as gradients_statistics
from analysis.studies import horizon as horizon_statistics
from analysis.studies import of_series
from analysis.studies.horizon import Pair, Trials

# The gradient's horizon before training against the lag that could be learnt, a panel a task.

TASKS = {"recall": "Recall", "adding": "Adding", "copy": "Copy", "temporal_order": "Temporal order"}
TICKS = (5, 10, 20, 50, 100, 200, 400)
LOOKS = {"rnn": (PALETTE[0], MARKERS[0]), "gru": (PALETTE[2], MARKERS[1]), "lstm": (PALETTE[4], MARKERS[2])}


def draw_foretelling(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`."""
    rows = quantities.select(series, "probe=learning,truncation=0")
    if rows.empty:
        return None
    found = {task: horizon_statistics.pairs(rows[rows["task"] == task]) for task in TASKS}
    found = {task: [pair for pair in each if pair.learnable.bounds and pair.horizon.bounds] for task, each in found.items()}
    found = {task: each for task, each in found.items() if each}
    if not found:
        return None
    with look():
        figure, grid = panels(len(found), height=3.3)
        for axes, (task, each) in zip(grid[0], found.items(), strict=True):
            _panel_foretelling(axes, each)
            axes.set_title(TASKS[task])
        grid[0][0].set_ylabel("memory span (L50), steps")
        handles = [Line2D([], [], color=colour, marker=marker, linestyle="", label=cell.upper())
                   for cell, (colour, marker) in LOOKS.items()]  # fmt: skip
        handles.append(Line2D([], [], color=FAINT, lw=1, label="L50 = n(10⁻³)"))
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    said = [f"{TASKS[task]} {_correlation(rows[rows['task'] == task])}" for task in found]
    caption = (
        f"A point is one initialisation of one cell; open towards where it is censored. Rank correlation: {', '.join(said)}."
    )
    return Drawing(figure, "Memory span vs decay length", caption)


def _correlation(rows: pd.DataFrame) -> str:
    return quantities.named("horizon_rank_correlation").format(horizon_statistics.rank_correlation(rows))


def _panel_foretelling(axes: Axes, pairs: list[Pair]) -> None:
    for pair in pairs:
        colour, marker = LOOKS[pair.cell]
        x, y = _end(pair.horizon), _end(pair.learnable)
        known = pair.horizon.value is not None and pair.learnable.value is not None
        for across, found in ((True, pair.horizon), (False, pair.learnable)):
            edges = [found.low or 0.0, _end(found) if found.high is None else found.high]
            axes.plot(*((edges, [y, y]) if across else ([x, x], edges)), color=colour, lw=0.9, alpha=0.6)
        face = colour if known else PAPER
        axes.plot(x, y, marker=marker, color=colour, markerfacecolor=face, markeredgecolor=colour, linestyle="", zorder=3)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        log_values(axis, TICKS)
    axes.axline((10, 10), (100, 100), color=FAINT, lw=1)
    axes.set_xlabel("decay length (10⁻³) before training, steps")
    axes.tick_params(labelleft=True)


def _end(found: Estimate) -> float:
    """The value, or what it is known to lie beyond."""
    return found.value if found.value is not None else found.beyond or 0.0


# What is learnt at which lag: a row an initialisation, a column a lag, with the gradient's horizon laid over.

SELECTION = "probe=learning,task=recall,truncation=0"
LEARNT, HORIZON = PALETTE[4], PALETTE[0]
HALF_STEP = 2**0.25  # lags are half an octave apart
ROW = 0.31  # inches
CELLS = (("rnn", "gru"), ("lstm",))  # a panel each
CELL_ORDER = [cell for cells in CELLS for cell in cells]
SIDES = ("Vanilla RNN and GRU", "LSTM")


def draw_phase(series: pd.DataFrame) -> Drawing | None:
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
            _panel_phase(axes, part)
            axes.set_title(title)
            axes.set_ylim(tallest - 0.45, -0.55)
            axes.set_xlim(lags[0] / HALF_STEP**2, max(lags[-1], *_horizons(rows)) * HALF_STEP)
            log_values(axes.xaxis, lags)
        figure.legend(handles=_legend(), loc="outside lower left", ncols=4, handlelength=1.4, columnspacing=1.4)
    return Drawing(figure, "Share of networks that learn a lag", _caption(rows, hidden))


def _horizons(rows: pd.DataFrame) -> list[float]:
    """How far right the horizons of all rows lie, censored ones at the edge of what was seen."""
    found = [pair.horizon for pair in horizon_statistics.pairs(rows)]
    return [each.value or each.beyond or 1.0 for each in found] or [1.0]


def _panel_phase(axes: Axes, rows: pd.DataFrame) -> None:
    names = []
    cases = [own for _, own in rows.groupby("case", sort=False)]
    cases.sort(key=lambda own: (CELL_ORDER.index(own["cell"].iloc[0]), drawing.init_order(str(own["init"].iloc[0]))))
    for place, own in enumerate(cases):
        found = horizon_statistics.trials(own)
        curve = gradients_statistics.curve(own)
        cell, init = str(own["cell"].iloc[0]), str(own["init"].iloc[0])
        names.append(
            drawing.init_name(init) if cell == "lstm" else f"{cell.upper()} {drawing.init_name(init).partition(' (')[0]}"
        )
        if found is None:
            continue
        for lag, learnt, trained in zip(found.lags, found.learnt, found.trained, strict=True):
            _cell(axes, place, lag, learnt / trained)
        _lag(axes, place, horizon_statistics.learnable_lag(found))
        horizon = gradients_statistics.horizon(curve) if curve is not None else None
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
        Line2D([], [], color=HORIZON, marker="D", linestyle="", label="decay length (10⁻³) before training"),
    ]


def _caption(rows: pd.DataFrame, hidden: int) -> str:
    correlation = quantities.named("horizon_rank_correlation").format(
        quantities.named("horizon_rank_correlation").estimate(rows)
    )
    seeds, updates = int(rows["seeds"].min()), int(rows["updates"].min())
    return (
        f"One of two symbols is to be recalled after so many distractors; H = {hidden}, {seeds} networks a lag, "
        f"{updates} updates. A row ends after the first lag that none learnt; arrowheads: beyond. "
        f"Rank correlation of decay length (10⁻³) and memory span (L50): {correlation}."
    )


# Share of networks that learn a lag, by the number of steps the gradient was followed back.

COLOURS = (PALETTE[0], PALETTE[2], PALETTE[4], PALETTE[6])


def draw_truncated_learning(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; a panel for each network that was trained with and without truncation."""
    rows = quantities.select(series, "probe=learning,task=recall")
    if rows.empty:
        return None
    groups = [(names, own) for names, own in rows.groupby(["cell", "init"], sort=False) if own["truncation"].nunique() > 1]
    if not groups:
        return None
    said = []
    with look():
        figure, grid = panels(max(len(groups), 2), height=3.3)
        for axes, ((cell, init), own) in zip(grid[0], groups, strict=False):
            title = f"{str(cell).upper()} {drawing.init_name(str(init))}"
            said.append(f"{title}: {', '.join(_panel_truncated_learning(axes, own))}")
            axes.set_title(title)
        for axes in grid[0][len(groups) :]:
            axes.set_axis_off()
        grid[0][0].set_ylabel("share of networks that learn the lag")
    return Drawing(
        figure,
        "Memory span under truncated backpropagation",
        "The state is carried over the cut, the gradient is not. Points: networks trained; lines: logistic fits; dotted: k. "
        f"Memory span (L50): {'. '.join(said)}.",
    )


def _panel_truncated_learning(axes: Axes, rows: pd.DataFrame) -> list[str]:
    handles, said, ticks = [], [], []
    order = sorted(rows["truncation"].unique(), key=lambda steps: steps or np.inf)
    for place, steps in enumerate(order):
        found = horizon_statistics.trials(rows[rows["truncation"] == steps])
        if found is None:
            continue
        colour = INK if steps == 0 else COLOURS[place % len(COLOURS)]
        name = f"k = {steps:g}" if steps else "all steps"
        fit = horizon_statistics.learnable_lag(found)
        said.append(f"{name} {quantities.named('learnable_lag').format(fit)}")
        marker = MARKERS[place % len(MARKERS)]
        axes.plot(found.lags, found.learnt / found.trained, marker=marker, color=colour, linestyle="", clip_on=False, zorder=3)
        if fit.value is not None:
            axes.plot(*_curve(found, fit.value), color=colour, lw=1.3)
        if steps:
            axes.axvline(steps, color=colour, lw=0.9, linestyle=(0, (1.2, 1.6)))
        handles.append(Line2D([], [], color=colour, marker=marker, lw=1.3, label=name))
        ticks += list(found.lags)
    axes.set_xscale("log")
    log_values(axes.xaxis, ticks)
    axes.set_ylim(-0.03, 1.03)
    axes.tick_params(labelleft=True)
    axes.set_xlabel("lag, steps")
    drawing.legend_outside(axes, handles)
    return said


def _curve(found: Trials, lag: float) -> tuple[np.ndarray, np.ndarray]:
    """The fitted logistic from the shortest to the longest lag tried."""
    lags = np.geomspace(found.lags[0], found.lags[-1], 200)
    return lags, 1 / (1 + (lags / lag) ** horizon_statistics.steepness(found, lag))


SECTION = ("learning", "Memory span")
FIGURES = of_series({"phase": draw_phase, "foretelling": draw_foretelling, "truncated_learning": draw_truncated_learning})
