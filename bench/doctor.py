"""What runs here, what does not and why, and how quiet this machine is."""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

import impls
from bench import processors, scratch, systems
from bench.case import Case
from bench.process import WorkerFailed, WorkerProcess
from impls.spec import CELLS, Device, DType

START_SECONDS = 180.0
QUIET_SAMPLES = 400
CELL_PREFERENCE = ("lstm", "gru", "rnn", "minlstm")
DTYPE_PREFERENCE: tuple[DType, ...] = ("float32", "bfloat16", "float16", "tensorfloat32")
SIZE, STEPS, BATCH = 64, 4, 8  # multiples of 8 and 64, as some kernels need
UNTOLD = ("flushes_denormals",)


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a backend runs on a device, and what ran or why not.

    cell, dtype: what it was asked for, which is something that it says it supports.
    absent: the package that it needs and that is not installed; None where that is not the reason.
    """

    backend: str
    device: Device
    cell: str
    dtype: str
    runs: bool
    detail: str
    absent: str | None = None


def examine(devices: tuple[Device, ...] = get_args(Device)) -> Iterator[Finding]:
    """Ask every backend, in a process of its own, for a small network on each device that it is made for.

    Where nothing is measured none is asked: each is found not to run, and why.
    """
    if not systems.MEASURES:
        yield from (_refused(name, device) for name in impls.names() for device in devices if device in impls.devices(name))
        return
    with scratch.folder() as cache:
        examined = [_Examined(name, cache) for name in impls.names()]
        try:
            with ThreadPoolExecutor() as asking:  # nothing is timed, so all may answer at once
                for findings in asking.map(lambda one: one.ask_each(devices), examined):
                    yield from findings
        finally:
            for one in examined:
                one.close()


def _refused(backend: str, device: Device) -> Finding:
    spec = case_for(backend, device).spec
    return Finding(backend, device, spec.cell, spec.dtype, False, systems.WHAT_TO_DO)


def case_for(backend: str, device: Device) -> Case:
    """A small case of a cell, a data type and a phase that the backend's file says it supports, the usual ones if it does."""
    cells, dtypes = impls.cells(backend), impls.dtypes(backend)
    cell = next((name for name in CELL_PREFERENCE if name in cells), cells[0])
    usual: list[DType] = [name for name in DTYPE_PREFERENCE if name in dtypes]
    dtype = (*usual, *dtypes)[0]
    return Case(CELLS[cell](SIZE, SIZE, dtype=dtype, device=device), STEPS, BATCH, impls.phases(backend)[0])


class _Examined:
    """A backend and its worker, which is replaced where it dies."""

    def __init__(self, backend: str, cache: Path) -> None:
        self.backend, self.cache = backend, cache
        self.worker: WorkerProcess | None = self._start()  # all import side by side

    def _start(self) -> WorkerProcess:
        return WorkerProcess(self.backend, processors.usable()[:1], self.cache, START_SECONDS)

    def ask_each(self, devices: tuple[Device, ...]) -> list[Finding]:
        return [self._ask(device) for device in devices if device in impls.devices(self.backend)]

    def _ask(self, device: Device) -> Finding:
        case = case_for(self.backend, device)
        self.worker = self.worker or self._start()
        try:
            reply = self.worker.request("prepare", START_SECONDS, case=case.to_dict(), check_answers=True)
        except WorkerFailed as failure:
            reply = {"status": "failed", "reason": str(failure), "died": True}
        if reply.get("died"):
            self.close()
        asked = self.backend, device, case.spec.cell, case.spec.dtype
        if reply["status"] != "ok":
            missing = (name for name in impls.packages(self.backend) if importlib.util.find_spec(name) is None)
            return Finding(*asked, False, reply["reason"], next(missing, None))
        said = {key: value for key, value in reply["provenance"].items() if key not in UNTOLD}
        return Finding(*asked, True, ", ".join([said.pop("ran"), *(f"{key} {value}" for key, value in said.items())]))

    def close(self) -> None:
        if self.worker is not None:
            self.worker.close()
        self.worker = None


@dataclass(frozen=True, slots=True)
class Quietness:
    """The same fixed work, repeated: how much slower than the fastest it usually is, and at its worst tenth."""

    median_over_fastest: float
    worst_tenth_over_fastest: float
    load_average: float | None

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
    return Quietness(statistics.median(times) / fastest, deciles[-1] / fastest, processors.load_average())
