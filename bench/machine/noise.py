"""How noisy this machine is: jitter of fixed work, and processor time that other processes and other virtual machines take."""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from bench.machine import system
from results.record import Record

Level = Literal["quiet", "somewhat noisy", "noisy"]

CHECK_SECONDS = 0.25  # before a run
ELEMENTS, CALLS = 8192, 8  # of one sample of the fixed work, about 0.5 ms on one processor
LEAST_SAMPLES = 40
PAIRS = 20  # of the estimate of what can be detected
# Of a two-sided test at 5 % that finds 95 % of the differences: the quantiles 1.96 and 1.64 of the normal distribution.
QUANTILES = 1.96 + 1.64


@dataclass(frozen=True, slots=True)
class Limits:
    """Readings from which on a machine is no longer quiet, and from which on it is noisy. Shares are of processor time."""

    quiet_median: float = 1.02
    quiet_p90: float = 1.05
    noisy_median: float = 1.10
    noisy_p90: float = 1.25
    others_share: float = 0.10
    stolen_share: float = 0.02


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Reading:
    """How the machine behaved for a moment.

    Attributes:
        median_over_fastest: median time of the fixed work over its fastest.
        p90_over_fastest: 90th percentile of its time over the fastest.
        detectable: difference that 20 pairs of this work would show, as a share of its time; None with too few samples.
        others_share: share of the usable processors' time that other processes took; None where the system does not tell.
        stolen_share: share that other virtual machines of the host took; None likewise.
        load_average: of the last minute; None where there is none.
    """

    median_over_fastest: float
    p90_over_fastest: float
    detectable: float | None = None
    others_share: float | None = None
    stolen_share: float | None = None
    load_average: float | None = None

    @property
    def level(self) -> Level:
        """How noisy that is, by `LIMITS`."""
        if self.reasons():
            return "noisy"
        quiet = self.median_over_fastest < LIMITS.quiet_median and self.p90_over_fastest < LIMITS.quiet_p90
        return "quiet" if quiet else "somewhat noisy"

    def reasons(self) -> list[str]:
        """What makes the machine noisy; empty where nothing does."""
        found = shares_beyond(self.others_share, self.stolen_share)
        if not found and (self.median_over_fastest >= LIMITS.noisy_median or self.p90_over_fastest >= LIMITS.noisy_p90):
            found.append(f"the same work takes {self.p90_over_fastest:.2f}× its fastest time at p90")
        return found


def shares_beyond(others: float | None, stolen: float | None, past: bool = False) -> list[str]:
    """A clause on each share of processor time that is beyond its limit, in the present tense or in the past."""
    clauses = []
    if others is not None and others >= LIMITS.others_share:
        clauses.append(f"other processes {'used' if past else 'use'} {100 * others:.0f} % of the processors")
    if stolen is not None and stolen >= LIMITS.stolen_share:
        clauses.append(f"other virtual machines {'took' if past else 'take'} {100 * stolen:.0f} % of the processors' time")
    return clauses


def read(seconds: float = CHECK_SECONDS) -> Reading:
    """Time fixed work on one processor for so long, and watch what others take of all of them meanwhile."""
    before, times, until = processor_time(), list[float](), time.perf_counter() + seconds
    values = np.random.default_rng(0).standard_normal(ELEMENTS)
    out = np.empty_like(values)
    while time.perf_counter() < until or len(times) < LEAST_SAMPLES:
        started = time.perf_counter()
        for _ in range(CALLS):
            np.sin(values, out=out)
        times.append(time.perf_counter() - started)
    shares = shares_between(before, processor_time())
    fastest = min(times)
    p90 = statistics.quantiles(times, n=10)[-1]
    load = system.load_average()
    return Reading(statistics.median(times) / fastest, p90 / fastest, detectable_of(times), *shares, load)


