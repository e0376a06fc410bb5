"""Figures of study `quality`."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.report import drawing
from analysis.report.drawing import FAINT, INK, Drawing, log_units, log_values, look, panels
from analysis.statistics import quantities, seeds
from analysis.studies import of_series
from analysis.studies import quality as quality_statistics

# Loss against parameters, operations, tokens and seconds: a panel a cost, a line an architecture and size.

EQUAL = (("loss_gap", "tokens"), ("loss_gap_at_equal_flops", "training FLOPs"), ("loss_gap_at_equal_time", "wall-clock time"))
COSTS = (("curve_flops", "training FLOPs"), ("curve_tokens", "training tokens"), ("curve_seconds", "wall-clock time"))


def draw_quality(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; text alone, on which every size was trained."""
    rows = quantities.select(series, "probe=quality,source=text") if {"probe", "source"} <= set(series) else series.iloc[:0]
    cells = [cell for cell in drawing.ARCHITECTURE_NAMES if (rows["cell"] == cell).any()] if len(rows) else []
    if not cells:
        return None
    with look():
        figure, grid = panels(2, 2)
        spots = [axes for line in grid for axes in line]
        _over_parameters(spots[0], rows, cells)
        for axes, (cost, label) in zip(spots[1:], COSTS, strict=True):
            _over(axes, rows, cells, cost, label)
        for line in grid:
            line[0].set_ylabel("validation loss, nat/byte")
        figure.legend(handles=[drawing.mark_architectures(cell) for cell in cells], loc="outside upper left", ncols=len(cells))
    return Drawing(figure, "Validation loss vs training cost", _caption_quality(rows))


def _over_parameters(axes: Axes, rows: pd.DataFrame, cells: list[str]) -> None:
    counts: list[float] = []
    for cell in cells:
        points = []
        for _, part in rows[rows["cell"] == cell].groupby("case", sort=False):
            found = seeds.mean(np.concatenate([np.empty(0), *seeds.metric(part, "loss")]))
            if found.value is not None and found.low is not None:
                points.append((float(part["count_parameters"].iloc[0]), found.value, found.value - found.low))
        points.sort()
        counts += [point[0] for point in points]
        colour, marker = drawing.LOOKS[cell]
        if points:
            x, y, half = zip(*points, strict=True)
            axes.errorbar(x, y, half, color=colour, marker=marker, capsize=2.5, elinewidth=1)
    axes.set_xscale("log")
    if counts:
        log_units(axes.xaxis, "", min(counts), max(counts))
    axes.set_xlabel("parameters without embedding and head")


def _over(axes: Axes, rows: pd.DataFrame, cells: list[str], cost: str, label: str) -> None:
    every: list[float] = []
    for cell in cells:
        colour, _ = drawing.LOOKS[cell]
        for place, (_, part) in enumerate(
            rows[rows["cell"] == cell].sort_values("count_parameters").groupby("case", sort=False)
        ):
            losses, costs = (seeds.together(seeds.metric(part, name)) for name in ("curve_loss", cost))
            if losses.size and costs.size:
                axes.plot(costs.mean(0), losses.mean(0), color=colour, lw=0.9 + 0.6 * place, marker=".", markersize=4)
                every += costs.mean(0).tolist()
    axes.set_xscale("log")
    if every:
        log_units(axes.xaxis, "s" if cost == "curve_seconds" else "", min(every), max(every))
    axes.set_xlabel(label)


def _caption_quality(rows: pd.DataFrame) -> str:
    said = []
    for size, part in rows.sort_values("count_parameters").groupby("size", sort=False):
        gaps = [
            f"{quantities.named(name).format(quantities.named(name).estimate(part))} at equal {what}" for name, what in EQUAL
        ]
        said.append(f"{size}: {', '.join(gaps)}")
    return (
        "Python's own source or a corpus as bytes; for each size the best of the learning rates tried, mean over seeds, 95 % "
        f"t-interval. Thicker: larger. The LSTM's loss less the Transformer's: {'; '.join(said)}. "
        "Curves before their end are of a schedule not yet at its end." + _at_the_edge(rows)
    )


