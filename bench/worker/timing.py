"""Clocks, warm-up and samples of one prepared call."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Protocol

from bench.machine.energy import Meter
from bench.worker.prepare import Prepared

# Two clocks: the monotonic clock around k calls and one wait, and CUDA events on the stream.
#
# Both return one sample: seconds a call. `batch` timing puts k calls before one wait; `latency` is k = 1.

LEAST_SAMPLE_SECONDS = 1e-3  # shorter samples drown in the clock's own cost (hyperfine, nvbench)
CALLS_LIMIT = 1 << 20


class Clock(Protocol):
    """Times calls."""

    def sample(self, calls: int) -> float:
        """Seconds a call, over `calls` calls launched back to back and waited for."""
        ...


class WallClock:
    """k calls, one wait, by the monotonic clock: for the CPU and for frameworks that hide their stream."""

    def __init__(
        self, call: Callable[[], None], wait: Callable[[], None], now: Callable[[], float] = time.perf_counter
    ) -> None:
        self.call, self.wait, self.now = call, wait, now

    def sample(self, calls: int) -> float:
        call = self.call
        started = self.now()
        for _ in repeat(None, calls):
            call()
        self.wait()
        return (self.now() - started) / calls


class CudaEventClock:
    """k calls between two events on PyTorch's current stream.

    host_seconds: of each sample, what the host took to enqueue a call: of an eager call all its launches, of a graph one.
    untimed_calls: of each sample, before those that are timed.
    """

    untimed_calls = 1

    def __init__(self, call: Callable[[], None], wait: Callable[[], None]) -> None:
        import torch

        self.call, self.wait = call, wait
        self.start, self.end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.host_seconds: list[float] = []

    def sample(self, calls: int) -> float:
        call = self.call
        call()  # keeps the device busy while the first event is enqueued
        self.start.record()
        started = time.perf_counter()
        for _ in range(calls):
            call()
        self.host_seconds.append((time.perf_counter() - started) / calls)
        self.end.record()
        self.end.synchronize()
        return self.start.elapsed_time(self.end) * 1e-3 / calls


def clock_for(prepared: Prepared) -> WallClock | CudaEventClock:
    """CUDA events where the loaded network says its work lies on PyTorch's stream, else the monotonic clock."""
    if getattr(prepared.loaded, "cuda_stream_timed", False):
        return CudaEventClock(prepared.call, prepared.wait)
    return WallClock(prepared.call, prepared.wait)


def calls_per_sample(clock: Clock, least_seconds: float = LEAST_SAMPLE_SECONDS) -> int:
    """Smallest power of two whose sample lasts at least `least_seconds`, judged by the faster of two tries."""
    calls = 1
    while calls < CALLS_LIMIT and min(clock.sample(calls) for _ in range(2)) * calls < least_seconds:
        calls *= 2
    return calls


def interleaved(clocks: Sequence[Clock], calls: Sequence[int], rounds: int) -> list[list[float]]:
    """Seconds a call of each clock, one sample a round after the other's, so that drift hits all alike.

    Args:
        clocks: of what is timed.
        calls: of each, in one sample.
        rounds: samples of each.
    """
    sampled = [[clock.sample(count) for clock, count in zip(clocks, calls, strict=True)] for _ in range(rounds)]
    return [list(column) for column in zip(*sampled, strict=True)]


# Warm-up, sampling in rounds, and when to stop. Knows nothing of what it times; constants from `docs/measurement.md`.

WARM_CALLS = 3
STEADY_BLOCK = 10  # samples; the medians of the last two blocks must agree
STEADY_TOLERANCE = 0.01
WARM_LIMIT_SECONDS = 5.0
# Threads of the backend that had the turn before go on spinning for a while: OpenBLAS's for 2^26 cycles, about 25 ms.
# A backend with a single thread has none that could.
SETTLE_SECONDS = 0.03
LEAST_SAMPLES = 20
PRECISION = 0.005  # half-width of the 95 % interval of the median, relative to it
SAMPLES_LIMIT = 1000
SECONDS_LIMIT = 2.0
HOST_BOUND = "host_bound"
HOST_SHARE = 0.9  # of the device's time, from which the host is what is measured


