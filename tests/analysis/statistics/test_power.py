"""The sample size a rule states, held against rules decided on a synthetic source of that effect and spread."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.statistics.power import POWER, power, seeds_needed
from analysis.statistics.quantities import outcome
from analysis.statistics.seeds import mean
from bench.harness import study
from results.claims import Test, claim_from_dict

DRAWS = 1500
ERROR = 3 * np.sqrt(POWER * (1 - POWER) / DRAWS)  # three standard errors of a share
RULES = (
    (Test("loss_gap", low=0.0, effect=0.05, spread=0.06), "supported"),
    (Test("loss_gap", low=0.0, effect=-0.05, spread=0.06), "refuted"),
    (Test("loss_gap", high=0.0, effect=0.4, spread=1.1), "refuted"),
    (Test("length_exponent", low=0.9, high=1.1, effect=1.0, spread=0.08), "supported"),
    (Test("length_exponent", low=0.9, high=1.1, effect=1.06, spread=0.05), "supported"),
    (Test("length_exponent", low=0.9, high=1.1, effect=1.3, spread=0.3), "refuted"),
)


def share_decided(test: Test, expected: str, seeds: int) -> float:
    """Of synthetic runs of that many seeds: how many the rule decides as expected, by the code that judges real ones."""
    assert test.effect is not None and test.spread is not None
    drawn = np.random.default_rng(seeds).normal(test.effect, test.spread, (DRAWS, seeds))
    return float(np.mean([outcome(test, mean(values)) == expected for values in drawn]))


@pytest.mark.parametrize(("test", "expected"), RULES, ids=lambda of: f"{of.effect}" if isinstance(of, Test) else of)
def test_stated_seeds_decide_four_of_five_runs(test, expected):
    needed = seeds_needed(test)
    assert needed is not None and needed > 3
    found = share_decided(test, expected, needed)
    assert found == pytest.approx(power(test, needed), abs=ERROR)
    assert found > POWER - ERROR
    assert power(test, needed - 1) < POWER  # one seed fewer is too few


def test_half_of_the_seeds_is_caught():
    test, expected = RULES[0]
    assert share_decided(test, expected, (seeds_needed(test) or 0) // 2) < POWER - ERROR


def test_found_quantities_need_one_and_impossible_ones_none():
    assert seeds_needed(Test("identity_error", high=1e-6, effect=1e-15, spread=0)) == 1
    assert seeds_needed(Test("loss_gap", low=0.0, effect=0.0, spread=1.0)) is None  # on the bound: half the runs at best
    assert seeds_needed(Test("loss_gap", low=0.0)) is None


def test_every_rule_of_a_cpu_study_states_its_sample_size():
    unstated = {
        claim.name for name in study.names() for claim in study.get(name).claims for test in claim.tests if test.effect is None
    }
    # Nothing was measured of these yet, or the crossing lay outside the lengths measured: the spread is not known.
    assert unstated == {
        "e-newton-gpu", "e-newton-gpu-full",
        "e-crossover-training", "e-crossover-prefill", "e-crossover-decode", "e-energy", "d-time-gpu", "d-equal-parameters-gpu",
    }  # fmt: skip


@pytest.mark.parametrize(("effect", "spread"), [(1.0, None), (None, 0.1), (1.0, -0.1)])
def test_half_stated_rules_are_refused(effect, spread):
    with pytest.raises(ValueError, match="spread"):
        Test("loss_gap", low=0.0, effect=effect, spread=spread)


def test_power_of_a_rule_without_effect_is_refused():
    with pytest.raises(ValueError, match="states no effect"):
        power(Test("loss_gap", low=0.0), 5)
    with pytest.raises(ValueError, match="at least 2"):
        power(RULES[0][0], 1)


def test_fields_of_a_newer_schema_are_ignored():
    values = {
        "name": "a-x",
        "statement": "s",
        "tests": [{"quantity": "loss_gap", "low": 0.0, "later": 1}],
        "settings": [("l", "x=1")],
    }
    assert claim_from_dict(values).tests == (Test("loss_gap", low=0.0),)
