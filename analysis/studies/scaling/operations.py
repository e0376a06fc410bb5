"""Crossovers that need no clock: where operations and bytes, by the closed forms in the records, overtake one another.

Counts are whole numbers, so nothing is estimated: where a crossover lies it is its own interval.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from analysis.statistics.seeds import Estimate, missing
from analysis.studies.scaling.scaling import Series

CHALLENGER, INCUMBENT = "lstm_stack", "transformer"
NOT_MEASURED = missing("not measured")


def per_token(rows: pd.DataFrame) -> Series | None:
    """Operations a token at each length that was timed."""
    found = rows[rows["metric"] == "time"].drop_duplicates("steps").sort_values("steps")
    if found.empty:
        return None
    return Series(found["steps"].to_numpy(float), (found["count_flops"] / found["count_tokens"]).to_numpy(float)[None])


def crossover(rows: pd.DataFrame) -> Estimate:
    """The length from which an LSTM's token takes fewer operations than a Transformer's; a bound outside the lengths both have.

    Operations a token are straight in T on either side (attention's context is), so the line between two lengths is exact.
    """
    first, second = (per_token(rows[rows["cell"] == cell]) for cell in (CHALLENGER, INCUMBENT))
    if first is None or second is None:
        return NOT_MEASURED
    lengths = np.intersect1d(first.lengths, second.lengths)
    if not len(lengths):
        return missing("no length that both have")
    more = (np.exp(first.at(lengths)) - np.exp(second.at(lengths)))[0]
    if more[-1] > 0:
        return Estimate(None, low=float(lengths[-1]), seeds=1, beyond=float(lengths[-1]))
    above = np.flatnonzero(more > 0)
    if not len(above):
        return Estimate(None, low=0.0, high=float(lengths[0]), seeds=1, why=f"< {lengths[0]:.0f}")
    left = int(above[-1])
    share = more[left] / (more[left] - more[left + 1])
    return _exactly(float(lengths[left] + share * (lengths[left + 1] - lengths[left])))


def attention_equals_rest(rows: pd.DataFrame) -> Estimate:
    """The length at which a Transformer's products with its context take as many operations a token as its weights do.

    For a feed-forward of 4d and no projection of the input: 12 d as the mean over causal training or prefill, 6 d in decode
    (Kaplan et al. 2020, table 1: 2·n·d against 24·d² operations a layer).
    """
    found = per_token(rows[rows["cell"] == INCUMBENT])
    if found is None or len(found.lengths) < 2:
        return NOT_MEASURED
    (first, last), (short, long) = found.lengths[[0, -1]], found.values[0, [0, -1]]
    slope = (long - short) / (last - first)
    return _exactly(float((short - slope * first) / slope))


def cache_equals_weights(rows: pd.DataFrame) -> Estimate:
    """Tokens of all streams together at which keys and values take as many bytes as the weights: 6 d, hence 6 d/B each."""
    found = _of_decode(rows, INCUMBENT)
    return NOT_MEASURED if found is None else _exactly(found["count_parameter_bytes"] / _bytes_a_token(found))


def cache_passes_state(rows: pd.DataFrame) -> Estimate:
    """Tokens at which one stream's keys and values take as many bytes as an LSTM's state: H/d, which at as many parameters,
    8 H² and 12 d², is √1.5."""
    state, cache = _of_decode(rows, CHALLENGER), _of_decode(rows, INCUMBENT)
    if state is None or cache is None:
        return NOT_MEASURED
    return _exactly(state["count_state_bytes"] / state["batch"] / _bytes_a_token(cache))


def _of_decode(rows: pd.DataFrame, cell: str) -> pd.Series | None:
    found = rows[(rows["cell"] == cell) & (rows["phase"] == "step")]
    return None if found.empty else found.iloc[0]


def _bytes_a_token(found: pd.Series) -> float:
    return float(found["count_state_bytes"]) / float(found["batch"] * found["steps"])


def _exactly(value: float) -> Estimate:
    return Estimate(float(value), float(value), float(value), 1)


def _over(factor: int, of: Callable[[pd.DataFrame], Estimate]) -> Callable[[pd.DataFrame], Estimate]:
    """As a multiple of factor · d, d the Transformer's width."""

    def quantity(rows: pd.DataFrame) -> Estimate:
        found = of(rows)
        if found.value is None:
            return found
        return _exactly(found.value / (factor * float(rows.loc[rows["cell"] == INCUMBENT, "hidden_size"].iloc[0])))

    return quantity


QUANTITIES: dict[str, Callable[[pd.DataFrame], Estimate]] = {
    "crossover_flops": crossover,
    "attention_equals_rest": attention_equals_rest,
    "attention_over_12d": _over(12, attention_equals_rest),
    "attention_over_6d": _over(6, attention_equals_rest),
    "cache_equals_weights": cache_equals_weights,
    "cache_over_6d": _over(6, cache_equals_weights),
    "cache_passes_state": cache_passes_state,
}
WORDS = {
    "crossover_flops": "T*", "attention_equals_rest": "T", "attention_over_12d": "T / 12 d", "attention_over_6d": "T / 6 d",
    "cache_equals_weights": "T·B", "cache_over_6d": "T·B / 6 d", "cache_passes_state": "tokens",
}  # fmt: skip
UNITS = {"crossover_flops": "steps", "attention_equals_rest": "steps", "cache_equals_weights": "steps"}
