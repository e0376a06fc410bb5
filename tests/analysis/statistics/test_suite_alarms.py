"""Whole suites drawn from pairs: alarms are counted where there is something to alert to, and hardly ever elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.regression.calibration import alarms, suite_false_alarms
from analysis.regression.comparison import USUAL
from analysis.statistics.decision import FIRST_CONFIRMING, Rule, decide

CASES, PAIRS = 200, 20


def pairs(noise: float, bias: float = 0.0, biased: int = 0, together: float = 0.0) -> dict[str, dict[int, float]]:
    """ln(A/A) of 200 cases, `biased` of which differ by `bias` in every pair; `together` is noise that all cases share."""
    random = np.random.default_rng(3)
    shared = random.normal(0, together, PAIRS)
    values = random.normal(0, noise, (CASES, PAIRS)) + shared
    values[:biased] += bias
    return {f"case {row}": dict(enumerate(values[row].tolist())) for row in range(CASES)}


def drawn(by_pair: dict[str, dict[int, float]], rule: Rule = USUAL, suites: int = 200):
    found = suite_false_alarms(by_pair, dict.fromkeys(by_pair, rule), suites)
    assert found is not None
    return found


def test_suites_of_identical_things_hardly_ever_alert():
    found = drawn(pairs(0.005))
    assert (found.cases, found.pairs, found.suites) == (CASES, PAIRS, 200)
    assert found.confirmed == found.certified == 0.0 and found.looked <= 0.02
    assert "of 200 rows drawn from 20 real pairs" in found.sentence


def test_a_lasting_difference_alerts_in_half_of_the_suites():
    found = drawn(pairs(0.005, bias=0.04, biased=1))
    assert 0.35 < found.confirmed < 0.65 and found.certified == found.confirmed
    assert drawn(pairs(0.005, bias=0.04, biased=1), Rule(floor=0.06, detectable=0.08)).certified == 0.0


def test_common_disturbances_are_drawn_for_all_cases_at_once():
    """Cases that stumble together make few suites alert, each with many cases; apart, many suites with a case each."""
    rough = drawn(pairs(0.001, together=0.05), suites=100)
    independent = drawn(pairs(0.05), suites=100)
    assert rough.looked < 0.5 * independent.looked


def test_the_short_cut_says_what_the_rule_says():
    random = np.random.default_rng(5)
    rule = Rule()
    values = random.normal(0.015, 0.01, (60, 30))
    numbers = [*range(20), *range(FIRST_CONFIRMING, FIRST_CONFIRMING + 10)]
    slow = [decide(dict(zip(numbers, row, strict=True)), rule).verdict == "SLOWER" for row in values]
    assert 0 < sum(slow) < 60
    assert alarms(values, [rule] * 60).tolist() == slow


@pytest.mark.parametrize("by_pair", [{}, {"a": {0: 0.1, 1: 0.1}, "b": {1: 0.1, 2: 0.1}}])
def test_without_pairs_in_common_nothing_is_drawn(by_pair: dict[str, dict[int, float]]):
    assert suite_false_alarms(by_pair, dict.fromkeys(by_pair, Rule())) is None
