"""Energy that calls took, from counters of the machine: RAPL's of the processors on Linux, NVML's of the GPU.

A counter counts all that its device took, whoever used it and while it idled: of a processor the packages, without memory that
they do not power. It changes at intervals, so what is shorter than many of them is measured from change to change, or not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.machine import system

POWERCAP = Path("/sys/class/powercap")
RAPL_SECONDS, NVML_SECONDS = (
    1e-3,
    0.1,
)  # between two changes: Intel SDM, volume 3B, 16.10; NVML's were seen to take 20 to 100 ms
LEAST_CHANGES = 20  # of the counter within a turn, so that its first and last one weigh at most 5 % each
WINDOW_CHANGES = 5  # within a window that begins and ends with one


class NoEnergy(RuntimeError):
    """This machine does not tell its energy; the message says why."""


@dataclass(frozen=True, slots=True)
class Zone:
    """One counter: its value in joules, and the joules after which it starts from zero; None where it never does."""

    read: Callable[[], float]
    span: float | None = None

    def since(self, before: float) -> float:
        """Joules since it read `before`, if it started again at most once."""
        taken = self.read() - before
        return taken + self.span if taken < 0 and self.span is not None else taken


@dataclass(slots=True)
class Meter:
    """Joules a call. Where the machine does not tell, `reason` says why and nothing is ever measured.

    Attributes:
        zones: counters that are added up.
        update_seconds: between two changes of a counter.
        samples: joules a call of each turn or window.
    """

    zones: tuple[Zone, ...] = ()
    update_seconds: float = 0.0
    reason: str = ""
    samples: list[float] = field(default_factory=list)
    _before: list[float] = field(default_factory=list)

    def start(self) -> None:
        """A turn begins."""
        self._before = self._ask(lambda zone: zone.read())

    def stop(self, calls: int, seconds: float) -> None:
        """A turn of so many calls has ended; it counts if the counters changed often enough meanwhile."""
        if not self._before:
            return
        if seconds >= LEAST_CHANGES * self.update_seconds:
            before = iter(self._before)
            if taken := self._ask(lambda zone: zone.since(next(before))):
                self.samples.append(sum(taken) / calls)
        elif not self.samples:
            every = f"{self.update_seconds * 1e3:.0f} ms"
            self.reason = f"a turn of {seconds * 1e3:.0f} ms is too short for a counter that changes every {every}"

    def window(self, call: Callable[[], object], calls: int) -> None:
        """Call until the counters have changed, and on until they change after `WINDOW_CHANGES` of their intervals.

        call: makes calls.
        calls: how many at a time, those included that it does not time.
        """
        if not self.zones:
            return
        made = 0
        first = self._change(call)
        started = time.perf_counter()

        def count() -> None:
            nonlocal made
            call()
            made += calls

        while first and time.perf_counter() - started < WINDOW_CHANGES * self.update_seconds:
            count()
        last = self._change(count) if first else []
        if last:
            before = iter(first)
            self.samples.append(sum(zone.since(next(before)) for zone in self.zones) / made)
            self.reason = ""

    def _change(self, act: Callable[[], object]) -> list[float]:
        """The readings after the first counter has changed, which `act` is done until; empty where it does not within 10."""
        before, started = self._ask(lambda zone: zone.read()), time.perf_counter()
        while before and time.perf_counter() - started < 10 * self.update_seconds:
            act()
            now = self._ask(lambda zone: zone.read())
            if now and now[0] != before[0]:
                return now
        self.reason = self.reason or "the counter did not change while calls were made"
        return []

    def _ask(self, of: Callable[[Zone], float]) -> list[float]:
        """Of each zone; empty where one fails, and then no more is asked."""
        try:
            return [of(zone) for zone in self.zones]
        except (OSError, ValueError, NoEnergy) as error:
            self.zones, self.reason = (), f"a counter could not be read: {error}"
            return []


def meter(device: str) -> Meter:
    """The meter of a device, cpu or cuda; one with a reason where the machine does not tell."""
    try:
        zones = gpu() if device == "cuda" else packages(POWERCAP)
    except (NoEnergy, system.NoNVML) as reason:
        return Meter(reason=str(reason))
    return Meter(zones, NVML_SECONDS if device == "cuda" else RAPL_SECONDS)


def packages(root: Path) -> tuple[Zone, ...]:
    """RAPL's zones of processor packages. Raises `NoEnergy`."""
    found = [folder for folder in sorted(root.glob("intel-rapl:*")) if _text(folder / "name").startswith("package")]
    if not found:
        raise NoEnergy(f"this machine has no RAPL counter of a processor below {root}")
    return tuple(Zone(_reader(folder / "energy_uj"), _microjoules(folder / "max_energy_range_uj")) for folder in found)


def gpu() -> tuple[Zone, ...]:
    """NVML's counter of GPU 0. Raises `NoEnergy` or `NoNVML`."""
    nvml, handle = system.first_gpu()

    def read() -> float:
        try:
            return nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
        except nvml.NVMLError as error:
            raise NoEnergy(f"NVML counts no energy of this GPU: {error}") from error

    read()
    return (Zone(read),)


def _reader(path: Path) -> Callable[[], float]:
    _microjoules(path)
    return lambda: _microjoules(path)


def _microjoules(path: Path) -> float:
    """In joules. Raises `NoEnergy` where it may not be read, as by all but root since Linux 5.10."""
    try:
        return int(_text(path)) / 1e6
    except PermissionError as error:
        raise NoEnergy(f"{path} may not be read; allow it with: sudo chmod -R a+r {path.parent.resolve()}") from error
    except (OSError, ValueError) as error:
        raise NoEnergy(f"{path} cannot be read: {error}") from error


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()
