"""What runs here, what does not and why, and how quiet this machine is."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import impls
from bench import processors
from bench.case import Case
from bench.process import WorkerFailed, WorkerProcess
from impls import LSTMSpec
from impls.spec import Device

START_SECONDS = 180.0
QUIET_SAMPLES = 400


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a backend runs on a device, and what ran or why not."""

    backend: str
    device: Device
    runs: bool
    detail: str


def examine(devices: tuple[Device, ...] = ("cpu", "cuda")) -> Iterator[Finding]:
    """Ask every backend, in a process of its own, for a small LSTM on each device; one finding per backend and device."""
    with tempfile.TemporaryDirectory(prefix="lstm-bench-") as cache:
        workers = {name: WorkerProcess(name, processors.usable()[:1], Path(cache), START_SECONDS) for name in impls.names()}
        with ThreadPoolExecutor() as asking:  # nothing is timed, so all may answer at once
            for findings in asking.map(lambda item: [_ask(item[1], item[0], device) for device in devices], workers.items()):
                yield from findings
        for worker in workers.values():
            worker.close()


def _ask(worker: WorkerProcess, backend: str, device: Device) -> Finding:
    case = Case(LSTMSpec(8, 8, device=device), 4, 2, impls.phases(backend)[0])
    try:
        reply = worker.request("prepare", START_SECONDS, case=case.to_dict(), check_answers=True)
    except WorkerFailed as failure:
        return Finding(backend, device, False, str(failure))
    if reply["status"] != "ok":
        return Finding(backend, device, False, reply["reason"])
    ran = ", ".join(f"{key} {value}" for key, value in reply["provenance"].items() if key != "flushes_denormals")
    return Finding(backend, device, True, ran)


@dataclass(frozen=True, slots=True)
class Quietness:
    """The same fixed work, repeated: how much slower than the fastest it usually is, and at its worst tenth."""

    median_over_fastest: float
    worst_tenth_over_fastest: float
    load_average: float

    @property
    def verdict(self) -> str:
        if self.median_over_fastest < 1.02 and self.worst_tenth_over_fastest < 1.05:
            return "quiet: small differences can be seen here"
        if self.median_over_fastest < 1.10:
            return "somewhat noisy: trust ratios with their intervals, not single times"
        return "noisy: something else is using this machine; ratios hold, absolute times do not"


def quietness() -> Quietness:
    """Times one fixed matrix product 400 times, about a second."""
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((256, 256)).astype(np.float32) for _ in range(2))
    out, times = np.empty_like(a), []
    for _ in range(QUIET_SAMPLES):
        started = time.perf_counter()
        for _ in range(8):
            np.matmul(a, b, out=out)
        times.append(time.perf_counter() - started)
    fastest = min(times)
    deciles = statistics.quantiles(times, n=10)
    return Quietness(statistics.median(times) / fastest, deciles[-1] / fastest, os.getloadavg()[0])
