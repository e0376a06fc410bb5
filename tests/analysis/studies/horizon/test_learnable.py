"""The logistic fit finds a known L50 about as often as it says; what was not shown is censored or no number at all."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.statistics import quantities
from analysis.studies import horizon as horizon_statistics
from analysis.studies.horizon import Trials
from results.claims import Test
from tests.analysis.learning_synthetic import LADDER, learnt


def trials(*learnt_of_five: int, networks: int = 5) -> Trials:
    count = len(learnt_of_five)
    return Trials(np.array(LADDER[:count]), np.array(learnt_of_five, float), np.full(count, networks))


def drawn(lag: float, steep: float, networks: int, seed: int) -> Trials:
    found = learnt(lag, steep, networks, seed)
    counts = np.array([own.sum() for own in found])
    return Trials(np.array(LADDER[: len(found)]), counts, np.full(len(found), networks))


@pytest.mark.parametrize(("lag", "steep", "networks"), [(9.0, 4.0, 5), (24.0, 2.0, 5), (24.0, 8.0, 5), (60.0, 4.0, 10)])
def test_the_interval_covers_a_known_lag_in_90_of_100_draws(lag, steep, networks):
    covered = 0
    for seed in range(100):
        bounds = horizon_statistics.learnable_lag(drawn(lag, steep, networks, seed)).bounds
        covered += bounds is not None and bounds[0] <= lag <= bounds[1]
    assert covered >= 90


def test_more_networks_narrow_the_interval_onto_the_truth():
    found = horizon_statistics.learnable_lag(drawn(24.0, 4.0, 2000, 1))
    assert found.value == pytest.approx(24.0, rel=0.03)
    assert found.low is not None and found.high is not None and found.high / found.low < 1.1


def test_between_all_and_none_the_interval_spans_the_gap():
    found = horizon_statistics.learnable_lag(trials(5, 5, 5, 0))
    assert found.value == pytest.approx(np.sqrt(10 * 14), rel=0.02)
    assert found.low is not None and found.high is not None and found.low <= 10 and found.high >= 14
    assert 8.5 < found.low and found.high < 16.5


def test_lags_that_all_learn_are_censored_at_the_longest():
    found = horizon_statistics.learnable_lag(trials(*[5] * 11))
    assert found.value is None and found.high is None and found.beyond == 160
    assert found.low is not None and 140 < found.low <= 160
    assert quantities.named("learnable_lag").format(found).startswith("> 160 steps")
    assert quantities.outcome(Test("learnable_lag", low=100.0), found) == "supported"


def test_an_interval_beyond_the_longest_lag_is_open():
    found = horizon_statistics.learnable_lag(trials(5, 5, 5, 5, 5, 5, 5, 5, 5, 4, 3))
    assert found.high is None and found.beyond == 160 and found.bounds is not None


@pytest.mark.parametrize(
    ("of", "why"),
    [
        (trials(0, 0, 0), "not learnt even at lag 5, the shortest tried"),
        (trials(2, 1, 0), "not learnt even at lag 5"),
        (trials(5, 0), "2 lags tried: too few for a fit"),
        (trials(2, 1, 0, networks=2), "2 networks per lag: too few for a fit"),
        (trials(3, 2, 3, 3, 2, 3), "success does not depend on lag: no fit"),
    ],
)
def test_what_allows_no_fit_gives_no_number_and_decides_nothing(of, why):
    found = horizon_statistics.learnable_lag(of)
    assert found.value is None and found.bounds is None and why in found.why
    assert quantities.outcome(Test("learnable_lag", low=5.0, high=20.0), found) == "inconclusive"


def test_the_fitted_curve_is_as_steep_as_the_successes():
    assert horizon_statistics.steepness(drawn(24.0, 4.0, 2000, 1), 24.0) == pytest.approx(4.0, rel=0.2)
