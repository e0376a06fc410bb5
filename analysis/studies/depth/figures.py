"""Figure of study `depth`: loss by depth and direction, a panel a task, at equal parameters and at equal time."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.report.drawing import INK, PALETTE, Drawing, look, panels
from analysis.statistics import seeds
from analysis.studies import depth, of_series

LOOKS = {"one": (PALETTE[0], "o", "one direction"), "both": (PALETTE[1], "s", "both directions")}
LINES = {"parameters": "-", "time": (0, (4, 2))}
OPTIMA = {"filter_optimum": PALETTE[2], "smoother_optimum": PALETTE[3]}  # by colour: legends do not tell dashes apart
DOTTED = (0, (1.2, 1.2))


def draw_losses(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`."""
    own = series[series["study"] == "depth"]
    own = own[own["case"].isin(own.loc[own["metric"] == "tagging_loss", "case"])]
    if own.empty:
        return None
    tasks, said = [task for task in depth.TASKS if task in set(own["task"])], []
    with look():
        figure, (line,) = panels(len(tasks), height=3.0)
        for axes, task in zip(line, tasks, strict=True):
            said += _panel(axes, own[own["task"] == task], task)
        line[0].set_ylabel("loss, nat a tag")
        handles = [Line2D([], [], color=colour, marker=marker, label=label) for colour, marker, label in LOOKS.values()]
        handles += [Line2D([], [], color=INK, linestyle=LINES[of], label=label) for of, label in depth.BUDGETS.items()]
        for (name, colour), label in zip(OPTIMA.items(), ("best from the past", "best from the window"), strict=True):
            if (own["metric"] == name).any():
                handles.append(Line2D([], [], color=colour, lw=1.1, linestyle=DOTTED, label=label))
        figure.legend(handles=handles, loc="outside upper left", ncols=3)
    return Drawing(
        figure,
        "Tagging loss vs depth and direction, at equal parameters and at equal time",
        "Mean over seeds, 95 % t-interval; one layer in one direction is the same at both. Loss in nat with one layer and with "
        f"two: {'; '.join(said)}.",
    )


def _panel(axes: Axes, rows: pd.DataFrame, task: str) -> list[str]:
    """Says each line's points."""
    said = []
    for budget, label in depth.BUDGETS.items():
        for kind, (colour, marker, name) in LOOKS.items():
            points: list[tuple[int, float, float]] = []
            chosen = rows[rows["matched"].isin(("like", budget)) & (rows["direction"] == kind)]
            for layers, part in chosen.groupby("num_layers"):
                found, deep = seeds.first(part, "tagging_loss"), int(float(str(layers)))
                if found.value is not None:
                    points.append((deep, found.value, found.reach[0]))
            if points:
                depths, values, halves = zip(*points, strict=True)
                style = LINES[budget]
                said.append(f"{task}, {label}, {name} {' and '.join(f'{value:.3f}' for value in values)}")
                axes.errorbar(depths, values, halves, color=colour, marker=marker, linestyle=style, capsize=2.5, elinewidth=1)
    for name, colour in OPTIMA.items():
        best = seeds.of_first(rows, name)
        if len(best):
            axes.axhline(float(best[0]), color=colour, lw=1.1, linestyle=DOTTED)
    axes.set_xticks(sorted(rows["num_layers"].unique()))
    axes.set_xlabel("layers")
    axes.set_title(task)
    return said


SECTION = ("depth", "Depth and direction at equal parameters and at equal time")
FIGURES = of_series({"losses": draw_losses})
