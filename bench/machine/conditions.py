"""What else went on while a case was measured: processor load and stolen time, GPU clocks, heat and neighbours."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bench.machine import noise, system

SAMPLE_SECONDS = 0.1
T = TypeVar("T")


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
            except system.NoNVML as reason:
                self.summary["gpu_not_watched"] = str(reason)
            else:
                self._gpu.start()
        return self

    def __exit__(self, *_: object) -> None:
        after = _processor_ticks()
        total = sum(after) - sum(self._before)
        self.summary["load_average"] = system.load_average()
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
    """Samples GPU 0 through NVML ten times a second. Raises `nvml.NoNVML`.

    What NVML does not tell, all the time or from some sample on, is None in the summary, with why in `gpu_unknown`: whether the
    GPU slowed down or another process used it is not known then.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.nvml, self.handle = system.first_gpu()
        self.finished = threading.Event()
        self.sm_clocks: list[int] = []
        self.memory_clocks: list[int] = []
        self.watts: list[float] = []
        self.celsius: list[int] = []
        self.reasons = 0
        self.processes: dict[int, bool | None] = {}  # whether it is ours; None where that cannot be told
        self.turns: dict[str, list[int]] = {}
        self.failures: dict[str, str] = {}

    def _ask(self, what: str, call: Callable[[], T]) -> T | None:
        try:
            return call()
        except self.nvml.NVMLError as error:
            self.failures.setdefault(what, str(error))
            return None

    def note_turn(self, name: str) -> None:
        """The SM clock at the end of a turn."""
        watched = self.nvml
        clock = self._ask("sm_clock_mhz", lambda: watched.nvmlDeviceGetClockInfo(self.handle, watched.NVML_CLOCK_SM))
        if clock is not None:
            self.turns.setdefault(name, []).append(clock)

    def run(self) -> None:
        watched, handle = self.nvml, self.handle
        clock = watched.nvmlDeviceGetClockInfo
        probes: tuple[tuple[str, Callable[[], Any], Callable[[Any], object]], ...] = (
            ("sm_clock_mhz", lambda: clock(handle, watched.NVML_CLOCK_SM), self.sm_clocks.append),
            ("memory_clock_mhz", lambda: clock(handle, watched.NVML_CLOCK_MEM), self.memory_clocks.append),
            ("watts", lambda: watched.nvmlDeviceGetPowerUsage(handle) / 1e3, self.watts.append),
            ("celsius", lambda: watched.nvmlDeviceGetTemperature(handle, watched.NVML_TEMPERATURE_GPU), self.celsius.append),
            ("slowdown", lambda: watched.nvmlDeviceGetCurrentClocksEventReasons(handle), self._slowed),
            ("processes", lambda: [one.pid for one in watched.nvmlDeviceGetComputeRunningProcesses(handle)], self._seen),
        )  # fmt: skip
        while True:
            for what, call, take in probes:
                self._take(what, call, take)
            if self.finished.wait(SAMPLE_SECONDS):
                return

    def _take(self, what: str, call: Callable[[], Any], take: Callable[[Any], object]) -> None:
        if (value := self._ask(what, call)) is not None:
            take(value)

    def _slowed(self, reasons: int) -> None:
        self.reasons |= reasons

    def _seen(self, pids: Sequence[int]) -> None:
        """Asked at once, as long as they run."""
        self.processes |= {pid: _is_ours(pid) for pid in pids if self.processes.get(pid) is None}

    def stop(self) -> dict[str, Any]:
        """End the sampling; returns what it saw, by name."""
        self.finished.set()
        self.join()
        watched = self.nvml
        slowdown = (
            watched.nvmlClocksEventReasonHwSlowdown
            | watched.nvmlClocksEventReasonHwThermalSlowdown
            | watched.nvmlClocksEventReasonHwPowerBrakeSlowdown
            | watched.nvmlClocksEventReasonSwThermalSlowdown
        )
        foreign, unidentified = (
            sorted(pid for pid, ours in self.processes.items() if ours is state) for state in (False, None)
        )
        slowed = "slowdown" not in self.failures
        return {
            "sm_clock_mhz": _median(self.sm_clocks),
            "memory_clock_mhz": _median(self.memory_clocks),
            "watts": max(self.watts, default=None),
            "celsius": max(self.celsius, default=None),
            # What was seen counts, although some samples failed; that nothing was seen counts only where none did.
            "power_capped": bool(self.reasons & watched.nvmlClocksEventReasonSwPowerCap) or (False if slowed else None),
            "hardware_slowdown": bool(self.reasons & slowdown) or (False if slowed else None),
            "foreign_processes": foreign or ([] if "processes" not in self.failures else None),
            **({"unidentified_processes": unidentified} if unidentified else {}),
            **({"gpu_unknown": dict(self.failures)} if self.failures else {}),
        }


def _median(values: Sequence[int]) -> int | None:
    return sorted(values)[len(values) // 2] if values else None


def _is_ours(pid: int) -> bool | None:
    """Whether a process is this one or below it, as workers are.

    None where the system does not tell: it has ended, or NVML knows it by a number of another namespace, as in a container.
    """
    while pid > 1:
        if pid == os.getpid():
            return True
        try:
            pid = int(system.process_fields(pid)[system.PARENT])
        except OSError:
            return None
    return False


def _processor_ticks() -> list[int]:
    try:
        first = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0]
    except OSError:
        return []
    return [int(value) for value in first.split()[1:]]