def detectable_of(times: Sequence[float], pairs: int = PAIRS) -> float | None:
    """The difference between two programs that so many pairs would show, from samples of one program in one process.

    Each pair is the ratio of the medians of two interleaved halves of consecutive samples. None with fewer than four samples
    a pair.
    """
    width = len(times) // pairs
    if width < 4:
        return None
    blocks = [times[first : first + width] for first in range(0, pairs * width, width)]
    changes = [math.log(statistics.median(block[::2]) / statistics.median(block[1::2])) for block in blocks]
    return math.expm1(QUANTILES * statistics.stdev(changes) / math.sqrt(pairs))


def sentence(reading: Reading) -> str | None:
    """One line for before a run on a noisy machine; None where it is not noisy."""
    if not (reasons := reading.reasons()):
        return None
    return f"noisy machine: {' and '.join(reasons)} (lstm-bench doctor)"


def sentence_after(records: Sequence[Record]) -> str | None:
    """One line for after a run whose conditions show a noisy machine: shares over all its time. None where they do not."""
    others, stolen = (_mean(records, name) for name in ("others_share", "stolen_share"))
    reasons = shares_beyond(others, stolen, past=True)
    if not reasons:
        return None
    return (
        f"noisy while measuring: {' and '.join(reasons)}. Speedups within this run still hold, absolute times may not. "
        "Close other programs and measure again"
    )


def _mean(records: Sequence[Record], name: str) -> float | None:
    """Of a condition over the records that have it, weighted by how long they took."""
    known = [(record.conditions[name], record.seconds) for record in records if name in record.conditions]
    total = sum(seconds for _, seconds in known)
    return sum(value * seconds for value, seconds in known) / total if total else None


class ProcessorTime(NamedTuple):
    """Seconds since the system started, summed over the usable processors; own: of this process and its descendants."""

    total: float
    idle: float
    stolen: float
    own: float


def processor_time(read_stat: Callable[[], str] | None = None) -> ProcessorTime | None:
    """None where the system has no /proc/stat. read_stat: gives its text."""
    if sys.platform == "win32":
        return None
    try:
        text = read_stat() if read_stat else Path("/proc/stat").read_text(encoding="utf-8")
        own = _own_seconds()
    except OSError:
        return None
    usable, hertz = {f"cpu{number}" for number in system.usable()}, os.sysconf("SC_CLK_TCK")
    lines = [line.split() for line in text.splitlines()]
    # Columns of proc_stat(5): user nice system idle iowait irq softirq steal; guests are part of user.
    ticks = [[int(value) for value in values] for name, *values in filter(None, lines) if name in usable]
    if not ticks or any(len(each) < 8 for each in ticks):
        return None
    columns = [sum(column) / hertz for column in zip(*(each[:8] for each in ticks), strict=True)]
    return ProcessorTime(sum(columns), columns[3] + columns[4], columns[7], own)


def shares_between(before: ProcessorTime | None, after: ProcessorTime | None) -> tuple[float | None, float | None]:
    """Shares of the usable processors' time that other processes and other virtual machines took; None where not known."""
    if before is None or after is None or after.total <= before.total:
        return None, None
    total, idle, stolen, own = (new - old for new, old in zip(after, before, strict=True))
    return max(0.0, total - idle - stolen - own) / total, stolen / total


def _own_seconds() -> float:
    """Processor time of this process and of all its descendants, those that have ended included."""
    if sys.platform == "win32":
        raise OSError
    hertz = os.sysconf("SC_CLK_TCK")
    spent: dict[int, float] = {}
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                values = system.process_fields(entry.name)
            except OSError:  # it has ended meanwhile
                continue
            pid = int(entry.name)
            children.setdefault(int(values[system.PARENT]), []).append(pid)
            spent[pid] = sum(map(int, values[system.TIMES])) / hertz
    total, waiting = 0.0, [os.getpid()]
    while waiting:
        pid = waiting.pop()
        total += spent.get(pid, 0.0)
        waiting += children.get(pid, ())
    return total
