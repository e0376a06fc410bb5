"""Peak memory of one call, in a worker that has run nothing before.

On the CPU: peak resident memory of the process less what it held before the network was loaded (Linux only).
On CUDA: three numbers with three names; only `device_peak` compares across backends.
"""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import nvml, prepare, room
from bench.case import Case
from results.record import Measurement

SAMPLE_SECONDS = 0.005


def measure(backend: str, case: Case) -> Iterator[Measurement]:
    """Load the case and call it twice (a step once); yields the peaks in bytes. Its answer is checked afterwards.

    To be called in a process that has run nothing else yet: memory that an earlier case left to the allocator would be used
    again unseen.
    """
    room.require(case)
    data = case.data()  # drawn before the baseline: the harness's own float64 arrays are not the backend's
    probe = _device_peaks if case.spec.device == "cuda" else _resident_peak
    with probe() as peaks:
        prepared = prepare.load(case, backend, data)
        if case.phase != "step":  # whose answer is checked from its first call on
            prepared.call()
            prepared.wait()
    prepare.verify(prepared, in_full=prepare.validated_in_full(case))
    for metric, value in peaks.items():
        yield Measurement(metric, "B", (float(value),))


@contextmanager
def _resident_peak() -> Iterator[dict[str, int]]:
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not clear.exists():
        raise prepare.Skip("peak resident memory needs Linux: /proc/self/clear_refs is not there")
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # hand freed memory back, lest the call reuse it unseen
    clear.write_text("5")  # resets the peak (proc(5))
    baseline = _kibibytes(status, "VmRSS")
    peaks: dict[str, int] = {}
    yield peaks
    peaks["rss_peak"] = max(0, _kibibytes(status, "VmHWM") - baseline) * 1024


def host_peak() -> int:
    """Bytes this process has held at most.

    By Linux's VmHWM: getrusage's number is as large as the parent's from the start. Elsewhere getrusage's, which macOS gives in
    bytes.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * _kibibytes(status, "VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _kibibytes(status: Path, name: str) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


@contextmanager
def _device_peaks() -> Iterator[dict[str, int]]:
    """NVML's figure sampled at 200 Hz, less that before loading (the context is up by then); and PyTorch's own two."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.init()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    baseline = device_bytes()
    highest, stop = [baseline], threading.Event()

    def watch() -> None:
        while not stop.wait(SAMPLE_SECONDS):
            highest.append(device_bytes())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    peaks: dict[str, int] = {}
    try:
        yield peaks
        highest.append(device_bytes())
    finally:
        stop.set()
        watcher.join()
    peaks["device_peak"] = max(highest) - baseline
    if torch is not None and torch.cuda.is_available():
        peaks["alloc_peak"] = torch.cuda.max_memory_allocated()
        peaks["reserved_peak"] = torch.cuda.max_memory_reserved()


def device_bytes() -> int:
    """Memory in use on GPU 0, by NVML. Of the whole device: inside a container NVML knows processes by other numbers,
    and a run holds the device's lock."""
    module, gpu = nvml.first_gpu()
    return int(module.nvmlDeviceGetMemoryInfo(gpu).used)
