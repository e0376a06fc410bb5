"""Intervals of means over few replicates whose variances are pooled by a model, and what is done where it does not fit.

A unit is one mean, e.g. that of the logarithms of a pair's ratios over a phase's cases, with one value a replicate. The cases
of a unit are fixed and share a replicate's processes, so that they are averaged first: whatever correlates them is in the
variance of the values. Three values say little of a variance, but all units of a run were measured by the same machine in the
same minutes. The model: variances, each times the cases that were averaged, scatter about a common one as scaled inverse
chi-square does (Smyth 2004, Statistical Applications in Genetics and Molecular Biology 3, article 3). A unit's variance is
shrunk towards the common one as far as the variances resemble each other; its interval has the degrees of freedom of both.
Where they do not resemble each other nothing is gained and Student's interval comes out. The check: a unit that scatters more
than the model allows at `OUTLYING` keeps its own variance (Phipson et al. 2016, Ann. Appl. Statist. 10, 946), and all keep
theirs where more than `MOST_OUTLYING` of the units do, or where they resemble each other so little that the pool would add less
than `LEAST_FREEDOM`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from scipy import optimize, special

OUTLYING = 0.05  # probability, by the model, that any of the variances lies so far above the common one
MOST_OUTLYING = 0.1  # share of the units
FEWEST_UNITS = 3
LEAST_FREEDOM = 1.0  # degrees of freedom, less than which the pool is not worth its model
LEAST_DEVIATION = 1e-4  # of logarithms, below which nothing is resolved: keeps equal values from a variance of zero
LEAST_EXCESS = 1e-6  # of the variance of logarithms of variances, below which they are all alike
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Unit:
    """values: [replicates], of a mean over `cases` cases each."""

    values: np.ndarray
    cases: int = 1


@dataclass(frozen=True, slots=True)
class Pooled(Generic[K]):
    """Variances of the mean of each unit by its key, with degrees of freedom.

    deviation: the common one of a single case in a replicate; None where nothing is pooled. freedom: how many degrees of
    freedom the pool adds to each unit. own: the units that keep their own variance. reason: why all do, else empty.
    """

    variances: Mapping[K, float]
    freedoms: Mapping[K, float]
    deviation: float | None
    freedom: float
    own: tuple[K, ...]
    reason: str = ""

    def half_width(self, key: K, confidence: float) -> float:
        """Of the interval of a unit's mean."""
        return float(special.stdtrit(self.freedoms[key], 0.5 + confidence / 2)) * math.sqrt(self.variances[key])


def pool(units: Mapping[K, Unit], most_freedom: float) -> Pooled[K]:
    """Pool the variances of units that have at least two values; others are left out.

    Args:
        units: by key, from the same replicates.
        most_freedom: what the pool can add at most: differences of the same backends know less than their number.
    """
    usable = {key: unit for key, unit in units.items() if len(unit.values) >= 2}
    keys = list(usable)
    squares = np.array([max(float(np.var(usable[key].values, ddof=1)), LEAST_DEVIATION**2) for key in keys])
    freedoms = np.array([len(usable[key].values) - 1 for key in keys], dtype=float)
    cases = np.array([usable[key].cases for key in keys], dtype=float)
    fitting = _fitting(squares * cases, freedoms, most_freedom)
    freedom, common, reason = 0.0, 1.0, ""
    if len(keys) < FEWEST_UNITS:
        reason = "too few pairs"
    elif np.mean(~fitting) > MOST_OUTLYING:
        reason = f"{int((~fitting).sum())} of {len(keys)} pairs scatter more than the model allows"
    else:
        freedom, common = _prior(squares[fitting] * cases[fitting], freedoms[fitting])
        reason = "the pairs scatter too differently" if freedom < LEAST_FREEDOM else ""
    fitting &= not reason
    added = np.where(fitting, 0.0 if reason else min(freedom, most_freedom), 0.0)
    shrunk = (freedoms * squares + added * common / cases) / (freedoms + added)
    return Pooled(
        dict(zip(keys, map(float, shrunk / (freedoms + 1)), strict=True)),
        dict(zip(keys, map(float, freedoms + added), strict=True)),
        None if reason else math.sqrt(common),
        float(added.max(initial=0.0)),
        tuple(key for key, fits in zip(keys, fitting, strict=True) if not fits),
        reason,
    )


def _fitting(squares: np.ndarray, freedoms: np.ndarray, most_freedom: float) -> np.ndarray:
    """Which of the variances fit, judged from the largest downwards by the model of the others."""
    fitting = np.ones(len(squares), bool)
    for _ in range(int(MOST_OUTLYING * len(squares)) + 1):
        worst = int(np.argmax(np.where(fitting, squares, -1.0))) if fitting.sum() > FEWEST_UNITS else -1
        rest = fitting & (np.arange(len(squares)) != worst)
        if worst < 0:
            break
        freedom, common = _prior(squares[rest], freedoms[rest])
        limit = special.fdtri(freedoms[worst], min(freedom, most_freedom), 1 - OUTLYING / len(squares))
        if not squares[worst] > common * limit:
            break
        fitting = rest
    return fitting


def _prior(squares: np.ndarray, freedoms: np.ndarray) -> tuple[float, float]:
    """Degrees of freedom and scale of the scaled F distribution of variances, by moments of their logarithms (Smyth 2004)."""
    logs = np.log(squares) - special.digamma(freedoms / 2) + np.log(freedoms / 2)
    mean = float(logs.mean())
    excess = float(logs.var(ddof=1) - special.polygamma(1, freedoms / 2).mean())
    if excess <= LEAST_EXCESS:
        return math.inf, math.exp(mean)
    prior = 2 * _trigamma_inverse(excess)
    return prior, math.exp(mean + float(special.digamma(prior / 2)) - math.log(prior / 2))


def _trigamma_inverse(value: float) -> float:
    return float(optimize.root_scalar(lambda x: float(special.polygamma(1, x)) - value, bracket=(1e-6, 1e7)).root)
