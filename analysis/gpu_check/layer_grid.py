"""Speedup of the CUDA kernels over cuDNN by hidden size and batch size, from the table of whole layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from analysis.report import words
from analysis.report.drawing import INK, PAPER, UNDECIDED, Drawing, colour, look, panels

OURS, BASELINE = "cuda", "cudnn"
PHASES = {"f": "Forward", "fb": "Forward and backward"}
STRONGEST = math.log(8)  # the speedup from which on a cell's colour is at its strongest
SAME = 0.01  # of 1: a speedup so near has no colour


def draw(rows: Sequence[Mapping[str, float]], where: str) -> Drawing:
    """rows: H, B and for each phase microseconds a call, `ours_f`, `cudnn_f` and so on. where: the conditions they share."""
    sizes = [sorted({int(row[name]) for row in rows}) for name in ("H", "B")]
    with look():
        figure, grid = panels(len(PHASES), 1, 0.9 + 0.4 * len(sizes[1]), share_y=False)
        for axes, (phase, title) in zip(grid[0], PHASES.items(), strict=True):
            _panel(axes, rows, phase, *sizes)
            axes.set_title(title)
            axes.set_xlabel(f"hidden size H ({where})")
        grid[0][0].set_ylabel("batch size B")
        handles = [
            Line2D([], [], marker="s", markersize=9, linestyle="", color=colour(name), label=text)
            for name, text in ((OURS, "cuda (ours) is faster"), (BASELINE, "cudnn is faster"))
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=2, columnspacing=1.6)
    parts = [
        f"{title.lower()} {words.digits(geometric_mean(rows, phase))}× ({sum(speedup(row, phase) > 1 for row in rows)} of "
        f"{len(rows)} points won)"
        for phase, title in PHASES.items()
    ]
    caption = f"Speedup of backend cuda over cudnn, {where}; geometric means: {words.listed(parts)}."
    return Drawing(figure, "Speedup over cuDNN by hidden size and batch size", caption)


def speedup(row: Mapping[str, float], phase: str) -> float:
    return row[f"cudnn_{phase}"] / row[f"ours_{phase}"]


def geometric_mean(rows: Sequence[Mapping[str, float]], phase: str) -> float:
    return math.exp(sum(math.log(speedup(row, phase)) for row in rows) / len(rows))


def _panel(axes: Axes, rows: Sequence[Mapping[str, float]], phase: str, hiddens: list[int], batches: list[int]) -> None:
    for row in rows:
        at, found = (hiddens.index(int(row["H"])), batches.index(int(row["B"]))), speedup(row, phase)
        strength = min(abs(math.log(found)) / STRONGEST, 1)
        fill, alpha = colour(OURS if found > 1 else BASELINE), 0.12 + 0.6 * strength
        if abs(found - 1) < SAME:
            fill, alpha = UNDECIDED, 1.0
        axes.add_patch(Rectangle((at[0] - 0.5, at[1] - 0.5), 1, 1, edgecolor=PAPER, linewidth=2, facecolor=fill, alpha=alpha))
        axes.text(*at, f"{words.digits(found, 2 if found < 1 else 3)}×", ha="center", va="center", fontsize=8, color=INK)
    axes.set(xlim=(-0.5, len(hiddens) - 0.5), ylim=(-0.5, len(batches) - 0.5))
    axes.set_xticks(range(len(hiddens)), [str(value) for value in hiddens])
    axes.set_yticks(range(len(batches)), [str(value) for value in batches])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[["left", "bottom"]].set_visible(False)
