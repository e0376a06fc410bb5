"""Two clocks: the monotonic clock around k calls and one wait, and CUDA events on the stream.

Both return one sample: seconds a call. `batch` timing puts k calls before one wait; `latency` is k = 1.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import repeat
from typing import Protocol

from bench.worker.prepare import Prepared

LEAST_SAMPLE_SECONDS = 1e-3  # shorter samples drown in the clock's own cost (hyperfine, nvbench)
CALLS_LIMIT = 1 << 20


class Clock(Protocol):
    def sample(self, calls: int) -> float:
        """Seconds a call, over `calls` calls launched back to back."""
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
    """

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
