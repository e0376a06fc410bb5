"""Who measures what in a fleet. Knows neither Ray nor a clock nor a disk: a driver tells it what happened.

Machines of one fingerprint form a series, which measures every case once in each replicate; a series of another fingerprint
measures them all again. The unit of work is one case in one replicate with all of its backends, which is never split. The
replicates of a case go to different hosts where there are several, so that the interval over replicates, which every
comparison has, holds the variance between machines. A few short cases are measured on every host, to compare the machines
themselves.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

SHARE_SECONDS = 30.0  # of work that a share has at least: a replicate's workers are started anew for each
LOSSES_IN_COMPANY = 2  # after so many lost machines a case is measured in a share of its own
LOSSES_ALONE = 5  # and after so many more it is given up: it may be what ends the machines
CALIBRATION_PART = 20  # one case in so many is measured on every host
CALIBRATION_MOST = 4
SCANNED, SCANNED_MORE = 256, 32  # cases passed over before a share has its first, and after that

Work = tuple[int, int]  # case, replicate


@dataclass(frozen=True, slots=True)
class Share:
    """What a machine measures between two questions to the head: some cases in one replicate."""

    cases: tuple[int, ...]
    replicate: int


@dataclass(slots=True)
class Machine:
    """A machine that has one measuring slot. `todo` is what it has yet to finish of its share."""

    host: str
    series: Series
    calibration: int | None = None  # the replicate in which it measures the common cases, until it has
    share: Share | None = None
    todo: set[int] = field(default_factory=set)


class Series:
    """The cases as machines of one fingerprint share them out.

    Args:
        seconds: predicted for each case in one replicate.
        replicates: how often each case is measured, 0 where no backend runs it.
        common: cases that every host measures.
        finished: what an earlier part of the same run has measured.
        calibrated: hosts that have measured the common cases in it.
    """

    def __init__(
        self,
        seconds: Sequence[float],
        replicates: Sequence[int],
        common: Iterable[int],
        finished: Collection[Work] = (),
        calibrated: Iterable[str] = (),
    ) -> None:
        self.seconds = seconds
        self.common = frozenset(case for case in common if replicates[case])
        self.machines: dict[str, Machine] = {}
        self.waiting: dict[int, list[tuple[float, int]]] = {}  # heaps by replicate, the longest case first
        self.waiting_seconds = 0.0
        self.unfinished: set[Work] = set()
        self.measured_by: dict[int, tuple[str, ...]] = {}
        self.losses: dict[Work, int] = {}
        self.calibrated = set(calibrated)
        self.open_calibrations: list[int] = []  # replicates of the common cases that no host has taken
        self.replicates = max(replicates, default=0)
        self.next_calibration = self.replicates
        done = frozenset(finished)
        for case, count in enumerate(replicates):
            for replicate in range(count):
                if (case, replicate) not in done:
                    self.unfinished.add((case, replicate))
                    if case not in self.common:
                        self._wait(case, replicate)
        self.open_calibrations = sorted({replicate for case, replicate in self.unfinished if case in self.common}, reverse=True)
        self.next_calibration = max([self.replicates, *(replicate + 1 for _, replicate in done)])

    @property
    def done(self) -> bool:
        return not self.unfinished

    def join(self, name: str, host: str) -> None:
        """A machine is there, and idle."""
        machine = self.machines[name] = Machine(host, self)
        if self.common and host not in self.calibrated and (self.open_calibrations or self.unfinished):
            self.calibrated.add(host)
            if self.open_calibrations:
                machine.calibration = self.open_calibrations.pop()
            else:
                machine.calibration, self.next_calibration = self.next_calibration, self.next_calibration + 1
                self.unfinished |= {(case, machine.calibration) for case in self.common}

    def next(self, name: str) -> Share | None:
        """The next share of an idle machine, or None where there is none for it now."""
        machine = self.machines[name]
        if machine.share is not None:
            raise ValueError(f"{name} has one measuring slot, and a share in it")
        if machine.calibration is not None:
            share = self._common_in(machine.calibration)
        else:
            share = self._fill(machine.host) or self._left_over()
        if share is not None:
            machine.share, machine.todo = share, set(share.cases)
            for case in share.cases:
                if machine.host not in self.measured_by.get(case, ()):
                    self.measured_by[case] = (*self.measured_by.get(case, ()), machine.host)
        return share

    def finish(self, name: str, case: int) -> None:
        """A case of the machine's share is measured and stored."""
        machine = self.machines[name]
        assert machine.share is not None
        machine.todo.discard(case)
        self.unfinished.discard((case, machine.share.replicate))

    def end(self, name: str) -> None:
        """The machine has measured all of its share. Raises `ValueError` where something of it is not finished."""
        machine = self.machines[name]
        if machine.todo:
            raise ValueError(f"{name} ended its share without {len(machine.todo)} of its cases")
        machine.share = machine.calibration = None

    def lose(self, name: str) -> list[Work]:
        """The machine is gone; what it has not finished waits for another one.

        Returns: what has been lost so often that it is given up.
        """
        machine = self.machines.pop(name)
        given_up: list[Work] = []
        share = machine.share or (None if machine.calibration is None else self._common_in(machine.calibration))
        if machine.calibration is not None:
            self.calibrated.discard(machine.host)
        if share is None:
            return given_up
        todo = machine.todo if machine.share is not None else set(share.cases)
        for case in todo:
            work = case, share.replicate
            if machine.share is not None:
                self.losses[work] = self.losses.get(work, 0) + 1
                self.measured_by[case] = tuple(host for host in self.measured_by.get(case, ()) if host != machine.host)
            if self.losses.get(work, 0) >= LOSSES_IN_COMPANY + LOSSES_ALONE:
                self.unfinished.discard(work)
                given_up.append(work)
            elif machine.calibration is not None and share.replicate >= self.replicates:
                self.unfinished.discard(work)  # of this host alone
            elif case not in self.common:
                self._wait(case, share.replicate)
        if any((case, share.replicate) in self.unfinished and case in self.common for case in todo):
            self.open_calibrations.append(share.replicate)
        return given_up

    def give_up(self) -> list[Work]:
        """No machine of this fingerprint is left, or will come: what was not measured."""
        left, self.unfinished, self.waiting, self.open_calibrations = sorted(self.unfinished), set(), {}, []
        self.waiting_seconds = 0.0
        return left

    def _wait(self, case: int, replicate: int) -> None:
        heapq.heappush(self.waiting.setdefault(replicate, []), (-self.seconds[case], case))
        self.waiting_seconds += self.seconds[case]

    def _common_in(self, replicate: int) -> Share | None:
        cases = tuple(sorted(case for case in self.common if (case, replicate) in self.unfinished))
        return Share(cases, replicate) if cases else None

    def _left_over(self) -> Share | None:
        """Common cases in a replicate that waits for another host, once nothing else is to be had."""
        return self._common_in(self.open_calibrations.pop()) if self.open_calibrations else None

    def _fill(self, host: str) -> Share | None:
        """Cases of one replicate, longest first, up to a part of what waits (guided self-scheduling: shares shrink with it)."""
        hosts = len({machine.host for machine in self.machines.values()})
        limit = max(SHARE_SECONDS, self.waiting_seconds / (2 * len(self.machines)))
        for replicate in sorted(self.waiting, key=lambda number: (-len(self.waiting[number]), number)):
            heap, taken = self.waiting[replicate], list[int]()
            passed = self._take(heap, taken, replicate, host, hosts, limit)
            if not taken and heap:  # the longest are another host's turn; among the others there may be some for this one
                heap[:], free = _apart(heap, lambda entry: self._is_for(entry[1], host, hosts))
                heapq.heapify(free)
                heap += self._take(free, taken, replicate, host, hosts, limit) + free
                heapq.heapify(heap)
            for entry in passed:
                heapq.heappush(heap, entry)
            if not heap:
                del self.waiting[replicate]
            if taken:
                self.waiting_seconds -= sum(self.seconds[case] for case in taken)
                return Share(tuple(taken), replicate)
        return None

    def _take(
        self, heap: list[tuple[float, int]], taken: list[int], replicate: int, host: str, hosts: int, limit: float
    ) -> list[tuple[float, int]]:
        """Move cases from the heap to `taken`, up to so many seconds. Returns those that were passed over."""
        passed: list[tuple[float, int]] = []
        total = 0.0
        while heap and len(passed) < (SCANNED_MORE if taken else SCANNED):
            entry = heapq.heappop(heap)
            case, seconds = entry[1], self.seconds[entry[1]]
            alone = self.losses.get((case, replicate), 0) >= LOSSES_IN_COMPANY
            if not self._is_for(case, host, hosts) or (taken and (alone or total + seconds > limit)):
                passed.append(entry)
                continue
            taken.append(case)
            total += seconds
            if alone:
                break
        return passed

    def _is_for(self, case: int, host: str, hosts: int) -> bool:
        """Whether the host may measure the case now: not again while there is a host that has not measured it."""
        by = self.measured_by.get(case, ())
        return host not in by or len(by) >= hosts


