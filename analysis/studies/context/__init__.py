"""How far back a model makes use of what it read, by six estimators, each over seeds with its interval.

gradient   tokens until the gradient of the last token's loss has decayed to a thousandth      `attenuation.horizon`
recall     the lag that half of its kind learn to bridge (L50)                                 `learnable.learnable_lag`
within 1 % fewest tokens of context with which perplexity is within 1 % of that with all       Khandelwal et al. 2018
nine tenths  fewest tokens with which nine tenths of the gain from context are had
relative   RECL: the longest context whose growth still helps, against the best of the group   Dai et al. 2019, section 4.3
influence  tokens until a token's replacement moves the prediction a hundredth as much as the last one's

A context whose end is not seen is censored: where the last doubling still matters, nobody knows how far it goes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from analysis.statistics import seeds
from analysis.statistics.quantities import Quantity
from analysis.statistics.seeds import NOT_MEASURED, Estimate, missing, scaled, too_few

LSTM = "lstm_stack"
WITHIN = float(np.log(1.01))  # nats: 1 % of perplexity
GAINED = 0.9
LEAST_GAIN = 0.01  # nats: with less there is no context whose length could be told
RELATIVE_GAIN = 0.01  # Dai et al. 2019: of the best loss's perplexity
DECAY_THRESHOLD = 0.01
Reading = Callable[[np.ndarray, np.ndarray], float | None]


def last_above(at: np.ndarray, values: np.ndarray, threshold: float) -> float | None:
    """Where the values fall below the threshold for good, between two of the places in the logarithm; None where they have
    not by the last place but one. The first place where they are below it throughout."""
    above = np.flatnonzero(values >= threshold)
    if not len(above):
        return float(at[0])
    place = int(above[-1])
    if place >= len(at) - 2:
        return None
    upper, lower = values[place], values[place + 1]
    share = (upper - threshold) / (upper - lower)
    return float(np.exp(np.log(at[place]) + share * (np.log(at[place + 1]) - np.log(at[place]))))


def within_percent(at: np.ndarray, losses: np.ndarray) -> float | None:
    return last_above(at, losses - losses[-1], WITHIN)


def nine_tenths(at: np.ndarray, losses: np.ndarray) -> float | None:
    """NaN where context gains too little for a length to mean anything."""
    gain = losses[0] - losses[-1]
    return float("nan") if gain < LEAST_GAIN else last_above(at, losses - losses[-1], (1 - GAINED) * gain)


def faded_influence(at: np.ndarray, divergences: np.ndarray) -> float | None:
    return last_above(at, divergences, DECAY_THRESHOLD * divergences[0])


def over_seeds(found: list[float | None], last: float) -> Estimate:
    """Their geometric mean; censored where one seed's lies beyond `last`, as then no mean is known."""
    if any(value is not None and np.isnan(value) for value in found):
        return missing(f"context gains less than {LEAST_GAIN:g} nat")
    known = np.array([value for value in found if value is not None])
    if len(found) < seeds.FEWEST_SEEDS:
        return too_few(len(found), "seed", "for an interval")
    if len(known) == len(found):
        return seeds.geometric_mean(np.log(known))
    return Estimate(None, float(min([*known, last])), None, len(found), beyond=last)


def _of_curve(rows: pd.DataFrame, metric: str, places: str, what: Reading) -> Estimate:
    found, at = seeds.together(seeds.metric(rows, metric)), seeds.together(seeds.metric(rows, places))
    if not found.size or not at.size:
        return NOT_MEASURED
    return over_seeds([what(at[0], own) for own in found], float(at[0][-2]))


def context_within_percent(rows: pd.DataFrame) -> Estimate:
    return _of_curve(rows, "context_loss", "context", within_percent)


def context_for_nine_tenths(rows: pd.DataFrame) -> Estimate:
    return _of_curve(rows, "context_loss", "context", nine_tenths)


