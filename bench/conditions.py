"""What else went on while a case was measured: processor load and stolen time, GPU clocks, heat and neighbours."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import noise, nvml, processors

SAMPLE_SECONDS = 0.1


@dataclass(slots=True)
class Watch:
    """Use as a context around a measurement; `summary` afterwards.

    Without NVML it holds `gpu_not_watched` with the reason: whether there is a GPU to run on is for the worker to say.
    """

    device: str
    _before: list[int] = field(default_factory=list)
    _time_before: noise.ProcessorTime | None = None
    _gpu: GpuWatch | None = None
    summary: dict[str, Any] = field(default_factory=dict)

    def __enter__(self) -> Watch:
        self._before, self._time_before = _processor_ticks(), noise.processor_time()
        if self.device == "cuda":
            try:
                self._gpu = GpuWatch()
            except nvml.NoNVML as reason:
                self.summary["gpu_not_watched"] = str(reason)
            else:
                self._gpu.start()
        return self

    def __exit__(self, *_: object) -> None:
        after = _processor_ticks()
        total = sum(after) - sum(self._before)
        self.summary["load_average"] = processors.load_average()
        others = noise.shares_between(self._time_before, noise.processor_time())[0]
        if others is not None:
            self.summary["others_share"] = others  # of the usable processors' time, what processes other than this run took
        if total > 0 and len(after) > 7:
            self.summary["stolen_share"] = (after[7] - self._before[7]) / total  # column `steal` of proc_stat(5)
        if self._gpu is not None:
            self.summary |= self._gpu.stop()

    def note_turn(self, name: str) -> None:
        """To be called when a turn of `name` has ended: takes down the SM clock."""
        if self._gpu is not None:
            self._gpu.note_turn(name)

    def of(self, name: str) -> dict[str, Any]:
        """The summary, with the SM clock of the turns of `name` alone where they were noted."""
        clocks = self._gpu.turns.get(name) if self._gpu is not None else None
        return self.summary | ({"sm_clock_mhz": sorted(clocks)[len(clocks) // 2]} if clocks else {})

    def invalid(self) -> str | None:
        """Why these measurements do not count, or None."""
        if self.summary.get("hardware_slowdown"):
            return "the GPU slowed itself down (heat or power brake) while it was measured"
        if self.summary.get("foreign_processes"):
            return f"another process used the GPU while it was measured: {self.summary['foreign_processes']}"
        return None


class GpuWatch(threading.Thread):
    """Samples GPU 0 through NVML ten times a second. Raises `nvml.NoNVML`."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.nvml, self.handle = nvml.first_gpu()
        self.finished = threading.Event()
        self.sm_clocks: list[int] = []
        self.memory_clocks: list[int] = []
        self.watts: list[float] = []
        self.celsius: list[int] = []
        self.reasons = 0
        self.processes: set[int] = set()
        self.turns: dict[str, list[int]] = {}

    def note_turn(self, name: str) -> None:
        """The SM clock at the end of a turn."""
        self.turns.setdefault(name, []).append(self.nvml.nvmlDeviceGetClockInfo(self.handle, self.nvml.NVML_CLOCK_SM))

    def run(self) -> None:
        watched, handle = self.nvml, self.handle
        while True:
            self.sm_clocks.append(watched.nvmlDeviceGetClockInfo(handle, watched.NVML_CLOCK_SM))
            self.memory_clocks.append(watched.nvmlDeviceGetClockInfo(handle, watched.NVML_CLOCK_MEM))
            self.watts.append(watched.nvmlDeviceGetPowerUsage(handle) / 1e3)
            self.celsius.append(watched.nvmlDeviceGetTemperature(handle, watched.NVML_TEMPERATURE_GPU))
            self.reasons |= watched.nvmlDeviceGetCurrentClocksEventReasons(handle)
            self.processes |= {process.pid for process in watched.nvmlDeviceGetComputeRunningProcesses(handle)}
            if self.finished.wait(SAMPLE_SECONDS):
                return

    def stop(self) -> dict[str, Any]:
        self.finished.set()
        self.join()
        watched = self.nvml
        slowdown = (
            watched.nvmlClocksEventReasonHwSlowdown
            | watched.nvmlClocksEventReasonHwThermalSlowdown
            | watched.nvmlClocksEventReasonHwPowerBrakeSlowdown
            | watched.nvmlClocksEventReasonSwThermalSlowdown
        )
        return {
            "sm_clock_mhz": sorted(self.sm_clocks)[len(self.sm_clocks) // 2],
            "memory_clock_mhz": sorted(self.memory_clocks)[len(self.memory_clocks) // 2],
            "watts": max(self.watts),
            "celsius": max(self.celsius),
            "power_capped": bool(self.reasons & watched.nvmlClocksEventReasonSwPowerCap),
            "hardware_slowdown": bool(self.reasons & slowdown),
            "foreign_processes": sorted(pid for pid in self.processes if not _is_ours(pid)),
        }


def _is_ours(pid: int) -> bool:
    """Whether a process is this one or below it, as workers are; one already gone counts, for its pid says nothing any more."""
    while pid > 1:
        if pid == os.getpid():
            return True
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return True
        pid = int(text.rpartition(")")[2].split()[1])
    return False


def _processor_ticks() -> list[int]:
    try:
        first = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0]
    except OSError:
        return []
    return [int(value) for value in first.split()[1:]]
