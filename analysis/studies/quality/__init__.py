"""The gap between an LSTM and a Transformer: after training, by place in the window, and at equal cost; in nats a token.

A gap is the LSTM's loss less the Transformer's, so that above zero the Transformer is better. Both are judged by the same
windows; the k-th seeds of the two make a pair, and the pair is the unit of the interval.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from analysis.statistics import seeds
from analysis.statistics.quantities import Quantity
from analysis.statistics.seeds import Estimate, missing

LSTM, TRANSFORMER = "lstm_stack", "transformer"
EARLY_TOKENS = 10  # of a window: what is left of a gap here is no matter of context (Kaplan et al. 2020, figure 7)
NO_PAIR = Estimate(None, why="not measured for both", measured=False)


def pair(rows: pd.DataFrame, metric: str) -> tuple[np.ndarray, np.ndarray] | None:
    """LSTM and Transformer, [S, K] each, with the seeds and values both have; None where one is missing."""
    found = seeds.by_cell(rows, metric)
    if LSTM not in found or TRANSFORMER not in found:
        return None
    lstm, transformer = found[LSTM], found[TRANSFORMER]
    count, length = (min(sizes) for sizes in zip(lstm.shape, transformer.shape, strict=True))
    return lstm[:count, :length], transformer[:count, :length]


def gap(part: Callable[[np.ndarray], np.ndarray]) -> Callable[[pd.DataFrame], Estimate]:
    """Of the mean over some of the token indices; `part` picks them from [S, T]."""

    def quantity(rows: pd.DataFrame) -> Estimate:
        found = pair(rows, "loss_by_index")
        if found is None:
            return NO_PAIR
        lstm, transformer = (part(each).mean(1) for each in found)
        return seeds.mean(lstm - transformer)

    return quantity


loss_gap = gap(lambda losses: losses)
early_gap = gap(lambda losses: losses[:, :EARLY_TOKENS])
late_gap = gap(lambda losses: losses[:, losses.shape[1] // 2 :])


def shares(rows: pd.DataFrame) -> tuple[Estimate, Estimate] | None:
    """What the first tokens and all others add to the gap: the two add up to it."""
    found = pair(rows, "loss_by_index")
    if found is None:
        return None
    each = (found[0] - found[1]) / found[0].shape[1]
    return seeds.mean(each[:, :EARLY_TOKENS].sum(1)), seeds.mean(each[:, EARLY_TOKENS:].sum(1))


def gap_at_equal(cost: str) -> Callable[[pd.DataFrame], Estimate]:
    """At the largest cost that every one of the trainings reached; a curve is read between its points in the logarithm."""

    def quantity(rows: pd.DataFrame) -> Estimate:
        losses, costs = pair(rows, "curve_loss"), pair(rows, cost)
        if losses is None or costs is None:
            return NO_PAIR
        common = min(float(each[:, -1].min()) for each in costs)
        if common < max(float(each[:, 0].max()) for each in costs):
            return missing("their curves have no cost in common")
        lstm, transformer = (_at(each, own, common) for each, own in zip(losses, costs, strict=True))
        return seeds.mean(lstm - transformer)

    return quantity


def _at(losses: np.ndarray, costs: np.ndarray, common: float) -> np.ndarray:
    """losses [S, K] read at a cost; costs [S, K], or [1, K] where all seeds have the same."""
    own = np.broadcast_to(costs, losses.shape)
    return np.array([np.interp(np.log(common), np.log(at), values) for at, values in zip(own, losses, strict=True)])


QUANTITIES = {
    "loss_gap": Quantity(loss_gap, "gap in loss", "nat"),
    "early_gap": Quantity(early_gap, "gap over the first ten tokens", "nat"),
    "late_gap": Quantity(late_gap, "gap over the second half", "nat"),
    "loss_gap_at_equal_time": Quantity(gap_at_equal("curve_seconds"), "gap at equal wall-clock time", "nat"),
    "loss_gap_at_equal_flops": Quantity(gap_at_equal("curve_flops"), "gap at equal training FLOPs", "nat"),
}
