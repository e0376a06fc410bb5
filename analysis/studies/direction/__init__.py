"""What of the future a network reads, exactly; and losses by depth and direction against optima that are known; over seeds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from analysis.statistics import seeds
from analysis.statistics.quantities import Quantity
from analysis.statistics.seeds import NOT_MEASURED, Estimate, exact, missing, of_first
from analysis.studies.pages import estimated, markdown_table

KIND_NAMES = {"one": "one direction", "both": "both directions", "two_stacks": "two stacks (ELMo)"}
UNPAIRED = Estimate(None, why="not measured for both", measured=False)


def _leakage(of: Callable[[np.ndarray], float]) -> Callable[[pd.DataFrame], Estimate]:
    """The largest or the least over seeds: found, not estimated."""

    def quantity(rows: pd.DataFrame) -> Estimate:
        values = np.concatenate([np.empty(0), *seeds.metric(rows, "future_leakage")])
        return exact(of(values), len(values)) if len(values) else NOT_MEASURED

    return quantity


def _known(rows: pd.DataFrame, name: str) -> float | None:
    found = of_first(rows, name)
    return float(found[0]) if len(found) else None


def less(one: np.ndarray, other: np.ndarray) -> Estimate:
    """The mean of one less the other, the k-th seeds of the two a pair."""
    count = min(len(one), len(other))
    return seeds.mean(one[:count] - other[:count]) if count else UNPAIRED


def below(rows: pd.DataFrame, loss: str, optimum: str) -> Estimate:
    """By how much a loss lies below a known optimum of networks that see less."""
    found, best = of_first(rows, loss), _known(rows, optimum)
    if not len(found) or best is None:
        return NOT_MEASURED
    return seeds.mean(best - found)


def next_token_below_optimum(rows: pd.DataFrame) -> Estimate:
    return below(rows[rows["direction"] == "both"], "next_token_loss", "next_token_optimum")


def prefix_excess(rows: pd.DataFrame) -> Estimate:
    """The loss given the past alone, of both directions less that of one."""
    both, one = (of_first(rows[rows["direction"] == kind], "prefix_loss") for kind in ("both", "one"))
    return less(both, one)


def direction_gain(rows: pd.DataFrame) -> Estimate:
    """The tagging loss of one direction less that of both."""
    one, both = (of_first(rows[rows["direction"] == kind], "tagging_loss") for kind in ("one", "both"))
    return less(one, both)


def depth_gain(rows: pd.DataFrame) -> Estimate:
    """The tagging loss of the shallowest less that of the deepest network."""
    depths = sorted(rows["num_layers"].unique())
    if len(depths) < 2:
        return missing("one depth alone was measured") if len(rows) else NOT_MEASURED
    shallow, deep = (of_first(rows[rows["num_layers"] == depth], "tagging_loss") for depth in (depths[0], depths[-1]))
    return less(shallow, deep)


def tagging_loss(rows: pd.DataFrame) -> Estimate:
    return seeds.first(rows, "tagging_loss")


QUANTITIES = {
    "future_leakage": Quantity(_leakage(np.max), "largest |∂y(t)/∂x(t+j)|, j > 0"),
    "least_future_leakage": Quantity(_leakage(np.min), "least over seeds of the largest |∂y(t)/∂x(t+j)|, j > 0"),
    "next_token_below_optimum": Quantity(next_token_below_optimum, "below the causal optimum by", "nat", compares_cases=True),
    "prefix_excess": Quantity(prefix_excess, "above one direction, given the past alone, by", "nat", compares_cases=True),
    "tagging_loss": Quantity(tagging_loss, "loss", "nat"),
    "direction_gain": Quantity(direction_gain, "one direction less both", "nat", compares_cases=True),
    "depth_gain": Quantity(depth_gain, "shallow less deep", "nat", compares_cases=True),
    "below_causal_optimum": Quantity(
        lambda rows: below(rows, "tagging_loss", "filter_optimum"), "below the causal optimum by", "nat"
    ),
}


def _tagging(series: pd.DataFrame) -> str:
    """Loss by kind and depth, and both optima."""
    depths = (1, 2, 3)
    rows = []
    for kind, label in KIND_NAMES.items():
        selected = [f"study=direction,probe=tagging,direction={kind},num_layers={depth}" for depth in depths]
        cells = [estimated("tagging_loss", of) for of in selected]
        rows.append((label, [cell if cell(series).measured else None for cell in cells]))
    own = series[series["study"] == "direction"]
    best = {name: _known(own, name) for name in ("filter_optimum", "smoother_optimum")}
    said = "Least possible: " + ", ".join(
        f"{value:.4f} {what}"
        for value, what in (
            (best["filter_optimum"], "from the past alone"),
            (best["smoother_optimum"], "from the whole window"),
        )
        if value is not None
    )
    head = ("loss, nat a tag", *(f"{depth} layer{'s' * (depth > 1)}" for depth in depths))
    return f"{markdown_table(series, head, rows)}\n\n{said}."


TABLES = {"tagging": _tagging}