def _apart(
    entries: list[tuple[float, int]], is_free: Callable[[tuple[float, int]], bool]
) -> tuple[list[tuple[float, int]], list[tuple[float, int]]]:
    free = [is_free(entry) for entry in entries]
    return (
        [entry for entry, its in zip(entries, free, strict=True) if not its],
        [entry for entry, its in zip(entries, free, strict=True) if its],
    )


class Scheduler:
    """All series of a fleet.

    Args:
        seconds, replicates: of each case, as of `Series`.
        common: cases that every host of a series measures; chosen among the shortest if None.
    """

    def __init__(self, seconds: Sequence[float], replicates: Sequence[int], common: Sequence[int] | None = None) -> None:
        self.seconds, self.replicates = seconds, replicates
        self.common = shortest(seconds, replicates) if common is None else common
        self.series: dict[str, Series] = {}
        self.of: dict[str, Series] = {}  # by machine

    def open(self, fingerprint: str, finished: Collection[Work] = (), calibrated: Iterable[str] = ()) -> Series:
        """The series of a fingerprint, made where there is none yet; the rest is what an earlier part of the run has done."""
        if fingerprint not in self.series:
            self.series[fingerprint] = Series(self.seconds, self.replicates, self.common, finished, calibrated)
        return self.series[fingerprint]

    def join(self, name: str, fingerprint: str, host: str) -> None:
        """A machine is there. Raises `ValueError` for a name that is there already."""
        if name in self.of:
            raise ValueError(f"{name} is in the fleet already")
        self.of[name] = self.open(fingerprint)
        self.of[name].join(name, host)

    def next(self, name: str) -> Share | None:
        return self.of[name].next(name)

    def finish(self, name: str, case: int) -> None:
        self.of[name].finish(name, case)

    def end(self, name: str) -> None:
        self.of[name].end(name)

    def lose(self, name: str) -> list[Work]:
        return self.of.pop(name).lose(name)

    @property
    def done(self) -> bool:
        """Whether every series has measured, or given up, everything."""
        return bool(self.series) and all(series.done for series in self.series.values())


def shortest(seconds: Sequence[float], replicates: Sequence[int]) -> list[int]:
    """The cases that every host measures: some of the shortest that are measured in every replicate."""
    often = max(replicates, default=0)
    able = [case for case, count in enumerate(replicates) if count == often and count]
    count = min(CALIBRATION_MOST, -(-len(able) // CALIBRATION_PART))
    return sorted(able, key=lambda case: (seconds[case], case))[:count]
