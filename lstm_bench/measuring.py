"""`lstm_bench.measure`: the harness's clock, warm-up, rounds and interval for callables of one's own, in this process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from analysis.report import words
from analysis.statistics.ratios import Ratio, log_ratio, over_replicates
from bench.harness import suites
from bench.machine import lock, system
from bench.worker.timing import HOST_BOUND, Clock, CudaEventClock, Sampler, WallClock, is_host_bound
from impls import Unavailable
from impls.specs.recurrent import Device
from lstm_bench import device_policy

if TYPE_CHECKING:
    import pandas as pd

WARM_SECONDS = 0.2
TURN_SECONDS = 0.05
# Pairs of equal callables were simulated, each of whose times wanders by 3 % with a time constant of 0.3 s (1 s). Of 200 such
# pairs so many were called different after 5 s: with an interval over pairs of rounds 16 % (41 %), over 10 blocks 13 % (36 %),
# over 5 blocks 6 % (14 %). Simulated again in tests/lstm_bench/test_measuring.py.
BLOCKS = 5

Verdict = Literal["baseline", "faster", "slower", "undecided"]


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
        speedup: over the baseline, with its 95 % interval over blocks of rounds; None for the baseline itself.
        samples: seconds a call, in the order in which they were taken.
        notes: `no_steady_state` where its warm-up found none, `host_bound` where a GPU waited for the host.
    """

    name: str
    seconds: float
    speedup: Ratio | None
    samples: tuple[float, ...]
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """`faster` or `slower` only where the interval excludes 1."""
        if self.speedup is None:
            return "baseline"
        return self.speedup.verdict or "undecided"


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one measurement, as `str` shows them; `table["mine"]` is the row of that name.

    Attributes:
        rows: one for each callable, in the order given.
        rounds: in each of which every callable was sampled.
    """

    rows: tuple[Row, ...]
    rounds: int

    def __getitem__(self, name: str) -> Row:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no {name!r} was measured; choose from {', '.join(row.name for row in self.rows)}")

    def to_frame(self) -> pd.DataFrame:
        """A row for each callable: name, seconds, speedup, low and high (NaN where there is none), verdict, notes."""
        import pandas as pd

        def numbers(ratio: Ratio | None) -> list[float | None]:
            return [None, None, None] if ratio is None else [ratio.value, ratio.low, ratio.high]

        columns = ["name", "seconds", "speedup", "low", "high", "verdict", "notes"]
        rows = [[row.name, row.seconds, *numbers(row.speedup), row.verdict, ", ".join(row.notes)] for row in self.rows]
        return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(["speedup", "low", "high"], float))

    def __str__(self) -> str:
        baseline = next(row.name for row in self.rows if row.speedup is None)
        lines = [("", "median", f"speedup over {baseline}", "95 % interval", "")]
        for row in self.rows:
            speedup, interval = "1", ""
            if row.speedup is not None:
                speedup = words.format_significant(row.speedup.value)
                if row.speedup.low is not None and row.speedup.high is not None:
                    interval = f"[{words.format_significant(row.speedup.low)}, {words.format_significant(row.speedup.high)}]"
            said = ", ".join([row.verdict, *(note.replace("_", " ") for note in row.notes)])
            lines.append((row.name, words.format_si(row.seconds, "s"), speedup, interval, said))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )


def measure(
    callables: Mapping[str, Callable[[], object]],
    *,
    baseline: str | None = None,
    seconds: float = 5.0,
    rounds: int | None = None,
    device: Device = "cpu",
    wait: Callable[[], object] | None = None,
    show: bool = True,
) -> Table:
    """Time callables against each other, interleaved; print and return the speedup of each over the first.

    They run in this process, since functions cannot be sent to another: one at a time, in rounds whose order alternates. The
    interval is over blocks of neighbouring rounds and holds what varies within one process. What differs from process to
    process (memory layout, a library's choice of algorithm) is not in it, so that it is narrower than that of `run` and
    `compare`, whose replicates are fresh processes: a small difference that is decided here may not repeat in another process.
    Nothing is compiled, pinned or validated: whether they compute the same is the caller's to check.

    Args:
        callables: name to function without arguments; `functools.partial` or a lambda gives one its arguments. On the CPU one
            that returns before its work is done (JAX) must wait for it itself, or be waited for by `wait`.
        baseline: the name that the others are compared with; the first if None.
        seconds: total time to spend, warm-up included; at least 10 rounds are taken.
        rounds: so many instead, whatever time they take; an odd number is raised by one.
        device: `cpu` takes the monotonic clock, `cuda` CUDA events on PyTorch's current stream.
        wait: called once after the calls of each sample, such as a synchronisation, within the time that is taken on the CPU.
        show: print the table; say on standard error if the machine is noisy.

    Returns:
        A row for each callable: median in seconds, speedup with its interval, verdict, samples in seconds.

    Raises:
        InvalidMeasurement: there is nothing to compare, no such baseline or device, or a number that none can be.
        CallableFailed: one of them raised; its exception is the cause.
        bench.machine.lock.DeviceBusy: another run is measuring on this device.
        bench.machine.system.UnsupportedSystem: on Windows.
        impls.Unavailable: there is no CUDA device.
        lstm_bench.import_paths.ForeignPackage: files of the current folder stand in for this project's packages.

    Example:
        >>> values = list(range(10_000))
        >>> table = measure({"sum": lambda: sum(values), "sorted": lambda: sorted(values)}, seconds=1)  # doctest: +SKIP
        >>> table["sorted"].speedup.value, table["sorted"].verdict  # doctest: +SKIP
        (0.45, 'slower')
    """
    system.require_measuring()
    _check(callables, baseline, seconds, rounds, device, wait)
    announced = device_policy.announced() if show else nullcontext()  # a noisy machine is said
    with announced, lock.device_lock(device, inner=True):
        clocks = {name: _clock(function, device, wait) for name, function in callables.items()}
        table = measured(clocks, baseline, seconds, time.perf_counter, rounds)
    if show:
        print(table)
    return table


def measured(
    clocks: Mapping[str, Clock], baseline: str | None, seconds: float, now: Callable[[], float], rounds: int | None = None
) -> Table:
    """The table of what these clocks say; `now` is the clock of the total time."""
    started = now()
    # Every turn of the time that was asked for is as long as the others: no limit of samples.
    samplers = {name: Sampler(clock, now, most_samples=math.inf) for name, clock in clocks.items()}
    for name, sampler in samplers.items():
        _call(name, lambda sampler=sampler: sampler.warm_up(min(WARM_SECONDS, seconds / 4 / len(samplers))))
    turn_seconds = min(TURN_SECONDS, seconds / suites.LEAST_ROUNDS / len(samplers))
    done = 0
    # An even number of rounds: each order of turns is taken equally often, and what it costs to be first cancels.
    while done < (rounds or suites.LEAST_ROUNDS) or (rounds is None and now() - started < seconds) or done % 2:
        for name in suites.order(list(samplers), done):
            _call(name, lambda name=name: samplers[name].turn(turn_seconds))
        done += 1
    first = next(iter(clocks)) if baseline is None else baseline
    return Table(tuple(_row(name, samplers, first) for name in samplers), done)


def _row(name: str, samplers: Mapping[str, Sampler], baseline: str) -> Row:
    own, other = samplers[name], samplers[baseline]
    speedup = None
    if name != baseline:
        rounds = zip(_turns(other), _turns(own), strict=True)
        logs = np.array([log_ratio(theirs, ours, (), (), "median") for theirs, ours in rounds])
        speedup = over_replicates([float(block.mean()) for block in blocks(logs)], "median")
    notes = list(own.notes)
    host: Sequence[float] = getattr(own.clock, "host_seconds", ())
    if is_host_bound(host[-len(own.samples) :], own.samples):
        notes.append(HOST_BOUND)
    return Row(name, float(np.median(own.samples)), speedup, tuple(own.samples), tuple(notes))


def blocks(rounds: np.ndarray) -> list[np.ndarray]:
    """An even number of rounds in blocks of neighbours: of both orders each, and at most `BLOCKS`.

    Neighbouring rounds resemble each other (a slow second lasts several rounds), so that rounds are too many to be counted as
    independent. Means of blocks, as long as they can be, are nearly so (batch means: Conway 1963; Law 2015, section 9.5.3).
    """
    pairs = rounds.reshape(-1, 2)
    return [block.ravel() for block in np.array_split(pairs, min(BLOCKS, len(pairs)))]


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


def _check(
    callables: Mapping[str, Callable[[], object]],
    baseline: str | None,
    seconds: float,
    rounds: int | None,
    device: str,
    wait: Callable[[], object] | None,
) -> None:
    if not isinstance(callables, Mapping) or not callables:
        raise InvalidMeasurement(
            'measure takes a mapping of names to functions, as {"mine": f, "theirs": g}; got nothing to time'
        )
    for name, function in callables.items():
        if not isinstance(name, str):
            raise InvalidMeasurement(f"a name must be a string; got {name!r}")
        if not callable(function):
            raise InvalidMeasurement(f"{name!r} is no function but {type(function).__name__}; give one that takes no arguments")
    if baseline is not None and baseline not in callables:
        raise InvalidMeasurement(f"no {baseline!r} to compare with; choose from {', '.join(callables)}")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise InvalidMeasurement(f"seconds must be a number of more than 0; got {seconds!r}")
    if rounds is not None and (isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 2):
        raise InvalidMeasurement(f"rounds must be a whole number of at least 2; got {rounds!r}")
    if device not in get_args(Device):
        raise InvalidMeasurement(f"device must be one of {', '.join(get_args(Device))}; got {device!r}")
    if wait is not None and not callable(wait):
        raise InvalidMeasurement(f"wait must be a function that takes no arguments; got {type(wait).__name__}")