def influence_reach(rows: pd.DataFrame) -> Estimate:
    return _of_curve(rows, "influence", "influence_lag", faded_influence)


# Estimators that a known optimum answers too. It has no weights for a gradient to pass through, and is not trained to recall.
CALIBRATED = ("context_within_percent", "context_for_nine_tenths", "relative", "influence_reach")


def truth(rows: pd.DataFrame, estimator: str) -> float | None:
    """What the estimator makes of the source's known optimum on the same windows; None where no optimum is known.

    `relative` is of the optimum in a group of its own: nothing is better.
    """
    metric, places, what = {
        "relative": ("optimum_target_loss", "context", _relative_alone),
        "context_within_percent": ("optimum_context_loss", "context", within_percent),
        "context_for_nine_tenths": ("optimum_context_loss", "context", nine_tenths),
        "influence_reach": ("optimum_influence", "influence_lag", faded_influence),
    }[estimator]
    found, at = seeds.together(seeds.metric(rows, metric)), seeds.together(seeds.metric(rows, places))
    value = what(at[0], found[0]) if found.size and at.size else None
    return None if value is None or np.isnan(value) else value


def nine_tenths_over_truth(rows: pd.DataFrame) -> Estimate:
    """How many times too long the estimator reads the known context."""
    true, found = truth(rows, "context_for_nine_tenths"), context_for_nine_tenths(rows)
    if true is None or found.value is None or found.low is None or found.high is None:
        return found if found.value is None else missing("the true context is not known")
    return scaled(found, 1 / true)


def relative(losses: np.ndarray, at: np.ndarray, hardest: float = 1.0) -> list[float | None]:
    """RECL of each model of a group. losses: [M, C, N], of the same N targets with C growing contexts.

    With b(c, t) = min over models of l(c, t), and T the share `hardest` of the targets with the largest b(c, ·):
    f_i(c, c') = mean over T of min(b(c, t), l_i(c', t)); the growth from c to c' helps where
    (e^f(c, c) − e^f(c, c')) / e^f(c, c) reaches 1 %. The first c whose growth does not help; None where all do.
    """
    best = losses.min(0)
    count = max(1, round(hardest * best.shape[1]))
    ends: list[float | None] = [None] * len(losses)
    for model, own in enumerate(losses):
        for place in range(len(at) - 1):
            hard = np.argsort(-best[place])[:count]
            before = float(best[place][hard].mean())
            after = float(np.minimum(best[place], own[place + 1])[hard].mean())
            if -np.expm1(after - before) < RELATIVE_GAIN:
                ends[model] = float(at[place])
                break
    return ends


def _relative_alone(at: np.ndarray, losses: np.ndarray) -> float | None:
    return relative(losses.reshape(1, len(at), -1), at)[0]


def relative_context(group: pd.DataFrame, cell: str) -> Estimate:
    """RECL of a cell among all that were measured on the same source; the k-th seeds make the k-th group."""
    at = seeds.together(seeds.metric(group, "context"))
    by_cell = seeds.by_cell(group, "target_loss")
    if cell not in by_cell or not at.size:
        return NOT_MEASURED
    count = min(len(values) for values in by_cell.values())
    names, contexts = list(by_cell), at[0]
    found = []
    for seed in range(count):
        losses = np.stack([values[seed].reshape(len(contexts), -1) for values in by_cell.values()])
        found.append(relative(losses, contexts)[names.index(cell)])
    return over_seeds(found, float(contexts[-1]))


QUANTITIES = {
    "context_within_percent": Quantity(context_within_percent, "context within 1 %", "tokens"),
    "context_for_nine_tenths": Quantity(context_for_nine_tenths, "context for 90 % of the gain (c90)", "tokens"),
    "nine_tenths_over_truth": Quantity(nine_tenths_over_truth, "c90 over the true context"),
    "influence_reach": Quantity(influence_reach, "reach of influence", "tokens"),
    "lstm_relative_context": Quantity(partial(relative_context, cell=LSTM), "RECL", "tokens"),
}
