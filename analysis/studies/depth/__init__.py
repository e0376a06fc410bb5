"""Losses by depth and direction on three tasks, at equal parameters and at equal time; what is compared is `direction`'s."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.statistics import seeds
from analysis.statistics.quantities import Quantity
from analysis.statistics.seeds import NOT_MEASURED, Estimate, exact
from analysis.studies.pages import Measured, estimated, markdown_table

TASKS = ("tokens", "frames", "text")
NETWORKS = {
    "one direction, 1 layer": ("one", 1), "one direction, 2 layers": ("one", 2),
    "both directions, 1 layer": ("both", 1), "both directions, 2 layers": ("both", 2),
}  # fmt: skip
BUDGETS = {"parameters": "equal parameters and updates", "time": "equal time"}


def update_time_ratio(rows: pd.DataFrame) -> Estimate:
    """The median over rounds."""
    found = seeds.metric(rows, "update_time_ratio")
    return exact(float(np.median(np.concatenate(found))), 1) if found else NOT_MEASURED


def updates_trained(rows: pd.DataFrame) -> Estimate:
    found = seeds.of_first(rows, "updates")
    return exact(float(found[0])) if len(found) else NOT_MEASURED


QUANTITIES = {
    "update_time_ratio": Quantity(update_time_ratio, "time of an update over that of one layer in one direction", "×"),
    "updates_trained": Quantity(updates_trained, "updates"),
}


def selections(task: str, budget: str) -> Iterator[str]:
    """Of each network of `NETWORKS`: the one that the others are matched to stands in both budgets."""
    for kind, layers in NETWORKS.values():
        yield f"study=depth,task={task},matched=like|{budget},direction={kind},num_layers={layers}"


def _losses(series: pd.DataFrame) -> str:
    rows = [
        (f"{task}, {label}", [estimated("tagging_loss", of) for of in selections(task, budget)])
        for task in TASKS
        for budget, label in BUDGETS.items()
    ]
    said = []
    for task in TASKS:
        own = series[(series["study"] == "depth") & (series["task"] == task)]
        best = [seeds.of_first(own, name) for name in ("filter_optimum", "smoother_optimum")]
        if all(len(each) for each in best):
            said.append(f"{task} {best[0][0]:.4f} from the past alone, {best[1][0]:.4f} from the whole window")
    return f"{markdown_table(series, ('loss, nat a tag', *NETWORKS), rows)}\n\nLeast possible: {'; '.join(said)}."


def _times(series: pd.DataFrame) -> str:
    """Ratios of time, and the updates that they leave."""
    rows: list[tuple[str, list[Measured | None]]] = []
    for task in TASKS:
        chosen = list(selections(task, "time"))
        rows.append((f"{task}, time of an update", [None, *(estimated("update_time_ratio", of) for of in chosen[1:])]))
        rows.append((f"{task}, updates", [estimated("updates_trained", of) for of in chosen]))
    return markdown_table(series, ("at equal time", *NETWORKS), rows)


TABLES = {"losses": _losses, "times": _times}
