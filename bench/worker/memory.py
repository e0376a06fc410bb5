"""Peak memory and energy of one call."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import costs
from bench.harness.case import Case
from bench.machine import system
from bench.worker import prepare
from bench.worker.prepare import Prepared
from results.record import Measurement

# Joules of one call on a GPU, by NVML's counter (Volta and newer), which moves every 20 to 100 ms.

WINDOW_SECONDS = 2.0  # so that the counter's own steps are at most 5 % of the window
IDLE_SECONDS = 0.5


def measure_energy(prepared: Prepared, nvml: Any = None, window: float = WINDOW_SECONDS) -> Iterator[Measurement]:
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


# Peak memory of one call, in a worker that has run nothing before.
#
# On the CPU: peak resident memory of the process less what it held before the network was loaded (Linux only).
# On CUDA: three numbers with three names; only `device_peak` compares across backends, and its note says whether it is of the
# process or of the whole device.

SAMPLE_SECONDS = 0.005
# What `device_peak` is of: the note of its measurement.
OF_PROCESS = "of this process, by NVML"
OF_DEVICE = "of the whole device less what was used before: NVML does not list this process"


@dataclass(slots=True)
class Peaks:
    """Bytes by metric, and what is to be noted of each."""

    found: dict[str, int] = field(default_factory=dict)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)


def measure_memory(backend: str, case: Case) -> Iterator[Measurement]:
    """Load the case and call it twice (a step once); yields the peaks in bytes. Its answer is checked afterwards.

    To be called in a process that has run nothing else yet: memory that an earlier case left to the allocator would be used
    again unseen.
    """
    costs.require(case)
    data = case.data()  # drawn before the baseline: the harness's own float64 arrays are not the backend's
    probe = _device_peaks if case.spec.device == "cuda" else _resident_peak
    with probe() as peaks:
        prepared = prepare.load(case, backend, data)
        if case.phase != "step":  # whose answer is checked from its first call on
            prepared.call()
            prepared.wait()
    prepare.verify(prepared, in_full=prepare.validated_in_full(case))
    for metric, value in peaks.found.items():
        yield Measurement(metric, "B", (float(value),), notes=peaks.notes.get(metric, ()))


@contextmanager
def _resident_peak() -> Iterator[Peaks]:
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not clear.exists():
        raise prepare.Skip("peak resident memory needs Linux: /proc/self/clear_refs is not there")
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # hand freed memory back, lest the call reuse it unseen
    clear.write_text("5", encoding="utf-8")  # resets the peak (proc(5))
    baseline = _kibibytes(status, "VmRSS")
    peaks = Peaks()
    yield peaks
    peaks.found["rss_peak"] = max(0, _kibibytes(status, "VmHWM") - baseline) * 1024


def return_cached() -> None:
    """Give memory that PyTorch keeps for later allocations back to the GPU."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def host_peak() -> int:
    """Bytes this process has held at most.

    By Linux's VmHWM: getrusage's number is as large as the parent's from the start. Elsewhere getrusage's, which macOS gives in
    bytes.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * _kibibytes(status, "VmHWM")
    if sys.platform == "win32":
        raise system.UnsupportedSystem
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _kibibytes(status: Path, name: str) -> int:
    line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith(name))
    return int(line.split()[1])


@contextmanager
def _device_peaks() -> Iterator[Peaks]:
    """What NVML says is used, sampled at 200 Hz, less what was before loading, when the framework's context is up; and
    PyTorch's own two."""
    torch, jax = sys.modules.get("torch"), sys.modules.get("jax")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.init()
        torch.zeros(1, device="cuda")  # the context, which NVML counts from here on
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    if jax is not None:
        jax.block_until_ready(jax.device_put(0.0))  # likewise
    used = Gauge()
    baseline = used.read()
    highest, stop = [baseline], threading.Event()
    failures: list[system.NoNVML] = []

    def watch() -> None:
        while not stop.wait(SAMPLE_SECONDS):
            try:
                highest.append(used.read())
            except system.NoNVML as error:  # in a thread of its own nobody would hear of it
                failures.append(error)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    peaks = Peaks()
    try:
        yield peaks
        highest.append(used.read())
    finally:
        stop.set()
        watcher.join()
    if failures:
        raise failures[0]  # a peak between the samples that failed is not known
    peaks.found["device_peak"] = max(highest) - baseline
    peaks.notes["device_peak"] = (used.whose,)
    if torch is not None and torch.cuda.is_available():
        peaks.found["alloc_peak"] = torch.cuda.max_memory_allocated()
        peaks.found["reserved_peak"] = torch.cuda.max_memory_reserved()


class Gauge:
    """Memory in use on GPU 0, by NVML: of this process where NVML lists it under the number it has here, else of the device.

    Inside a container a process may have another number than NVML knows it by, and a run holds the device's lock, so that
    what the device uses is then this process's. Which of the two is read is decided once: their difference must be of one.

    whose: which it is, in words.
    """

    def __init__(self) -> None:
        self.module, self.gpu = system.first_gpu()
        self.own = self._of_process() is not None
        self.whose = OF_PROCESS if self.own else OF_DEVICE

    def read(self) -> int:
        """Bytes. Raises `nvml.NoNVML` where NVML no longer tells."""
        if not self.own:
            return device_bytes()
        used = self._of_process()
        if used is None:
            raise system.NoNVML("NVML does not tell any more what this process uses")
        return used

    def _of_process(self) -> int | None:
        """None where NVML does not list this process, or not what it uses (as under Windows' driver model)."""
        try:
            running = self.module.nvmlDeviceGetComputeRunningProcesses(self.gpu)
        except self.module.NVMLError:
            return None
        used = [each.usedGpuMemory for each in running if each.pid == os.getpid()]
        return None if not used or None in used else int(sum(used))


def device_bytes() -> int:
    """Memory in use on GPU 0, by NVML, whoever uses it."""
    module, gpu = system.first_gpu()
    try:
        return int(module.nvmlDeviceGetMemoryInfo(gpu).used)
    except module.NVMLError as error:
        raise system.NoNVML(f"NVML does not tell what memory is used: {error}") from error
