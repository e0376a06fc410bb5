"""How translators do on known tasks: by the order of the source, depth, attention, and length beyond training; over seeds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.statistics import seeds
from analysis.statistics.quantities import Quantity
from analysis.statistics.seeds import NOT_MEASURED, Estimate, missing
from analysis.studies.pages import estimated, markdown_table

TASKS = ("grammar", "copy", "reverse", "sort")
# Label, network, and order in which the source is read.
NETWORKS = (
    ("LSTM, source forwards", "lstm", "forwards"), ("LSTM, source from its end", "lstm", "backwards"),
    ("LSTM with attention", "attention", "forwards"), ("Transformer", "transformer", "forwards"),
)  # fmt: skip
DEPTHS = (1, 2, 3, 4)
LEAST_LEARNT = 0.1  # exact translations within training, for a share of them to mean something


def picked(rows: pd.DataFrame, network: str, order: str) -> pd.DataFrame:
    """The rows of a network that reads the source in an order."""
    return rows[(rows["network"] == network) & (rows["order"] == order)]


def by_length(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, int]:
    """Of one case: lengths tested [K], share of exact translations [S, K], and how many of the lengths were trained on."""
    exact = seeds.together(seeds.metric(rows, "exact_by_length"))
    if not exact.size:
        return np.empty(0, int), exact, 0
    steps, size = (int(rows[name].iloc[-1]) for name in ("steps", "size"))
    lengths = np.arange(steps - exact.shape[1] + 1, steps + 1)
    return lengths, exact, int((lengths <= size).sum())


def translation_loss(rows: pd.DataFrame) -> Estimate:
    return seeds.first(rows, "translation_loss")


def exact_match(rows: pd.DataFrame) -> Estimate:
    return seeds.within_unit(seeds.first(rows, "exact_match"))


def exact_beyond(rows: pd.DataFrame) -> Estimate:
    """Mean over all lengths beyond training."""
    _, exact, trained = by_length(rows)
    if not exact.size:
        return NOT_MEASURED
    after = exact[:, trained:]
    return seeds.within_unit(seeds.mean(after.mean(1))) if after.size else missing("not tested beyond the lengths trained on")


def kept_beyond(rows: pd.DataFrame) -> Estimate:
    """Share of exact translations beyond training over that within, each a mean over its lengths; of a seed each."""
    _, exact, trained = by_length(rows)
    if not exact.size:
        return NOT_MEASURED
    if exact.shape[1] == trained:
        return missing("not tested beyond the lengths trained on")
    within, after = exact[:, :trained].mean(1), exact[:, trained:].mean(1)
    if (within < LEAST_LEARNT).any():
        return missing(f"{int((within < LEAST_LEARNT).sum())} of {len(within)} seeds have not learnt the lengths trained on")
    found = seeds.mean(after / within)
    return found if found.low is None else replace(found, low=max(found.low, 0.0))


def _losses(rows: pd.DataFrame) -> np.ndarray:
    return seeds.of_first(rows, "translation_loss")


def reversal_gain(rows: pd.DataFrame) -> Estimate:
    """Loss where the source is read forwards less that where it is read from its end."""
    return seeds.less(*(_losses(picked(rows, "lstm", order)) for order in ("forwards", "backwards")))


def layer_gain(rows: pd.DataFrame) -> Estimate:
    """Loss of the shallower less that of the deeper network."""
    depths = sorted(rows["num_layers"].unique())
    if len(depths) < 2:
        return missing("one depth alone was measured") if len(rows) else NOT_MEASURED
    return seeds.less(*(_losses(rows[rows["num_layers"] == depth]) for depth in (depths[0], depths[-1])))


def transformer_gain(rows: pd.DataFrame) -> Estimate:
    """Loss of an LSTM with attention less a Transformer's."""
    return seeds.less(*(_losses(rows[rows["network"] == network]) for network in ("attention", "transformer")))


def _attention(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, int]:
    """Exact translations with attention, those of an LSTM that reads the source from its end, and the lengths trained on."""
    _, with_it, trained = by_length(picked(rows, "attention", "forwards"))
    _, without, _ = by_length(picked(rows, "lstm", "backwards"))
    return with_it, without, trained


def attention_gain_longest(rows: pd.DataFrame) -> Estimate:
    """Share of exact translations at the longest source trained on, with attention less without."""
    with_it, without, trained = _attention(rows)
    if not with_it.size or not without.size:
        return seeds.UNPAIRED
    return seeds.less(with_it[:, trained - 1], without[:, trained - 1])


def attention_gain_with_length(rows: pd.DataFrame) -> Estimate:
    """What attention gains at the longest source trained on, less what it gains at the shortest."""
    with_it, without, trained = _attention(rows)
    if not with_it.size or not without.size:
        return seeds.UNPAIRED
    return seeds.less(*(each[:, trained - 1] - each[:, 0] for each in (with_it, without)))


QUANTITIES = {
    "translation_loss": Quantity(translation_loss, "loss", "nat"),
    "exact_match": Quantity(exact_match, "exact translations"),
    "exact_beyond_training": Quantity(exact_beyond, "exact translations beyond the trained lengths"),
    "kept_beyond_training": Quantity(kept_beyond, "exact translations beyond the trained lengths over those within"),
    "reversal_gain": Quantity(reversal_gain, "forwards less from the end", "nat", compares_cases=True),
    "layer_gain": Quantity(layer_gain, "shallower less deeper", "nat", compares_cases=True),
    "attention_gain_longest": Quantity(
        attention_gain_longest, "exact translations of the longest sources, with attention less without", compares_cases=True
    ),
    "attention_gain_with_length": Quantity(
        attention_gain_with_length, "attention's gain on the longest sources less that on the shortest", compares_cases=True
    ),
    "transformer_gain": Quantity(transformer_gain, "LSTM with attention less Transformer", "nat", compares_cases=True),
}


def _selected(network: str, order: str, task: str) -> str:
    return f"study=translation,probe=tasks,network={network},order={order},task={task}"


def _table(series: pd.DataFrame, quantities: tuple[str, ...], heads: tuple[str, ...]) -> str:
    """A row a network, a column a task and quantity; tasks on which a network was not measured are empty."""
    rows = []
    for label, network, order in NETWORKS:
        cells = [estimated(name, _selected(network, order, task)) for task in TASKS for name in quantities]
        rows.append((label, [cell if cell(series).measured else None for cell in cells]))
    return markdown_table(series, ("network", *(f"{task}{head}" for task in TASKS for head in heads)), rows)


def _loss(series: pd.DataFrame) -> str:
    return _table(series, ("translation_loss",), (", nat a word",))


def _exact(series: pd.DataFrame) -> str:
    return _table(series, ("exact_match", "exact_beyond_training"), ("", ", beyond"))


def _depth(series: pd.DataFrame) -> str:
    selected = [f"study=translation,probe=depth,num_layers={depth}" for depth in DEPTHS]
    rows = [
        (label, [estimated(name, of) for of in selected])
        for label, name in (("loss, nat a word", "translation_loss"), ("exact translations", "exact_match"))
    ]
    return markdown_table(series, ("grammar", *(f"{depth} layer{'s' * (depth > 1)}" for depth in DEPTHS)), rows)


TABLES = {"loss": _loss, "exact": _exact, "depth": _depth}