def _at_the_edge(rows: pd.DataFrame) -> str:
    """Where the best rate is the highest or lowest tried, a better one may lie beyond: said, not hidden."""
    edge = []
    for _, part in rows.groupby("case", sort=False):
        tried, losses = (seeds.together(seeds.metric(part, name)) for name in ("learning_rate", "trial_loss"))
        if losses.size and tried[0][losses[0].argmin()] in (tried[0].min(), tried[0].max()) and tried.size > 1:
            edge.append(f"{drawing.ARCHITECTURE_NAMES[str(part['cell'].iloc[0])]} {part['size'].iloc[0]}")
    return (
        f" The best rate was the last of those tried, so that a better one may lie beyond, for: {', '.join(edge)}."
        if edge
        else ""
    )


# Loss by token index: where in a window the LSTM and the Transformer part; a panel a source (Kaplan et al. 2020, figure 7).

BINS_PER_OCTAVE = 3  # over which the loss is averaged: one token's is noise


def draw_by_index(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; of each source the largest size."""
    rows = series[series["probe"] == "quality"] if "probe" in series else series.iloc[:0]
    found = [_largest(part) for _, part in rows.groupby("source", sort=False)] if len(rows) else []
    if not found:
        return None
    found.sort(key=lambda part: str(part["source"].iloc[0]) != "text")
    cells = [cell for cell in drawing.ARCHITECTURE_NAMES if any((part["cell"] == cell).any() for part in found)]
    with look():
        figure, grid = panels(len(found), height=3.2, share_y=False)
        for axes, part in zip(grid[0], found, strict=True):
            _panel(axes, part, cells)
        grid[0][0].set_ylabel("validation loss, nat/token")
        handles = [*(drawing.mark_architectures(cell) for cell in cells), drawing.optimum()]
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    return Drawing(figure, "Validation loss vs position in the context", _caption_by_index(found))


def _largest(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the size with the most parameters, both architectures."""
    top = rows.sort_values("count_parameters")["size"].iloc[-1]
    return rows[rows["size"] == top]


def binned(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Context lengths and means of [S, T] over thirds of an octave; index 0 has a context of one token."""
    length = values.shape[1]
    edges = np.unique(np.round(2 ** np.arange(0, np.log2(length + 1) + 1e-9, 1 / BINS_PER_OCTAVE)).astype(int))
    edges = edges[edges <= length]
    edges[-1] = length + 1  # a last bin of a token or two is noise
    pieces = [values[:, low - 1 : high - 1].mean(1) for low, high in itertools.pairwise(edges)]
    return np.sqrt(edges[:-1] * (edges[1:] - 1.0)), np.stack(pieces, 1)


def _panel(axes: Axes, rows: pd.DataFrame, cells: list[str]) -> None:
    for cell, values in seeds.by_cell(rows, "loss_by_index").items():
        if cell not in cells:
            continue
        at, means = binned(values)
        colour, marker = drawing.LOOKS[cell]
        half = seeds.half_width_drawn(means)
        axes.fill_between(at, means.mean(0) - half, means.mean(0) + half, color=colour, alpha=0.18, lw=0)
        axes.plot(at, means.mean(0), color=colour, marker=marker, markersize=3.5)
    best = seeds.together(seeds.metric(rows, "optimum_by_index"))
    if best.size:
        at, means = binned(best)
        axes.plot(at, means[0], color=INK, lw=1.1, linestyle=(0, (4, 2)))
    axes.axvline(quality_statistics.EARLY_TOKENS, color=FAINT, lw=1)
    axes.set_xscale("log")
    steps = int(rows["steps"].iloc[0])
    log_values(axes.xaxis, [float(1 << power) for power in range(0, steps.bit_length(), 1 + (steps > 128))])
    axes.tick_params(labelleft=True)
    axes.set_xlabel("context, tokens")
    axes.set_title(drawing.source(str(rows["source"].iloc[0])))


def _caption_by_index(found: list[pd.DataFrame]) -> str:
    said = []
    for rows in found:
        split = quality_statistics.shares(rows)
        if split is not None:
            early, late = (quantities.named("loss_gap").format(each) for each in split)
            said.append(f"{drawing.source(str(rows['source'].iloc[0]))}: {early} from the first ten, {late} from the others")
    return (
        "Mean over validation windows and seeds, 95 % t-band. The gap (LSTM less Transformer) in two parts that add up to it: "
        f"{'; '.join(said)}. Grey: ten tokens."
    )


SECTION = ("language", "Language models: loss and use of context")
FIGURES = of_series({"quality": draw_quality, "by_index": draw_by_index})
