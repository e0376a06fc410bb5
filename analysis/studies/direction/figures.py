"""Figures of study `direction`: the leakage matrix of each network, and tagging loss by depth and direction."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.report.drawing import INK, PALETTE, Drawing, blank, look, panels
from analysis.statistics import quantities, seeds
from analysis.studies import direction, of_series

LOOKS = {"one": (PALETTE[0], "o"), "both": (PALETTE[1], "s"), "two_stacks": (PALETTE[4], "D")}
# Of the leakage figure: label, and what picks the rows.
NETWORKS = (
    ("LSTM, 2 layers", {"cell": "lstm", "direction": "one", "read": "all", "num_layers": 2}),
    ("both ways, 1 layer: forward half", {"cell": "lstm", "direction": "both", "read": "forward", "num_layers": 1}),
    ("both ways, 2 layers: forward half", {"cell": "lstm", "direction": "both", "read": "forward", "num_layers": 2}),
    ("ELMo, 2 layers: forward stack", {"cell": "lstm", "direction": "two_stacks", "read": "forward", "num_layers": 2}),
    ("Transformer, causal", {"cell": "transformer", "direction": "one"}),
    ("Transformer, bidirectional", {"cell": "transformer", "direction": "both"}),
)
COLUMNS = 3
SQUARE = 100.0  # points: a side of the matrix, less gaps
MEASURES_TAGS, MEASURES_LEAKAGE = "tagging_loss", "leakage_matrix"


def _of(series: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of this study's cases that measured a metric."""
    own = series[series["study"] == "direction"]
    return own[own["case"].isin(own.loc[own["metric"] == metric, "case"])] if len(own) else own


# Leakage: which outputs depend on which inputs, exactly.


def matrix(rows: pd.DataFrame, wanted: Mapping[str, str | int]) -> np.ndarray | None:
    """|∂y_t/∂x_s| of the first seed, [T, T]; None where it was not measured."""
    for name, value in wanted.items():
        rows = rows[rows[name] == value]
    found = seeds.metric(rows, MEASURES_LEAKAGE)
    if not found:
        return None
    steps = int(rows["steps"].iloc[-1])
    return found[0].reshape(steps, steps)


def draw_leakage(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; a panel a network."""
    rows = _of(series, MEASURES_LEAKAGE)
    found = [(label, matrix(rows, wanted)) for label, wanted in NETWORKS] if len(rows) else []
    shown = [(label, of) for label, of in found if of is not None]
    if not shown:
        return None
    with look():
        lines = -(-len(shown) // COLUMNS)
        figure, grid = panels(COLUMNS, lines, height=2.6)
        spots = [axes for line in grid for axes in line]
        for axes, (label, of) in zip(spots, shown, strict=False):
            _matrix(axes, of, label)
        blank(spots[len(shown) :])
        for line in grid:
            line[0].set_ylabel("output at step t")
        for axes in grid[-1]:
            axes.set_xlabel("input at step s")
        handles = [
            Line2D([], [], marker="s", linestyle="", color=PALETTE[0], label="depends on a later input"),
            Line2D([], [], marker="s", linestyle="", color=PALETTE[2], label="depends on it"),
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=2)
    said = [f"{label}: {_future(of):.2g}" for label, of in shown]
    return Drawing(
        figure,
        "Which outputs depend on which inputs",
        "Squares: ∂y(t)/∂x(s) is not zero; blank: it is exactly zero; untrained, in float64. The largest derivative by a later "
        f"input: {'; '.join(said)}.",
    )


def _future(of: np.ndarray) -> float:
    return float(np.triu(of, 1).max())


def _matrix(axes: Axes, of: np.ndarray, label: str) -> None:
    steps = len(of)
    later = np.triu(np.ones_like(of, dtype=bool), 1)
    for where, colour in (((of != 0) & ~later, PALETTE[2]), ((of != 0) & later, PALETTE[0])):
        outputs, inputs = np.nonzero(where)
        axes.plot(inputs + 1, outputs + 1, color=colour, marker="s", markersize=SQUARE / steps, linestyle="")
    axes.set_xlim(0.5, steps + 0.5)
    axes.set_aspect("equal")
    axes.set_xticks(range(2, steps + 1, 2))
    axes.set_yticks(range(2, steps + 1, 2))
    axes.set_ylim(steps + 0.5, 0.5)
    axes.grid(False)
    axes.set_title(label)


# Tagging: loss by depth at equal parameters, against what can be had from the past alone and from the whole window.


def draw_tagging(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`."""
    rows = _of(series, MEASURES_TAGS)
    if rows.empty:
        return None
    with look():
        figure, ((axes,),) = panels(1, height=3.1)
        said, handles = [], []
        for kind, (colour, marker) in LOOKS.items():
            points = []
            for layers, part in rows[rows["direction"] == kind].groupby("num_layers"):
                depth = int(float(str(layers)))  # a float beside networks that have no layers to count
                found = direction.tagging_loss(part)
                if found.value is not None:
                    points.append((depth, found.value, found.reach[0]))
                    said.append(
                        f"{direction.KIND_NAMES[kind]}, depth {depth}: {quantities.named('tagging_loss').format(found)}"
                    )
            if points:
                depths, values, halves = zip(*points, strict=True)
                axes.errorbar(depths, values, halves, color=colour, marker=marker, capsize=2.5, elinewidth=1)
                handles.append(Line2D([], [], color=colour, marker=marker, label=direction.KIND_NAMES[kind]))
        for name, label, dash in (
            ("filter_optimum", "best from the past", (0, (4, 2))),
            ("smoother_optimum", "best from the window", (0, (1.2, 1.2))),
        ):
            best = seeds.of_first(rows, name)
            if len(best):
                axes.axhline(float(best[0]), color=INK, lw=1.1, linestyle=dash)
                handles.append(Line2D([], [], color=INK, lw=1.1, linestyle=dash, label=label))
        axes.set_xticks(sorted(rows["num_layers"].unique()))
        axes.set_xlabel("layers, at equal parameters")
        axes.set_ylabel("loss, nat a tag")
        figure.legend(handles=handles, loc="outside upper left", ncols=2)
    return Drawing(
        figure,
        "Tagging loss vs depth and direction",
        f"Hidden states of a Markov source from its tokens; mean over seeds, 95 % t-interval. Loss: {'; '.join(said)}.",
    )


SECTION = ("direction", "Depth and direction")
FIGURES = of_series({"leakage": draw_leakage, "tagging": draw_tagging})
