"""Joules of one call on a GPU, by NVML's counter (Volta and newer), which moves every 20 to 100 ms."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from bench.worker.prepare import Prepared
from results.record import Measurement

WINDOW_SECONDS = 2.0  # so that the counter's own steps are at most 5 % of the window
IDLE_SECONDS = 0.5


def measure(prepared: Prepared, nvml: Any = None, window: float = WINDOW_SECONDS) -> Iterator[Measurement]:
    """`energy` of one call in joules, everything the board draws; `energy_above_idle` less what it draws at rest."""
    if nvml is None:
        import pynvml as nvml
    nvml.nvmlInit()
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    started, before = time.perf_counter(), nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    time.sleep(min(IDLE_SECONDS, window))
    idle_watts = (nvml.nvmlDeviceGetTotalEnergyConsumption(handle) - before) / 1e3 / (time.perf_counter() - started)
    calls, started = 0, time.perf_counter()
    before = nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    while time.perf_counter() - started < window:
        prepared.call()
        prepared.wait()
        calls += 1
    seconds = time.perf_counter() - started
    joules = (nvml.nvmlDeviceGetTotalEnergyConsumption(handle) - before) / 1e3
    yield Measurement("energy", "J", (joules / calls,))
    yield Measurement("energy_above_idle", "J", ((joules - idle_watts * seconds) / calls,))
