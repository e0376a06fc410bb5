"""`lstm_bench.measure`: the harness's clock, warm-up, rounds and interval for callables of one's own, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from analysis.ratios import Ratio, log_ratio, over_replicates
from bench import lock, pace, systems
from bench.clock import Clock, CudaEventClock, WallClock
from bench.sampling import Sampler
from bench.units import in_unit
from impls import Unavailable
from impls.spec import Device

WARM_SECONDS = 0.2
TURN_SECONDS = 0.05
MOST_ROUNDS = 100


class InvalidMeasurement(ValueError):
    """What was given to `measure` cannot be measured; the message says why and what to give."""


class CallableFailed(RuntimeError):
    """A measured callable raised; the message names it, and the cause is its exception."""


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one callable.

    Attributes:
        name: as it was given.
        seconds: median time of a call.
        speedup: over the baseline, with its 95 % interval over rounds; None for the baseline itself.
        samples: seconds a call, in the order in which they were taken.
        notes: such as `no_steady_state` where its warm-up found none.
    """

    name: str
    seconds: float
    speedup: Ratio | None
    samples: tuple[float, ...]
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """In words; `faster` or `slower` only where the interval excludes 1."""
        if self.speedup is None:
            return "baseline"
        return self.speedup.verdict or "not decided"


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one measurement, as `str` shows them."""

    rows: tuple[Row, ...]
    rounds: int

    def __getitem__(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    def __str__(self) -> str:
        baseline = next(row.name for row in self.rows if row.speedup is None)
        lines = [("", "median", f"speedup over {baseline}", "95 % interval", "")]
        for row in self.rows:
            speedup, interval = "1", ""
            if row.speedup is not None:
                speedup = f"{row.speedup.value:.3g}"
                interval = "" if row.speedup.low is None else f"[{row.speedup.low:.3g}, {row.speedup.high:.3g}]"
            said = ", ".join([row.verdict, *(note.replace("_", " ") for note in row.notes)])
            lines.append((row.name, in_unit(row.seconds, "s"), speedup, interval, said))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )


def measure(
    callables: Mapping[str, Callable[[], object]],
    *,
    baseline: str | None = None,
    seconds: float = 5.0,
    device: Device = "cpu",
    wait: Callable[[], object] | None = None,
    show: bool = True,
) -> Table:
    """Time callables against each other, interleaved, and print and return how many times as fast each is as the first.

    They run in this process, one at a time, in rounds whose order alternates. The interval is over rounds: it holds what varies
    within one process, and not what differs from process to process, for which `run` and `compare` take fresh ones. Nothing is
    validated: whether they compute the same is the caller's to check.

    Args:
        callables: name to function without arguments. One that works asynchronously (JAX) must wait for its result itself, or
            be waited for by `wait`.
        baseline: the name that the others are compared with; the first if None.
        seconds: total time to spend, warm-up included; at least 10 rounds are taken.
        device: `cpu` takes the monotonic clock, `cuda` CUDA events on PyTorch's current stream.
        wait: called once after the calls of each sample, such as a synchronisation, within the time that is taken.
        show: print the table.

    Returns:
        A row for each callable: median in seconds, speedup with its interval, samples in seconds.

    Raises:
        InvalidMeasurement: there is nothing to compare, or no such baseline.
        CallableFailed: one of them raised.
        bench.lock.DeviceBusy: another run is measuring on this device.
        impls.Unavailable: there is no CUDA device.

    Example:
        >>> lstm_bench.measure({"mine": f, "theirs": g})  # doctest: +SKIP
    """
    systems.require_measuring()
    _check(callables, baseline, seconds)
    with lock.device_lock(device, inner=True):
        table = measured(
            {name: _clock(function, device, wait) for name, function in callables.items()}, baseline, seconds, time.perf_counter
        )
    if show:
        print(table)
    return table


def measured(clocks: Mapping[str, Clock], baseline: str | None, seconds: float, now: Callable[[], float]) -> Table:
    """The table of what these clocks say; `now` is the clock of the total time."""
    started = now()
    samplers = {name: Sampler(clock, now) for name, clock in clocks.items()}
    for name, sampler in samplers.items():
        _call(name, lambda sampler=sampler: sampler.warm_up(min(WARM_SECONDS, seconds / 4 / len(samplers))))
    rounds = 0
    while rounds < pace.LEAST_ROUNDS or (rounds < MOST_ROUNDS and now() - started < seconds):
        for name in pace.order(list(samplers), rounds):
            _call(name, lambda name=name: samplers[name].turn(min(TURN_SECONDS, seconds / pace.LEAST_ROUNDS / len(samplers))))
        rounds += 1
    first = baseline or next(iter(clocks))
    return Table(tuple(_row(name, samplers, first) for name in samplers), rounds)


def _row(name: str, samplers: Mapping[str, Sampler], baseline: str) -> Row:
    own, other = samplers[name], samplers[baseline]
    speedup = None
    if name != baseline:
        rounds = zip(_turns(other), _turns(own), strict=True)
        logs = [log_ratio(theirs, ours, (), (), "median") for theirs, ours in rounds]
        speedup = over_replicates(logs, "median")
    return Row(name, float(np.median(own.samples)), speedup, tuple(own.samples), tuple(own.notes))


def _turns(sampler: Sampler) -> list[np.ndarray]:
    return np.split(np.array(sampler.samples), np.cumsum(sampler.blocks)[:-1])


def _call(name: str, act: Callable[[], None]) -> None:
    try:
        act()
    except Exception as error:
        raise CallableFailed(f"{name} raised {type(error).__name__}: {error}") from error


def _clock(function: Callable[[], object], device: Device, wait: Callable[[], object] | None) -> Clock:
    def nothing() -> None:
        pass

    wait = wait or nothing
    if device == "cpu":
        return WallClock(function, wait)  # type: ignore[arg-type]  (what they return is not looked at)
    try:
        import torch
    except ModuleNotFoundError:
        raise Unavailable(
            "measuring on cuda needs PyTorch, whose events are its clock; install it, or measure on cpu"
        ) from None
    if not torch.cuda.is_available():
        raise Unavailable("no CUDA device was found by PyTorch; measure with device='cpu'")
    return CudaEventClock(function, wait)  # type: ignore[arg-type]


def _check(callables: Mapping[str, Callable[[], object]], baseline: str | None, seconds: float) -> None:
    if not isinstance(callables, Mapping) or not callables:
        raise InvalidMeasurement(
            'measure takes a mapping of names to functions, as {"mine": f, "theirs": g}; got nothing to time'
        )
    for name, function in callables.items():
        if not callable(function):
            raise InvalidMeasurement(f"{name!r} is no function but {type(function).__name__}; give one that takes no arguments")
    if baseline is not None and baseline not in callables:
        raise InvalidMeasurement(f"no {baseline!r} to compare with; choose from {', '.join(map(str, callables))}")
    if not seconds > 0:
        raise InvalidMeasurement(f"seconds must be more than 0; got {seconds}")
