"""Median intervals cover, and two modes are found where there are two and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.statistics.ratios import median_interval, two_modes


@pytest.mark.parametrize("count", [8, 20, 101])
def test_median_interval_covers_at_least_95_times_in_100(count: int) -> None:
    random = np.random.default_rng(count)
    covered = 0
    for _ in range(1500):
        _, low, high = median_interval(random.exponential(1.0, count))
        assert low is not None and high is not None
        covered += low <= np.log(2) <= high
    assert 0.935 <= covered / 1500 <= 0.995


def test_few_samples_have_no_median_interval() -> None:
    assert median_interval(np.arange(1.0, 6.0)) == (3.0, None, None)
    assert median_interval(np.arange(1.0, 7.0)) == (3.5, 1.0, 6.0)


@pytest.mark.parametrize("shape", ["normal", "uniform", "exponential tail", "heavy tail", "constant"])
def test_one_mode_is_not_called_two(shape: str) -> None:
    random = np.random.default_rng(3)
    draws = {
        "normal": lambda n: np.exp(random.normal(0, 0.05, n)),
        "uniform": lambda n: random.uniform(1, 1.3, n),
        "exponential tail": lambda n: 1 + random.exponential(0.2, n),
        "heavy tail": lambda n: 1 + 0.02 * random.pareto(1.5, n),
        "constant": lambda n: np.ones(n),
    }[shape]
    wrong = sum(two_modes(draws(count)) is not None for count in (30, 60, 300) for _ in range(200))
    assert wrong <= 6, f"{wrong} of 600 {shape} series called bimodal"


@pytest.mark.parametrize("share", [0.15, 0.5, 0.8])
def test_two_modes_are_two(share: float) -> None:
    random = np.random.default_rng(4)
    upper = int(100 * share)
    samples = np.concatenate([random.normal(1.0, 0.01, 100 - upper), random.normal(1.3, 0.02, upper)])
    modes = two_modes(random.permutation(samples))
    assert modes is not None
    assert (modes.lower, modes.upper) == pytest.approx((1.0, 1.3), rel=0.02)
    assert modes.upper_share == pytest.approx(share, abs=0.01)


def test_a_tail_of_a_few_slow_calls_is_no_mode() -> None:
    samples = np.concatenate([np.random.default_rng(5).normal(1, 0.01, 95), np.full(5, 2.0)])
    assert two_modes(samples) is None
