"""Accuracy of the descendants on the tasks of study `descendants`: beyond training, by state bytes, against S4D; over seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.statistics import seeds
from analysis.statistics.quantities import Quantity
from analysis.statistics.seeds import FEWEST_PAIRS, NOT_MEASURED, Estimate, missing, spearman, too_few, within_unit
from analysis.studies.pages import estimated, markdown_table

NAMES = {
    "lstm": "LSTM", "slstm": "sLSTM", "mlstm": "mLSTM", "minlstm": "minLSTM", "s4d": "S4D", "mamba": "Mamba",
    "transformer": "Transformer",
}  # fmt: skip
TASKS = {"parity": "Parity", "s5": "Permutations (S5)", "recall": "Associative recall", "selective_copy": "Selective copy"}
CHANCE = {"parity": 1 / 2, "s5": 1 / 120, "recall": 1 / 16, "selective_copy": 1 / 8}


def accuracy(rows: pd.DataFrame) -> Estimate:
    return within_unit(seeds.first(rows, "accuracy"))


def by_step(rows: pd.DataFrame) -> np.ndarray:
    """Share of right answers by seed and step, [S, T]."""
    return seeds.together(seeds.metric(rows, "accuracy_by_step"))


def beyond_training(rows: pd.DataFrame) -> Estimate:
    """Over all steps after the longest sequence that was trained on."""
    found = by_step(rows)
    if not found.size:
        return NOT_MEASURED
    after = found[:, int(rows["size"].iloc[0]) :]
    return within_unit(seeds.mean(after.mean(1))) if after.size else missing("not tested beyond the sequences trained on")


def at_trained_length(rows: pd.DataFrame) -> Estimate:
    """At the last step of the longest sequence that was trained on."""
    found = by_step(rows)
    return within_unit(seeds.mean(found[:, int(rows["size"].iloc[0]) - 1])) if found.size else NOT_MEASURED


def by_state(rows: pd.DataFrame) -> list[tuple[str, int, float, Estimate]]:
    """Network, width, bytes of state and accuracy of each case."""
    found = []
    for _, part in rows.groupby("case", sort=False):
        state = seeds.metric(part, "network_state_bytes")
        if state:
            own = part.iloc[0]
            found.append((str(own["network"]), int(own["hidden_size"]), float(state[0][0]), accuracy(part)))
    return found


def recall_rank_correlation(rows: pd.DataFrame) -> Estimate:
    """Spearman's of bytes of state and mean accuracy, over networks and widths."""
    known = np.array([(state, found.value) for _, _, state, found in by_state(rows) if found.value is not None])
    if not len(known):
        return NOT_MEASURED
    if len(known) < FEWEST_PAIRS:
        return too_few(len(known), "network", "for a correlation")
    value, low, high = spearman(known)
    return Estimate(value, low, high, len(known))


def gain_with_width(rows: pd.DataFrame) -> Estimate:
    """Accuracy of the widest less that of the narrowest, the k-th seeds of the two a pair."""
    widths = sorted(rows["hidden_size"].unique())
    if len(widths) < 2:
        return missing("one width alone was measured") if len(rows) else NOT_MEASURED
    return _difference(*(rows[rows["hidden_size"] == width] for width in (widths[-1], widths[0])))


def lead_over_s4d(rows: pd.DataFrame) -> Estimate:
    """Accuracy of the other network less S4D's, the k-th seeds of the two a pair."""
    return _difference(rows[rows["network"] != "s4d"], rows[rows["network"] == "s4d"])


def _difference(one: pd.DataFrame, other: pd.DataFrame) -> Estimate:
    own, its = (seeds.together(seeds.metric(part, "accuracy")) for part in (one, other))
    if not own.size or not its.size:
        return Estimate(None, why="not measured for both", measured=False)
    count = min(len(own), len(its))
    return seeds.mean(own[:count, 0] - its[:count, 0])


QUANTITIES = {
    "task_accuracy": Quantity(accuracy, "accuracy"),
    "accuracy_beyond_training": Quantity(beyond_training, "accuracy beyond the trained length"),
    "accuracy_at_trained_length": Quantity(at_trained_length, "accuracy at the trained length"),
    "recall_rank_correlation": Quantity(recall_rank_correlation, "rank correlation of state and recall", compares_cases=True),
    "recall_gain_with_width": Quantity(gain_with_width, "gain in accuracy", compares_cases=True),
    "lead_over_s4d": Quantity(lead_over_s4d, "accuracy less S4D's", compares_cases=True),
}


def _tracking(series: pd.DataFrame) -> str:
    """Parity and S5, a row a network."""
    columns = (
        ("accuracy_at_trained_length", "parity"), ("accuracy_beyond_training", "parity"),
        ("accuracy_at_trained_length", "s5"), ("accuracy_beyond_training", "s5"),
    )  # fmt: skip
    rows = [
        (label, [estimated(quantity, f"study=descendants,task={task},network={name}") for quantity, task in columns])
        for name, label in NAMES.items()
    ]
    head = ("network", "parity at the trained length", "parity beyond", "S5 at the trained length", "S5 beyond")
    return markdown_table(series, head, rows)


def _memory(series: pd.DataFrame) -> str:
    """Recall by width and selective copy, a row a network."""
    own = series[series["study"] == "descendants"]
    widths = sorted(own.loc[own["task"] == "recall", "hidden_size"].unique())
    rows = []
    for name, label in NAMES.items():
        at = [f"study=descendants,task=recall,network={name},hidden_size={width}" for width in widths]
        cells = [estimated("task_accuracy", of) for of in (*at, f"study=descendants,task=selective_copy,network={name}")]
        if any(cell(series).measured for cell in cells):
            rows.append((label, cells))
    head = ("network", *(f"recall, H = {width:g}" for width in widths), "selective copy")
    return markdown_table(series, head, rows)


TABLES = {"tracking": _tracking, "memory": _memory}
