"""The learnable lag L50, and how well gradients predict it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special, stats

from analysis.report import drawing, words
from analysis.statistics import CONFIDENCE, quantities, seeds
from analysis.statistics.quantities import Quantity
from analysis.statistics.seeds import FEWEST_PAIRS, NOT_MEASURED, Estimate, missing, spearman
from analysis.studies import gradients as gradients_statistics
from analysis.studies.pages import estimated, markdown_table

# The learnable lag L50: where half of the networks still learn, by a logistic fit to successes, with its interval.
#
# P(learnt at lag L) = 1 / (1 + exp(β (ln L − ln L50))), β ≥ 0, binomial. The interval holds every L50 whose profile
# likelihood is not rejected at 95 %, by Student's quantile for the networks of a lag: the normal one covers 90 % with five of
# them (tests/analysis/studies/horizon/test_learnable.py). That needs no finite β: where all learn at one lag and none at the
# next, any L50 between them fits equally well, the interval says so, and the value is the middle, their geometric mean.

FEWEST_LAGS = 3
STEEPNESS = np.geomspace(0.25, 200.0, 48)  # β: from an octave that changes little to one step between neighbouring lags
MIDPOINTS = 600  # values of ln L50 tried
MARGIN = float(np.log(4.0))  # how far they reach beyond the lags, so that an edge out there is noticed
FLAT = 1e-3  # in log likelihood: midpoints this close to the best fit as well as it


@dataclass(frozen=True, slots=True)
class Trials:
    """At each of K lags: how many networks were trained, and how many of them learnt."""

    lags: np.ndarray
    learnt: np.ndarray
    trained: np.ndarray


def trials(rows: pd.DataFrame) -> Trials | None:
    """Of the rows of one case; None where it has none."""
    by_lag = seeds.metric(rows, "learnt")
    lags = rows.loc[rows["metric"] == "trained_lag", "samples"]
    if not by_lag or lags.empty:
        return None
    return Trials(lags.iloc[0], np.array([own.sum() for own in by_lag]), np.array([len(own) for own in by_lag]))


def learnable_lag(of: Trials) -> Estimate:
    """L50: censored beyond the longest lag; no number where the shortest was not learnt or too little was tried.

    A task that is not learnt at the shortest lag says nothing about lag (budget, learning rate or cell may be the cause), so
    it gives no bound.
    """
    first, last = float(of.lags[0]), float(of.lags[-1])
    if len(of.lags) < FEWEST_LAGS:
        return missing(f"{words.format_count(len(of.lags), 'lag')} tried: too few for a fit")
    if of.trained.min() < seeds.FEWEST_SEEDS:
        return missing(f"{words.format_count(int(of.trained.min()), 'network')} per lag: too few for a fit")
    if 2 * of.learnt[0] < of.trained[0]:
        return missing(f"not learnt even at lag {first:g}, the shortest tried")
    midpoints, profile = _profile(of)
    quantile = float(stats.t.ppf(0.5 + CONFIDENCE / 2, of.trained.min() - 1))
    inside = midpoints[2 * (profile.max() - profile) <= quantile**2]
    best = midpoints[profile.max() - profile <= FLAT]
    low, high, value = (float(np.exp(each)) for each in (inside[0], inside[-1], best.mean()))
    if inside[0] == midpoints[0] and inside[-1] == midpoints[-1]:
        return missing("success does not depend on lag: no fit")
    count = int(of.trained.min())
    if value > last:
        return Estimate(None, min(low, last), None, count, beyond=last)
    # Where the longest lag was still learnt by some, what lies beyond it was never seen to fail.
    unbounded = inside[-1] == midpoints[-1] or (high > last and of.learnt[-1] > 0)
    return Estimate(value, low, None if unbounded else high, count, beyond=last if unbounded else None)


def steepness(of: Trials, lag: float) -> float:
    """β at a given L50, for drawing the fit."""
    return float(STEEPNESS[_likelihood(of, np.array([np.log(lag)]))[0].argmax()])


def _profile(of: Trials) -> tuple[np.ndarray, np.ndarray]:
    """ln L50 and the log likelihood at the best β for each."""
    midpoints = np.linspace(np.log(of.lags[0]) - MARGIN, np.log(of.lags[-1]) + MARGIN, MIDPOINTS)
    return midpoints, _likelihood(of, midpoints).max(1)


def _likelihood(of: Trials, midpoints: np.ndarray) -> np.ndarray:
    """[midpoints, steepness]"""
    slopes = STEEPNESS[None, :, None] * (midpoints[:, None, None] - np.log(of.lags))
    return (of.learnt * special.log_expit(slopes) + (of.trained - of.learnt) * special.log_expit(-slopes)).sum(-1)


# Does the gradient's horizon before training foretell what can be learnt? n(ε) against L50, and their rank correlation.

CENSORED = 1e300  # ranks above any number that is not above its bound


@dataclass(frozen=True, slots=True)
class Pair:
    """One cell as one rule initialises it, on one task."""

    cell: str
    init: str
    horizon: Estimate
    learnable: Estimate


def pairs(rows: pd.DataFrame) -> list[Pair]:
    """One for each case of the rows that has both measurements."""
    found = []
    for _, own in rows.groupby("case", sort=False):
        curve, successes = gradients_statistics.curve(own), trials(own)
        if curve is not None and successes is not None:
            cell, init = str(own["cell"].iloc[0]), str(own["init"].iloc[0])
            found.append(Pair(cell, init, gradients_statistics.horizon(curve), learnable_lag(successes)))
    return found


def rank_correlation(rows: pd.DataFrame) -> Estimate:
    """Spearman's ρ of n(ε) and L50 over cells and initialisations.

    What is censored shares the highest rank, where its bound lies as high as all numbers do: below one of them its rank is
    not known, and neither is the correlation. What has no number is left out.
    """
    found = pairs(rows)
    for name, column in (("n(10⁻³)", [pair.horizon for pair in found]), ("L50", [pair.learnable for pair in found])):
        highest = max((each.value for each in column if each.value is not None), default=0.0)
        bounds = [each.beyond for each in column if each.value is None and each.beyond is not None and each.beyond < highest]
        if bounds:
            return missing(f"{name} > {min(bounds):g} cannot be ranked beside {highest:g}: look at more steps")
    both = [(ranked(pair.horizon), ranked(pair.learnable)) for pair in found]
    known = np.array([pair for pair in both if None not in pair], float).reshape(-1, 2)
    if len(known) < FEWEST_PAIRS:
        return missing(f"{words.format_count(len(known), 'initialisation')} with both numbers: too few for a correlation")
    if (np.ptp(known, axis=0) == 0).any():
        return missing("all of them equal: nothing to rank")
    value, low, high = spearman(known)
    return Estimate(value, low, high, len(known))


def ranked(found: Estimate) -> float | None:
    """What to rank an estimate by; None where it is not known at all."""
    return found.value if found.value is not None else CENSORED if found.beyond is not None else None


def _learnable_lag(rows: pd.DataFrame) -> Estimate:
    of = trials(rows)
    return NOT_MEASURED if of is None else learnable_lag(of)


def _learnable_over_truncation(rows: pd.DataFrame) -> Estimate:
    """L50 in units of the steps that were backpropagated through."""
    steps = float(rows["truncation"].iloc[0])
    return seeds.scaled(_learnable_lag(rows), 1 / steps) if steps else missing("not truncated")


QUANTITIES = {
    "learnable_lag": Quantity(_learnable_lag, "memory span (L50)", "steps"),
    "learnable_over_truncation": Quantity(_learnable_over_truncation, "memory span (L50) over k"),
    "horizon_rank_correlation": Quantity(rank_correlation, "ρ of decay length and memory span"),
}

# The measured tables of docs/studies/horizon.md.

EASY_LAG = 10
CELLS = ("rnn", "gru", "lstm")
TASKS = ("recall", "temporal_order", "adding", "copy")


def _name(cell: str, init: str) -> str:
    return f"{cell.upper()} {drawing.init_name(init)}"


def _networks(series: pd.DataFrame, selection: str) -> list[tuple[str, str]]:
    rows = quantities.select(series, selection)
    found = {(str(cell), str(init)) for cell, init in rows[["cell", "init"]].itertuples(index=False)}
    return sorted(found, key=lambda network: (CELLS.index(network[0]), drawing.init_order(network[1])))


def _at(task: str, cell: str, init: str, truncation: int = 0) -> str:
    return f"probe=learning,task={task},truncation={truncation},cell={cell},init={init}"


def recall(series: pd.DataFrame) -> str:
    """n(10⁻³) and L50 of every network, and the updates that the easy lag took."""
    networks = _networks(series, "probe=learning,task=recall,truncation=0")
    at = [_at("recall", *network) for network in networks]
    rows = [
        (_name(*network), [estimated(name, own) for name in ("horizon", "learnable_lag")])
        for network, own in zip(networks, at, strict=True)
    ]
    lines = markdown_table(series, ["network", "decay length (10⁻³), steps", "L50, steps"], rows).split("\n")
    ends = [f"updates to learn lag {EASY_LAG}", "---", *(_updates(quantities.select(series, own)) for own in at)]
    return "\n".join(f"{line} {end} |" for line, end in zip(lines, ends, strict=True))


def _updates(rows: pd.DataFrame) -> str:
    """Median over the networks of the easy lag, those within the budget counted."""
    lags, updates, learnt = (seeds.metric(rows, name) for name in ("trained_lag", "updates", "learnt"))
    place = np.flatnonzero(lags[0] == EASY_LAG) if lags else []
    if not len(place):
        return "not tried"
    own, done = updates[place[0]], learnt[place[0]] == 1
    return f"{np.median(own[done]):.0f} ({int(done.sum())} of {len(own)})" if done.any() else f"none of {len(own)}"


def tasks(series: pd.DataFrame) -> str:
    """L50 by task of the networks that were trained on all of them."""
    networks = _networks(series, "probe=learning,task=adding,truncation=0")
    rows = [
        (_name(cell, init), [estimated("learnable_lag", _at(task, cell, init)) for task in TASKS]) for cell, init in networks
    ]
    return markdown_table(series, ["L50, steps", *(task.replace("_", " ") for task in TASKS)], rows)


def truncated(series: pd.DataFrame) -> str:
    rows = []
    for cell, init in (("rnn", "pytorch"), ("lstm", "forget:3")):
        for steps in (5, 10):
            at = _at("recall", cell, init, steps)
            rows.append(
                (
                    f"{_name(cell, init)}, k = {steps}",
                    [estimated("learnable_lag", at), estimated("learnable_over_truncation", at)],
                )
            )
        rows.append((f"{_name(cell, init)}, all steps", [estimated("learnable_lag", _at("recall", cell, init)), None]))
    return markdown_table(series, ["recall", "L50, steps", "L50/k"], rows)


def predicted(series: pd.DataFrame) -> str:
    """Rank correlation on recall, and L50 over n(10⁻³) where both are known, on each task."""
    found = rank_correlation(quantities.select(series, "probe=learning,task=recall,truncation=0"))
    lines = [
        f"Rank correlation on recall, {found.seeds} networks: {words.format_estimate(found)}.",
        "",
        "| L50 over decay length (10⁻³) | from | to |",
        "| --- | --- | --- |",
    ]
    for task in TASKS:
        rows = quantities.select(series, f"probe=learning,task={task},truncation=0")
        both = [
            (pair.learnable.value / pair.horizon.value, _name(pair.cell, pair.init))
            for pair in pairs(rows)
            if pair.learnable.value is not None and pair.horizon.value
        ]
        if both:
            (low, lowest), (high, highest) = min(both), max(both)
            lines.append(f"| {task.replace('_', ' ')} | {low:.2g} ({lowest}) | {high:.2g} ({highest}) |")
    return "\n".join(lines)


TABLES = {"recall": recall, "tasks": tasks, "truncated": truncated, "foretold": predicted}
