"""Known exponents, coefficients and crossovers come back; what lies outside the measured lengths is a bound."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from analysis.statistics import quantities
from analysis.statistics.seeds import Estimate
from analysis.studies.scaling import crossovers
from analysis.studies.scaling.crossovers import Series, crossover
from bench.harness.study import Scale
from bench.studies import scaling

LENGTHS = 2.0 ** np.arange(6, 17)


def series(curve: np.ndarray, seed: int, lengths: np.ndarray = LENGTHS, replicates: int = 5, noise: float = 0.03) -> Series:
    """A cost with log-normal noise by replicate and length."""
    drawn = np.random.default_rng(seed).standard_normal((replicates, len(lengths)))
    return Series(lengths, curve * np.exp(noise * drawn))


def transformer(lengths: np.ndarray = LENGTHS, at: float = 1536.0) -> np.ndarray:
    """1 until its attention, as dear as the rest at T = `at`, overtakes."""
    return 1 + lengths / at


CURVES = {  # the second cost over the first, which crosses it at `truth`
    "a power": lambda lengths, truth: (lengths / truth) ** 0.6,
    "attention of a narrow model": lambda lengths, truth: (1 + lengths / 200) / (1 + truth / 200),
    "attention at d = 72": lambda lengths, truth: (1 + lengths / 864) / (1 + truth / 864),
    "attention at d = 416": lambda lengths, truth: (1 + lengths / 4992) / (1 + truth / 4992),
}


def measured_lengths(scale: Scale, phase: str) -> np.ndarray:
    """Those at which the study `scaling` compares an LSTM with a Transformer."""
    cases = [case for case in scaling.CASES[scale] if case.factor("sweep") == "tokens" and case.phase == phase]
    sides = [{case.steps for case in cases if case.spec.cell == cell} for cell in ("lstm_stack", "transformer")]
    assert sides[0] == sides[1]
    return np.array(sorted(sides[0]), float)


def covered(
    find: Callable[[Series, Series], Estimate],
    lengths: np.ndarray,
    curve: str,
    noise: float,
    replicates: int = 3,
    sets: int = 100,
) -> int:
    """In how many of so many data sets the interval holds the crossing, which may lie just outside the lengths."""
    found = 0
    for number in range(sets):
        span = np.log(lengths[0] * 1.2), np.log(lengths[-1] * 1.2)
        truth = float(np.exp(np.random.default_rng([9, number]).uniform(*span)))
        first = series(np.ones(len(lengths)), 1000 + number, lengths, replicates, noise)
        second = series(CURVES[curve](lengths, truth), 5000 + number, lengths, replicates, noise)
        low, high = find(first, second).bounds or (np.inf, -np.inf)
        found += low <= truth <= high
    return found


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("noise", [0.01, 0.03, 0.10])
@pytest.mark.parametrize(("scale", "phase"), [("cpu", "forward_backward"), ("cpu", "step"), ("gpu", "forward_backward")])
def test_crossover_intervals_cover_in_93_of_100_data_sets(scale, phase, noise, curve):
    lengths = measured_lengths(scale, phase)
    assert all(covered(crossover, lengths, curve, noise, replicates) >= 93 for replicates in (3, 5))


@pytest.mark.parametrize("curve", CURVES)
def test_they_cover_it_too_where_lengths_lie_far_apart(curve):
    """As few as three, a factor of eight apart: what is not known of the curve between them is most of the interval."""
    assert covered(crossover, np.array([64.0, 512.0, 4096.0]), curve, 0.01) >= 93


def test_intervals_too_narrow_would_be_found_out():
    half = partial(crossover, confidence=0.5)
    assert covered(half, LENGTHS, "a power", 0.10) < 93


def test_a_straight_line_between_lengths_alone_is_detected(monkeypatch):
    """On a curve that bends, with little noise, the chord's crossing is off by more than any replicate shows."""
    whole = crossovers._fall
    monkeypatch.setattr(crossovers, "_fall", lambda lengths, curve: whole(lengths, curve)[:1])
    assert covered(crossover, measured_lengths("gpu", "forward_backward"), "attention at d = 416", 0.01) < 93


def test_a_crossover_outside_the_lengths_is_a_bound():
    dear, cheap = series(np.full(11, 9.0), 1), series(transformer(), 2)
    short = Series(LENGTHS[:4], cheap.values[:, :4])
    beyond = crossover(Series(LENGTHS[:4], dear.values[:, :4]), short)
    assert beyond.value is None and beyond.beyond == LENGTHS[3] and beyond.high is None
    before = crossover(series(np.full(11, 0.1), 1), cheap)
    assert before.value is None and before.beyond is None and before.high == 64
    assert quantities.named("crossover_time").format(beyond) == "> 512 steps"
    assert quantities.named("crossover_time").format(before) == "< 64 steps"


def test_out_of_memory_bounds_the_crossover():
    cut = Series(LENGTHS[:5], series(transformer(), 3).values[:, :5])
    found = crossover(series(np.full(11, 4.0), 4), cut)
    assert found.value is None and found.beyond == 1024.0


def test_a_crossing_at_the_edge_keeps_an_open_side():
    found = crossover(series(np.full(11, 1 + 65536 / 1536), 5, noise=0.1), series(transformer(), 6, noise=0.1))
    assert found.high is None and found.beyond == 65536 and found.low is not None and found.low > 16_384


def test_one_replicate_or_one_length_gives_no_interval():
    one = series(transformer(), 7, replicates=1)
    assert "too few" in crossover(one, one).why and crossover(one, one).bounds is None
    few = Series(LENGTHS[:1], series(transformer(), 8).values[:, :1])
    assert "two lengths" in crossover(few, few).why and "too few" in crossovers.fit(few).a.why


def test_exponents_and_coefficients_come_back():
    curve = 2.0 + 0.01 * LENGTHS + 3e-6 * LENGTHS**2
    noisy = series(curve, 9, replicates=8, noise=0.02)
    found = crossovers.fit(noisy)
    for estimate, truth in ((found.a, 2.0), (found.b, 0.01), (found.c, 3e-6)):
        assert estimate.low is not None and estimate.high is not None
        assert estimate.low * 0.9 <= truth <= estimate.high * 1.1
    assert np.allclose(crossovers.exponents(series(LENGTHS**1.5, 0, noise=0)), 1.5)
    slope = crossovers.exponent(series(LENGTHS**1.5, 10), least=256)
    assert slope.low is not None and slope.low <= 1.5 <= slope.high


def test_a_coefficient_that_is_not_there_is_not_below_zero():
    found = crossovers.fit(series(0.01 * LENGTHS, 11, noise=0.05))
    assert found.c.low == 0.0 and found.c.value is not None and found.c.value >= 0
