"""Rounds of Newton's method on an LSTM, and how they go with its largest Lyapunov exponent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.statistics import seeds
from analysis.statistics.seeds import FEWEST_PAIRS, Estimate, missing, spearman


@dataclass(frozen=True, slots=True)
class Start:
    """One initialisation: its means over seeds. rounds: where a seed did not converge, of the limit it reached."""

    init: str
    exponent: float
    rounds: float


def longest(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["steps"] == rows["steps"].max()]


def rounds(rows: pd.DataFrame) -> Estimate:
    """Mean over seeds at the most steps; beyond the limit where a seed had not converged."""
    rows = longest(rows)
    found = rows[rows["metric"] == "rounds"]
    if found.empty:
        return missing("not measured")
    samples = found["samples"].iloc[0]
    if any(found["notes"]):
        return Estimate(None, low=float(samples.min()), seeds=len(samples), beyond=float(samples.max()))
    return seeds.mean(samples)


def starts(rows: pd.DataFrame) -> list[Start]:
    """By initialisation, at the most steps, in the order of their exponents."""
    found = []
    for init, part in longest(rows).groupby("init", sort=False):
        samples = part.set_index("metric")["samples"]
        if {"rounds", "lyapunov"} <= set(samples.index):
            found.append(Start(str(init), float(np.mean(samples["lyapunov"])), float(np.mean(samples["rounds"]))))
    return sorted(found, key=lambda start: start.exponent)


def rank_correlation(rows: pd.DataFrame) -> Estimate:
    """Spearman's ρ of rounds and of how near the exponent is to zero, over initialisations, with its interval."""
    known = np.array([(start.rounds, -abs(start.exponent)) for start in starts(rows)]).reshape(-1, 2)
    if len(known) < FEWEST_PAIRS:
        return missing(f"{len(known)} initialisations: too few for a correlation")
    if (np.ptp(known, axis=0) == 0).any():
        return missing("all of them equal: nothing to rank")
    value, low, high = spearman(known)
    return Estimate(value, low, high, len(known))


QUANTITIES: dict[str, Callable[[pd.DataFrame], Estimate]] = {
    "newton_rounds": rounds,
    "newton_rank_correlation": rank_correlation,
}
WORDS = {"newton_rounds": "rounds", "newton_rank_correlation": "ρ of rounds and −|λ₁|"}
