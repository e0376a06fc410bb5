"""Known exponents, coefficients and crossovers come back; what lies outside the measured lengths is a bound."""

from __future__ import annotations

import numpy as np
import pytest

from analysis import scaling, verdicts
from analysis.scaling import Series, crossover

LENGTHS = 2.0 ** np.arange(6, 17)


def series(curve: np.ndarray, seed: int, lengths: np.ndarray = LENGTHS, replicates: int = 5, noise: float = 0.03) -> Series:
    """A cost with log-normal noise by replicate and length."""
    drawn = np.random.default_rng(seed).standard_normal((replicates, len(lengths)))
    return Series(lengths, curve * np.exp(noise * drawn))


def transformer(lengths: np.ndarray = LENGTHS, at: float = 1536.0) -> np.ndarray:
    """1 until its attention, as dear as the rest at T = `at`, overtakes."""
    return 1 + lengths / at


@pytest.mark.parametrize("noise", [0.01, 0.03, 0.10])
@pytest.mark.parametrize("replicates", [3, 5])
def test_intervals_of_crossovers_cover_the_truth_in_at_least_93_of_100_data_sets(noise, replicates):
    """A power of the length whose crossing moves with the data set, on either side of the lengths that were measured."""
    covered = 0
    for number in range(100):
        truth = float(np.exp(np.random.default_rng([9, number]).uniform(np.log(100), np.log(40_000))))
        flat = series(np.ones(len(LENGTHS)), 1000 + number, replicates=replicates, noise=noise)
        rising = series((LENGTHS / truth) ** 0.6, 5000 + number, replicates=replicates, noise=noise)
        low, high = crossover(flat, rising).bounds or (np.inf, -np.inf)
        covered += low <= truth <= high
    assert covered >= 93


def test_intervals_too_narrow_would_be_found_out():
    covered = 0
    for number in range(100):
        flat, rising = series(np.ones(11), 1000 + number), series((LENGTHS / 1000) ** 0.6, 5000 + number)
        low, high = crossover(flat, rising, confidence=0.5).bounds or (np.inf, -np.inf)
        covered += low <= 1000 <= high
    assert covered < 93


def test_a_crossover_outside_the_measured_lengths_is_a_bound_and_no_number():
    dear, cheap = series(np.full(11, 9.0), 1), series(transformer(), 2)
    short = Series(LENGTHS[:4], cheap.values[:, :4])
    beyond = crossover(Series(LENGTHS[:4], dear.values[:, :4]), short)
    assert beyond.value is None and beyond.beyond == LENGTHS[3] and beyond.high is None
    before = crossover(series(np.full(11, 0.1), 1), cheap)
    assert before.value is None and before.high == 64 and before.why == "< 64"
    assert verdicts.spoken("crossover_time", beyond) == "> 512 steps"
    assert verdicts.spoken("crossover_time", before) == "< 64"


def test_a_length_that_did_not_fit_in_memory_bounds_what_can_be_said():
    cut = Series(LENGTHS[:5], series(transformer(), 3).values[:, :5], censored=2048.0)
    found = crossover(series(np.full(11, 4.0), 4), cut)
    assert found.value is None and found.beyond == 1024.0


def test_a_crossing_at_the_edge_keeps_an_open_side():
    found = crossover(series(np.full(11, 1 + 65536 / 1536), 5, noise=0.1), series(transformer(), 6, noise=0.1))
    assert found.high is None and found.beyond == 65536 and found.low is not None and found.low > 16_384


def test_one_replicate_or_one_length_gives_no_interval():
    one = series(transformer(), 7, replicates=1)
    assert "too few" in crossover(one, one).why and crossover(one, one).bounds is None
    few = Series(LENGTHS[:1], series(transformer(), 8).values[:, :1])
    assert "two lengths" in crossover(few, few).why and "too few" in scaling.fit(few).a.why


def test_exponents_and_coefficients_come_back():
    curve = 2.0 + 0.01 * LENGTHS + 3e-6 * LENGTHS**2
    noisy = series(curve, 9, replicates=8, noise=0.02)
    found = scaling.fit(noisy)
    for estimate, truth in ((found.a, 2.0), (found.b, 0.01), (found.c, 3e-6)):
        assert estimate.low is not None and estimate.high is not None
        assert estimate.low * 0.9 <= truth <= estimate.high * 1.1
    assert np.allclose(scaling.exponents(series(LENGTHS**1.5, 0, noise=0)), 1.5)
    slope = scaling.exponent(series(LENGTHS**1.5, 10), least=256)
    assert slope.low is not None and slope.low <= 1.5 <= slope.high


def test_a_coefficient_that_is_not_there_is_not_below_zero():
    found = scaling.fit(series(0.01 * LENGTHS, 11, noise=0.05))
    assert found.c.low == 0.0 and found.c.value is not None and found.c.value >= 0
