"""How often a whole suite would alert though nothing has changed: suites drawn from pairs of a thing with itself."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from analysis.statistics.decision import ALPHA, FIRST_CONFIRMING, Rule, decide
from analysis.statistics.intervals import quantile

K = TypeVar("K", bound=Hashable)
SUITES = 2000
CHUNK = 100  # suites drawn at once


@dataclass(frozen=True, slots=True)
class SuiteAlarms:
    """Shares of `suites` drawn suites of `cases` rows, each from `pairs` measured pairs, in which something was called SLOWER.

    looked: by the stages alone, without a certificate. confirmed: after fresh pairs as well, still without a certificate.
    certified: also beyond the certificate's floors.
    """

    cases: int
    pairs: int
    suites: int
    looked: float
    confirmed: float
    certified: float

    @property
    def sentence(self) -> str:
        return (
            f"Of {self.suites} suites of {self.cases} rows drawn from {self.pairs} real pairs, {self.looked:.2%} look slower "
            f"somewhere, {self.confirmed:.2%} alert after confirmation, {self.certified:.2%} with this certificate."
        )


def suite_false_alarms(
    by_pair: Mapping[K, Mapping[int, float]], rules: Mapping[K, Rule], suites: int = SUITES
) -> SuiteAlarms | None:
    """Draw comparisons of all cases from ln(A/A) by pair number, and judge each as `decide` would.

    A suite draws pair numbers with replacement, the same for every case, so that what disturbs several cases at once still
    does. In half of the suites A and A change places, all pairs together, so that a lasting difference between them remains
    one. What the pairs scatter about zero counts as such a difference: the shares are rather too high. None where the cases
    have fewer than two pairs in common.
    """
    shared = sorted(set.intersection(*(set(changes) for changes in by_pair.values()))) if by_pair else []
    if len(shared) < 2:
        return None
    values = np.array([[changes[number] for number in shared] for changes in by_pair.values()])
    certified = [rules[key] for key in by_pair]
    usual = [replace(rule, floor=None, detectable=None) for rule in certified]
    random = np.random.default_rng(0)
    ways = ([replace(rule, confirming=0) for rule in usual], usual, certified)
    counts = np.zeros(len(ways), int)
    for first in range(0, suites, CHUNK):
        size = min(CHUNK, suites - first)
        pairs = usual[0].stages[-1] + usual[0].confirming
        drawn = random.integers(len(shared), size=(size, pairs))
        signs = random.choice((-1.0, 1.0), size)
        for suite in range(size):
            chosen = signs[suite] * values[:, drawn[suite]]
            counts += [alarms(chosen, rules).any() for rules in ways]
    return SuiteAlarms(len(values), len(shared), suites, *(float(count) / suites for count in counts))


def alarms(chosen: np.ndarray, rules: Sequence[Rule]) -> np.ndarray:
    """Which comparisons `decide` calls SLOWER: row by row the pairs of the stages, then the confirming ones; all rules have
    the same numbers of them.

    `decide` itself, which takes long, is asked only where a t-interval lies beyond the margin at some stage: elsewhere it
    never says so.
    """
    stages, confirming = rules[0].stages, rules[0].confirming
    margins = np.array([rule.margin for rule in rules])
    might = np.zeros(len(chosen), bool)
    for stage in stages:
        looked = chosen[:, :stage]
        error = looked.std(axis=1, ddof=1) / np.sqrt(stage)
        might |= looked.mean(axis=1) - quantile(ALPHA, stage - 1) * error > margins
    numbers = [*range(stages[-1]), *range(FIRST_CONFIRMING, FIRST_CONFIRMING + confirming)]
    for row in map(int, np.flatnonzero(might)):
        pairs = dict(zip(numbers, chosen[row, : len(numbers)], strict=True))
        might[row] = decide(pairs, rules[row]).verdict == "SLOWER"
    return might
