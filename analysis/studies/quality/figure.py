"""Loss against parameters, operations, tokens and seconds: a panel a cost, a line an architecture and size."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.report.drawing import Drawing, log_units, look, panels
from analysis.statistics import quantities, seeds, verdicts
from analysis.studies import architectures

EQUAL = (("loss_gap", "tokens"), ("loss_gap_at_equal_flops", "operations"), ("loss_gap_at_equal_time", "time"))
COSTS = (("curve_flops", "operations of training"), ("curve_tokens", "tokens read"), ("curve_seconds", "seconds of training"))


def draw(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; text alone, on which every size was trained."""
    rows = quantities.select(series, "probe=quality,source=text") if {"probe", "source"} <= set(series) else series.iloc[:0]
    cells = [cell for cell in architectures.NAMES if (rows["cell"] == cell).any()] if len(rows) else []
    if not cells:
        return None
    with look():
        figure, grid = panels(2, 2)
        spots = [axes for line in grid for axes in line]
        _over_parameters(spots[0], rows, cells)
        for axes, (cost, label) in zip(spots[1:], COSTS, strict=True):
            _over(axes, rows, cells, cost, label)
        for line in grid:
            line[0].set_ylabel("held-out loss, nats a byte")
        figure.legend(handles=[architectures.mark(cell) for cell in cells], loc="outside upper left", ncols=len(cells))
    return Drawing(figure, "What loss costs", _caption(rows))


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
        colour, marker = architectures.LOOKS[cell]
        if points:
            x, y, half = zip(*points, strict=True)
            axes.errorbar(x, y, half, color=colour, marker=marker, capsize=2.5, elinewidth=1)
    axes.set_xscale("log")
    if counts:
        log_units(axes.xaxis, "", min(counts), max(counts))
    axes.set_xlabel("parameters, embedding and head not counted")


def _over(axes: Axes, rows: pd.DataFrame, cells: list[str], cost: str, label: str) -> None:
    every: list[float] = []
    for cell in cells:
        colour, _ = architectures.LOOKS[cell]
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


def _caption(rows: pd.DataFrame) -> str:
    said = []
    for size, part in rows.sort_values("count_parameters").groupby("size", sort=False):
        gaps = [f"{verdicts.spoken(name, quantities.QUANTITIES[name](part))} at equal {what}" for name, what in EQUAL]
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
            edge.append(f"{architectures.NAMES[str(part['cell'].iloc[0])]} {part['size'].iloc[0]}")
    return (
        f" The best rate was the last of those tried, so that a better one may lie beyond, for: {', '.join(edge)}."
        if edge
        else ""
    )
