"""Figures of study `descendants`: accuracy over the length of a sequence, and what is recalled by bytes of state."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.report.drawing import FAINT, PALETTE, Drawing, log_units, log_values, look, panels
from analysis.statistics import quantities, seeds
from analysis.studies import descendants, of_series

LOOKS = {
    "lstm": (PALETTE[0], "o"), "slstm": (PALETTE[3], "P"), "mlstm": (PALETTE[6], "X"), "minlstm": (PALETTE[4], "v"),
    "s4d": (PALETTE[2], "D"), "mamba": (PALETTE[5], "^"), "transformer": (PALETTE[1], "s"),
}  # fmt: skip
MARKED = 9  # points of a curve that carry the network's marker


def _mark(network: str) -> Line2D:
    colour, marker = LOOKS[network]
    return Line2D([], [], color=colour, marker=marker, label=descendants.NAMES[network])


def _of(series: pd.DataFrame, tasks: tuple[str, ...]) -> pd.DataFrame:
    own = series[series["study"] == "descendants"]
    return own[own["task"].isin(tasks)] if len(own) else own


# Accuracy by step: where a network's answers end to be right, within the lengths trained on and beyond.


def draw_by_length(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; a panel each for parity and S5."""
    rows = _of(series, ("parity", "s5"))
    tasks = [task for task in ("parity", "s5") if (rows["task"] == task).any()] if len(rows) else []
    if not tasks:
        return None
    with look():
        figure, grid = panels(len(tasks), height=3.1)
        for axes, task in zip(grid[0], tasks, strict=True):
            _lengths(axes, rows[rows["task"] == task], task)
        grid[0][0].set_ylabel("share of right answers")
        there = [name for name in LOOKS if (rows["network"] == name).any()]
        figure.legend(handles=[_mark(name) for name in there], loc="outside upper left", ncols=4)
    return Drawing(figure, "State tracking: accuracy vs sequence length", _caption_of_lengths(rows, tasks))


def _lengths(axes: Axes, rows: pd.DataFrame, task: str) -> None:
    steps = int(rows["steps"].max())
    for network in LOOKS:
        found = descendants.by_step(rows[rows["network"] == network])
        if not found.size:
            continue
        colour, marker = LOOKS[network]
        at = list(range(1, found.shape[1] + 1))
        middle = found.mean(0)
        half = seeds.half_width_drawn(found)
        axes.fill_between(at, middle - half, middle + half, color=colour, alpha=0.15, lw=0)
        axes.plot(at, middle, color=colour, marker=marker, markersize=4, markevery=max(1, len(at) // MARKED))
    axes.axvline(float(rows["size"].iloc[0]), color=FAINT, lw=1)
    axes.axhline(descendants.CHANCE[task], color=FAINT, lw=1, linestyle=(0, (1.2, 1.6)))
    axes.set_ylim(-0.03, 1.04)
    axes.set_xscale("log")
    log_values(axes.xaxis, [float(1 << power) for power in range(steps.bit_length())])
    axes.set_xlabel("steps read")
    axes.set_title(descendants.TASKS[task])


def _caption_of_lengths(rows: pd.DataFrame, tasks: list[str]) -> str:
    said = []
    for task in tasks:
        own = rows[rows["task"] == task]
        texts = []
        for network in (name for name in LOOKS if (own["network"] == name).any()):
            part = own[own["network"] == network]
            within, beyond = (
                quantities.named(name).format(quantities.named(name).estimate(part))
                for name in ("accuracy_at_trained_length", "accuracy_beyond_training")
            )
            texts.append(f"{descendants.NAMES[network]} {within}, beyond {beyond}")
        said.append(f"{descendants.TASKS[task]}, at the longest length trained on: {'; '.join(texts)}")
    return (
        "One layer each; mean over seeds with its 95 % t-band. Grey line: longest sequence trained on; dotted: chance. "
        f"{'. '.join(said)}."
    )


# Recall by bytes of state, and selective copy beside it.


def draw_recall(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; a panel each for recall and selective copy."""
    rows = _of(series, ("recall", "selective_copy"))
    tasks = [task for task in ("recall", "selective_copy") if (rows["task"] == task).any()] if len(rows) else []
    if not tasks:
        return None
    with look():
        figure, grid = panels(len(tasks), height=3.1)
        for axes, task in zip(grid[0], tasks, strict=True):
            _states(axes, rows[rows["task"] == task], task)
        grid[0][0].set_ylabel("share of right answers")
        there = [name for name in LOOKS if (rows["network"] == name).any()]
        figure.legend(handles=[_mark(name) for name in there], loc="outside upper left", ncols=4)
    return Drawing(figure, "Recall and selective copy vs bytes of state", _caption_of_states(rows, tasks))


def _states(axes: Axes, rows: pd.DataFrame, task: str) -> None:
    every = []
    for network in LOOKS:
        points = sorted(
            (state, found) for name, _, state, found in descendants.by_state(rows) if name == network and found.value
        )
        if not points:
            continue
        colour, marker = LOOKS[network]
        states, values = [state for state, _ in points], [found.value or 0.0 for _, found in points]
        halves = [(found.value or 0.0) - (found.low if found.low is not None else found.value or 0.0) for _, found in points]
        axes.errorbar(states, values, halves, color=colour, marker=marker, capsize=2.5, elinewidth=1)
        every += states
    axes.axhline(descendants.CHANCE[task], color=FAINT, lw=1, linestyle=(0, (1.2, 1.6)))
    axes.set_ylim(-0.03, 1.04)
    axes.set_xscale("log")
    if every:
        axes.set_xlim(min(every) / 1.5, max(every) * 1.5)
        log_units(axes.xaxis, "B", min(every), max(every))
    axes.tick_params(labelleft=True)
    axes.set_xlabel("state of one sequence at its end")
    axes.set_title(descendants.TASKS[task])


def _caption_of_states(rows: pd.DataFrame, tasks: list[str]) -> str:
    said = []
    if "recall" in tasks:
        name = "recall_rank_correlation"
        found = quantities.named(name).estimate(rows[rows["task"] == "recall"])
        said.append(f"Rank correlation of state and recall over networks and widths: {quantities.named(name).format(found)}")
    if "selective_copy" in tasks:
        texts = [
            f"{descendants.NAMES[network]} {quantities.named('task_accuracy').format(found)}"
            for network, _, _, found in descendants.by_state(rows[rows["task"] == "selective_copy"])
        ]
        said.append(f"Selective copy: {'; '.join(texts)}")
    return (
        "Mean over seeds, 95 % t-interval; dotted: chance. A Transformer's state is its cache of keys and values. "
        f"{'. '.join(said)}."
    )


SECTION = ("descendants", "What descends from the LSTM")
FIGURES = of_series({"by_length": draw_by_length, "recall": draw_recall})
