"""Does the gradient's horizon before training foretell what can be learnt? n(ε) against L50, and their rank correlation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.statistics.ratios import CONFIDENCE
from analysis.statistics.seeds import Estimate, missing
from analysis.studies.gradients import attenuation
from analysis.studies.horizon import learnable

FEWEST_PAIRS = 5
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
        curve, trials = attenuation.curve(own), learnable.trials(own)
        if curve is not None and trials is not None:
            cell, init = str(own["cell"].iloc[0]), str(own["init"].iloc[0])
            found.append(Pair(cell, init, attenuation.horizon(curve), learnable.learnable_lag(trials)))
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
        return missing(f"{len(known)} initialisations with both numbers: too few for a correlation")
    if (np.ptp(known, axis=0) == 0).any():
        return missing("all of them equal: nothing to rank")
    value, low, high = interval(known)
    return Estimate(value, low, high, len(known))


def interval(known: np.ndarray) -> tuple[float, float, float]:
    """Spearman's ρ of pairs [N, 2] and its 95 % interval (Bonett & Wright 2000, equation 4)."""
    value = float(np.corrcoef(stats.rankdata(known, axis=0).T)[0, 1])
    half = float(stats.norm.ppf(0.5 + CONFIDENCE / 2)) * np.sqrt((1 + value**2 / 2) / (len(known) - 3))
    middle = np.arctanh(np.clip(value, -1 + 1e-12, 1 - 1e-12))
    return value, float(np.tanh(middle - half)), float(np.tanh(middle + half))


def ranked(found: Estimate) -> float | None:
    """What to rank an estimate by; None where it is not known at all."""
    return found.value if found.value is not None else CENSORED if found.beyond is not None else None
