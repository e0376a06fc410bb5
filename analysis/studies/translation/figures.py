"""Figures of study `translation`: exact translations over the length of the source, and loss by depth."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.report.drawing import FAINT, PALETTE, Drawing, blank, log_values, look, panels
from analysis.statistics import quantities, seeds
from analysis.studies import of_series, translation

# By network and order of the source: colour, marker, dash.
LOOKS = {
    ("lstm", "forwards"): (PALETTE[5], "^", (0, (4, 2))), ("lstm", "backwards"): (PALETTE[0], "o", "-"),
    ("attention", "forwards"): (PALETTE[4], "v", "-"), ("transformer", "forwards"): (PALETTE[1], "s", "-"),
}  # fmt: skip
COLUMNS = 2
LOSSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # ticks


def _of(series: pd.DataFrame, probe: str) -> pd.DataFrame:
    own = series[series["study"] == "translation"]
    return own[own["probe"] == probe] if len(own) else own


# Exact translations by length: within the lengths trained on, and beyond.


def draw_by_length(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; a panel a task."""
    rows = _of(series, "tasks")
    tasks = [task for task in translation.TASKS if (rows["task"] == task).any()] if len(rows) else []
    if not tasks:
        return None
    with look():
        figure, grid = panels(min(len(tasks), COLUMNS), -(-len(tasks) // COLUMNS))
        spots = [axes for line in grid for axes in line]
        for axes, task in zip(spots, tasks, strict=False):
            _lengths(axes, rows[rows["task"] == task], task)
        blank(spots[len(tasks) :])
        for line in grid:
            line[0].set_ylabel("exact translations")
        handles = [_mark(label, LOOKS[network, order]) for label, network, order in translation.NETWORKS
                   if len(translation.picked(rows, network, order))]  # fmt: skip
        figure.legend(handles=handles, loc="outside upper left", ncols=2)
    return Drawing(figure, "Exact translations vs length of the source", _caption_of_lengths(rows, tasks))


def _mark(label: str, own: tuple[object, ...]) -> Line2D:
    colour, marker, dash = own
    return Line2D([], [], color=colour, marker=marker, linestyle=dash, label=label)  # pyright: ignore[reportArgumentType]


def _lengths(axes: Axes, rows: pd.DataFrame, task: str) -> None:
    for (network, order), (colour, marker, dash) in LOOKS.items():
        lengths, exact, _ = translation.by_length(translation.picked(rows, network, order))
        if not exact.size:
            continue
        middle = exact.mean(0)
        half = seeds.half_width_drawn(exact)
        axes.fill_between(lengths, middle - half, middle + half, color=colour, alpha=0.15, lw=0)
        axes.plot(lengths, middle, color=colour, marker=marker, markersize=4, linestyle=dash)
    axes.axvline(float(rows["size"].iloc[0]), color=FAINT, lw=1)
    axes.set_ylim(-0.03, 1.04)
    axes.set_xlabel("words of the source")
    axes.set_title(task.capitalize())


def _caption_of_lengths(rows: pd.DataFrame, tasks: list[str]) -> str:
    said = []
    for task in tasks:
        texts = []
        for label, network, order in translation.NETWORKS:
            part = translation.picked(rows[rows["task"] == task], network, order)
            if len(part):
                within, beyond = (
                    quantities.named(name).format(quantities.named(name).estimate(part))
                    for name in ("exact_match", "exact_beyond_training")
                )
                texts.append(f"{label} {within}, beyond {beyond}")
        said.append(f"{task.capitalize()}: {'; '.join(texts)}")
    return (
        "Share of greedy translations that are right to the last word; mean over seeds, 95 % t-band. Grey line: longest "
        f"source trained on. Shares within the lengths trained on, and beyond. {'. '.join(said)}."
    )


# Loss by depth, at one width.


def draw_depth(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`."""
    rows = _of(series, "depth")
    points = []
    for layers, part in rows.groupby("num_layers") if len(rows) else ():
        found = translation.translation_loss(part)
        if found.value is not None:
            points.append((int(float(str(layers))), found))
    if not points:
        return None
    with look():
        figure, ((axes,),) = panels(1)
        values = [found.value or 0.0 for _, found in points]
        halves = [(found.value or 0.0) - (found.low if found.low is not None else found.value or 0.0) for _, found in points]
        colour, marker, _ = LOOKS["lstm", "backwards"]
        axes.errorbar([depth for depth, _ in points], values, halves, color=colour, marker=marker, capsize=2.5, elinewidth=1)
        axes.set_xticks([depth for depth, _ in points])
        axes.set_yscale("log")
        log_values(axes.yaxis, LOSSES)
        axes.set_xlabel("layers of encoder and decoder, of one width")
        axes.set_ylabel("loss, nat a word")
    texts = [f"{depth}: {quantities.named('translation_loss').format(found)}" for depth, found in points]
    return Drawing(
        figure,
        "Translation loss vs depth",
        "Grammar, the source read from its end, as many updates at each depth; mean over seeds, 95 % t-interval. Layers: "
        f"{'; '.join(texts)}.",
    )


SECTION = ("translation", "Sequence to sequence")
FIGURES = of_series({"translation_length": draw_by_length, "translation_depth": draw_depth})
