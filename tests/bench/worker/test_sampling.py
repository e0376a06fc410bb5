"""Warm-up, turns and stopping, on a clock that only moves when told: nothing here waits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bench.worker.timing import (
    LEAST_SAMPLE_SECONDS,
    LEAST_SAMPLES,
    PRECISION,
    SAMPLES_LIMIT,
    WARM_CALLS,
    WARM_LIMIT_SECONDS,
    Sampler,
    WallClock,
    calls_per_sample,
    half_width,
    is_steady,
)


class FakeTime:
    """A call costs what `cost` says next; time passes by calls alone."""

    def __init__(self, cost: Callable[[int], float]) -> None:
        self.cost, self.moment, self.calls, self.waits = cost, 0.0, 0, 0

    def now(self) -> float:
        return self.moment

    def call(self) -> None:
        self.moment += self.cost(self.calls)
        self.calls += 1

    def wait(self) -> None:
        self.waits += 1

    def sampler(self) -> Sampler:
        return Sampler(WallClock(self.call, self.wait, self.now), now=self.now)


def test_a_sample_is_k_calls_and_one_wait():
    fake = FakeTime(lambda _: 2e-4)
    assert WallClock(fake.call, fake.wait, fake.now).sample(8) == pytest.approx(2e-4)
    assert (fake.calls, fake.waits) == (8, 1)


@pytest.mark.parametrize("cost", [1e-7, 3e-5, 1e-3, 0.2])
def test_samples_last_about_a_millisecond(cost: float):
    fake = FakeTime(lambda _: cost)
    calls = calls_per_sample(WallClock(fake.call, fake.wait, fake.now))
    assert calls * cost >= LEAST_SAMPLE_SECONDS * (1 - 1e-9)
    assert calls == 1 or calls / 2 * cost < LEAST_SAMPLE_SECONDS


def test_warm_up_waits_until_a_slow_start_is_over():
    fake = FakeTime(lambda number: 0.01 * (1 + 2 * 0.9**number))
    sampler = fake.sampler()
    sampler.warm_up(0.5)
    assert sampler.notes == []
    assert fake.calls > WARM_CALLS
    assert fake.cost(fake.calls) < 0.01 * 1.02
    assert sampler.samples == []


def test_warm_up_gives_up_and_says_so_when_it_never_settles():
    fake = FakeTime(lambda number: 0.001 * 1.02**number)
    sampler = fake.sampler()
    sampler.warm_up(0.5)
    assert sampler.notes == ["no_steady_state"]
    assert fake.moment <= WARM_LIMIT_SECONDS + 1


def test_a_turn_drops_only_the_samples_of_its_first_moments():
    fake = FakeTime(lambda number: 0.01 if number >= 3 else 0.011)
    sampler = fake.sampler()
    sampler.turn(0.1)
    assert max(sampler.samples) < 0.0101, "what another backend's threads still disturb is not recorded"
    sampler.turn(0.03)
    assert sum(sampler.blocks) == len(sampler.samples)
    assert len(sampler.blocks) == 2


def test_a_single_thread_has_nothing_to_settle():
    fake = FakeTime(lambda _: 0.01)
    sampler = Sampler(WallClock(fake.call, fake.wait, fake.now), now=fake.now, settle_seconds=0.0)
    sampler.turn(0.0)
    assert (fake.calls, sampler.blocks) == (2, [1]), "one call brings the caches back, one is recorded"


def test_a_turn_takes_one_sample_however_slow_it_is():
    sampler = FakeTime(lambda _: 30.0).sampler()
    sampler.turn(0.02)
    assert sampler.blocks == [1]


def test_outliers_are_kept():
    fake = FakeTime(lambda number: 1.0 if number == 7 else 0.01)
    sampler = fake.sampler()
    sampler.turn(2.0)
    assert max(sampler.samples) == pytest.approx(1.0)


def test_stops_when_precise_enough_and_not_before_twenty_samples():
    sampler = FakeTime(lambda _: 0.01).sampler()
    while not sampler.finished:
        sampler.turn(0.0)
    assert len(sampler.samples) == LEAST_SAMPLES


def test_sampling_goes_on_until_certain_or_at_the_limit():
    random = np.random.default_rng(0)
    fake = FakeTime(lambda _: 0.0002 * random.lognormal(0, 0.5))
    sampler = fake.sampler()
    while not sampler.finished:
        sampler.turn(0.001)
    assert len(sampler.samples) > LEAST_SAMPLES
    assert half_width(sampler.samples) <= PRECISION or len(sampler.samples) >= SAMPLES_LIMIT


def test_the_medians_interval_covers_as_often_as_it_says():
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        samples = random.lognormal(0, 0.1, 41)
        hits += abs(np.median(samples) - 1.0) <= half_width(samples) * 2 * np.median(samples)
    assert hits / 400 > 0.95


def test_steadiness_needs_two_blocks():
    assert not is_steady([1.0] * 19)
    assert is_steady([1.0] * 20)
    assert not is_steady([1.0] * 10 + [1.02] * 10)


class Enqueuing:
    """A clock that, as CUDA's does, keeps the host's seconds of every sample; each differs from the last."""

    def __init__(self, fake: FakeTime) -> None:
        self.wall, self.host_seconds, self.taken = WallClock(fake.call, fake.wait, fake.now), [], 0

    def sample(self, calls: int) -> float:
        self.taken += 1
        self.host_seconds.append(float(self.taken))
        return self.wall.sample(calls) + self.taken


def test_the_host_s_times_are_those_of_the_samples_one_by_one():
    fake = FakeTime(lambda _: 0.01)
    clock = Enqueuing(fake)
    sampler = Sampler(clock, now=fake.now)
    sampler.warm_up(0.1)
    for _ in range(3):
        sampler.turn(0.05)
    assert len(clock.host_seconds) == len(sampler.samples) < clock.taken
    assert clock.host_seconds == pytest.approx([sample - 0.01 for sample in sampler.samples])