@dataclass(slots=True)
class Sampler:
    """Samples of one prepared case, a turn a round."""

    clock: Clock
    now: Callable[[], float] = time.perf_counter
    settle_seconds: float = SETTLE_SECONDS
    most_samples: float = SAMPLES_LIMIT
    calls: int = 1
    samples: list[float] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    energy: Meter = field(default_factory=Meter)
    busy_seconds: float = 0.0  # warm-up and turns
    warm_up_seconds: float = 0.0

    def warm_up(self, least_seconds: float) -> None:
        """At least 3 calls and `least_seconds` busy, until two blocks of 10 samples agree within 1 %; at most 5 s."""
        started = self.now()
        for _ in range(WARM_CALLS):
            self.clock.sample(1)
        self.calls = calls_per_sample(self.clock)
        recent: list[float] = []
        while not (self.now() - started >= least_seconds and is_steady(recent)):
            if self.now() - started >= max(least_seconds, min(WARM_LIMIT_SECONDS, 3 * least_seconds)):
                self.notes.append("no_steady_state")
                break
            recent.append(self.clock.sample(self.calls))
        self.warm_up_seconds = self.now() - started
        self.busy_seconds += self.warm_up_seconds

    def turn(self, seconds: float) -> None:
        """Sample for about `seconds`, at least once, after unrecorded calls that bring the caches back."""
        entered = self.now()
        self.clock.sample(self.calls)
        while self.now() - entered < self.settle_seconds:
            self.clock.sample(self.calls)
        self._forget_unrecorded()
        self.energy.start()
        started = self.now()
        before = len(self.samples)
        while True:
            self.samples.append(self.clock.sample(self.calls))
            if self.now() - started >= seconds or len(self.samples) >= self.most_samples:
                break
        self.energy.stop((len(self.samples) - before) * self._calls_of_a_sample, self.now() - started)
        self.blocks.append(len(self.samples) - before)
        self.busy_seconds += self.now() - entered

    @property
    def _calls_of_a_sample(self) -> int:
        return self.calls + getattr(self.clock, "untimed_calls", 0)

    def measure_energy(self) -> None:
        """Of more calls, where no turn was long enough for the counter."""
        if not self.energy.samples:
            self.energy.window(lambda: self.clock.sample(self.calls), self._calls_of_a_sample)

    def _forget_unrecorded(self) -> None:
        """Host times of calls that were no samples, so that what a clock keeps stands beside `samples` one by one."""
        host: list[float] | None = getattr(self.clock, "host_seconds", None)
        if host is not None:
            del host[len(self.samples) :]

    @property
    def finished(self) -> bool:
        """Enough samples, and the median known to 0.5 %; or the limits of samples and seconds reached."""
        if len(self.samples) >= self.most_samples or sum(self.samples) * self.calls >= SECONDS_LIMIT:
            return True
        return len(self.samples) >= LEAST_SAMPLES and half_width(self.samples) <= PRECISION


def is_host_bound(host: Sequence[float], samples: Sequence[float]) -> bool:
    """Whether enqueueing the calls of these samples took so long that the host was measured, and not the device."""
    return bool(host) and sum(host) >= HOST_SHARE * sum(samples)


def is_steady(samples: Sequence[float]) -> bool:
    """Whether the medians of the last two blocks of samples agree."""
    if len(samples) < 2 * STEADY_BLOCK:
        return False
    last, before = (statistics.median(samples[start:][:STEADY_BLOCK]) for start in (-STEADY_BLOCK, -2 * STEADY_BLOCK))
    return abs(last - before) < STEADY_TOLERANCE * before


def half_width(samples: Sequence[float]) -> float:
    """Half-width of the 95 % interval of the median by order statistics, relative to the median (Conover 1999, 3.2)."""
    ordered = sorted(samples)
    count = len(ordered)
    reach = 1.96 * math.sqrt(count) / 2
    low, high = max(0, math.floor(count / 2 - reach)), min(count - 1, math.ceil(count / 2 + reach))
    return (ordered[high] - ordered[low]) / 2 / statistics.median(ordered)
