"""Loss by token index: where in a window the LSTM and the Transformer part; a panel a source (Kaplan et al. 2020, figure 7)."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.report.drawing import Drawing, log_values, look, panels
from analysis.report.style import FAINT, INK
from analysis.statistics import seeds, verdicts
from analysis.studies import architectures
from analysis.studies.quality import quality

BINS_PER_OCTAVE = 3  # over which the loss is averaged: one token's is noise


def draw(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; of each source the largest size."""
    rows = series[series["probe"] == "quality"] if "probe" in series else series.iloc[:0]
    found = [_largest(part) for _, part in rows.groupby("source", sort=False)] if len(rows) else []
    if not found:
        return None
    found.sort(key=lambda part: str(part["source"].iloc[0]) != "text")
    cells = [cell for cell in architectures.NAMES if any((part["cell"] == cell).any() for part in found)]
    with look():
        figure, grid = panels(len(found), height=3.2, share_y=False)
        for axes, part in zip(grid[0], found, strict=True):
            _panel(axes, part, cells)
        grid[0][0].set_ylabel("loss, nats a token")
        handles = [*(architectures.mark(cell) for cell in cells), architectures.optimum()]
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    return Drawing(figure, "Where in a window they differ", _caption(found))


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
    for cell, values in quality.by_cell(rows, "loss_by_index").items():
        if cell not in cells:
            continue
        at, means = binned(values)
        colour, marker = architectures.LOOKS[cell]
        half = seeds.half_width(means) if len(means) > 1 else 0
        axes.fill_between(at, means.mean(0) - half, means.mean(0) + half, color=colour, alpha=0.18, lw=0)
        axes.plot(at, means.mean(0), color=colour, marker=marker, markersize=3.5)
    best = seeds.together(seeds.metric(rows, "optimum_by_index"))
    if best.size:
        at, means = binned(best)
        axes.plot(at, means[0], color=INK, lw=1.1, linestyle=(0, (4, 2)))
    axes.axvline(quality.EARLY_TOKENS, color=FAINT, lw=1)
    axes.set_xscale("log")
    steps = int(rows["steps"].iloc[0])
    log_values(axes.xaxis, [float(1 << power) for power in range(0, steps.bit_length(), 1 + (steps > 128))])
    axes.tick_params(labelleft=True)
    axes.set_xlabel("tokens of context")
    axes.set_title(architectures.source(str(rows["source"].iloc[0])))


def _caption(found: list[pd.DataFrame]) -> str:
    said = []
    for rows in found:
        split = quality.shares(rows)
        if split is not None:
            early, late = (verdicts.spoken("loss_gap", each) for each in split)
            said.append(
                f"{architectures.source(str(rows['source'].iloc[0]))}: {early} from the first ten, {late} from the others"
            )
    return (
        "Mean over held-out windows and seeds, 95 % t-band. The gap (LSTM less Transformer) in two parts that add up to it: "
        f"{'; '.join(said)}. Grey: ten tokens."
    )
