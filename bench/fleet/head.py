"""The head of a fleet: which machines belong to it, what each measures next, and the records, each stored once.

Knows no Ray: a driver tells it of machines and records (see `bench.fleet.cluster`). A case counts as finished when the outcomes
of all its backends are here, and is stored then, so that no case is ever put together from two machines.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from bench.fleet.scheduler import Scheduler, Work
from bench.fleet.share import HOST, difference, expected, own_backends, seconds_of, software
from bench.harness.case import Case
from bench.harness.plan import Plan
from bench.harness.study import Study
from bench.machine import environment
from bench.processes.response import Observed, Subject, WorkerResponse, build_record
from lstm_bench.errors import UserError
from results import store
from results.record import Footer, Header, Record, decode, encode

LOCAL = "one machine, several nodes: they share its one measuring slot and take turns; for tests, no faster than by hand"


class FleetError(UserError, RuntimeError):
    """A fleet cannot measure; the message says why and what to do."""


class Refused(FleetError):
    """A machine that does not fit the fleet; the message names the difference."""


class Listener(Protocol):
    """As of `bench.harness.run`."""

    def on_planned(self, study: str, records: int) -> None: ...
    def on_status(self, text: str) -> None: ...
    def on_records(self, records: Sequence[Record]) -> None: ...


class Asked(NamedTuple):
    """A case of the plan."""

    study: Study
    case: Case


class Order(NamedTuple):
    """What a machine is told to do: the arguments of `Machine.measure`."""

    plan: dict[str, Any]
    share: list[tuple[str, str]]
    number: int
    known: list[str]

    @property
    def method(self) -> str:
        """Of the machine."""
        return "measure"


def require_alike(name: str, there: dict[str, Any], here: dict[str, Any], of_its_kind: dict[str, Any] | None) -> None:
    """Raise `Refused` where a machine's software is not the head's, or not that of others of its fingerprint."""
    if unlike := difference(here, there, builds=False):
        raise Refused(f"{name} has {unlike}: measure with the same code and packages everywhere")
    if of_its_kind is not None and (unlike := difference(of_its_kind, there, builds=True)):
        raise Refused(f"{name} has {unlike}, as others of its fingerprint have: install the same build on all of them")


@dataclass(slots=True)
class SeriesRun:
    """The run of one fingerprint: its file, and what is in it."""

    header: Header
    plan: Plan
    writer: store.Writer
    software: dict[str, Any]
    stored: set[tuple[str, str, str, int]] = field(default_factory=set)
    hosts: list[str] = field(default_factory=list)
    common: dict[str, list[Record]] = field(default_factory=dict)  # peaks and overhead, by host
    busy: float = 0.0
    empty_since: float | None = None  # since when it has no machine
    given_up: int = 0


class Head:
    """Carries out a plan on the machines that join.

    Args:
        plan: what to measure; its threads are those of each machine, at most.
        root: folder of runs.
        listener: told what is stored.
        local: all nodes are on one host.
        clock: seconds, of any beginning.
    """

    def __init__(
        self, plan: Plan, root: Path, listener: Listener, *, local: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.plan, self.root, self.listener, self.local, self.clock = plan, root, listener, local, clock
        self.address = "auto"  # to measure again by: of a cluster no address is kept
        described = environment.describe(plan.threads)
        self.software, self.git = software(described, own_backends()), described["git"]
        self.id = uuid.uuid4().hex[:8]
        self.started, self.began = datetime.now(UTC), clock()
        self.asked = [Asked(its, case) for its in plan.studies for case in plan.cases(its)]
        self.place = {(its.name, case.key): number for number, (its, case) in enumerate(self.asked)}
        self.expected: dict[Work, set[tuple[str, int]]] = {}
        for number, (its, case) in enumerate(self.asked):
            for replicate in range(plan.replicates):
                if wanted := expected(plan, its, case, replicate):
                    self.expected[number, replicate] = wanted
        counts = [sum((number, replicate) in self.expected for replicate in range(plan.replicates))
                  for number in range(len(self.asked))]  # fmt: skip
        self.scheduler = Scheduler([seconds_of(plan, its, case) for its, case in self.asked], counts)
        self.runs: dict[str, SeriesRun] = {}
        self.of: dict[str, SeriesRun] = {}  # by machine
        self.host: dict[str, str] = {}
        self.arriving: dict[str, dict[int, dict[tuple[str, int], Record]]] = {}  # machine, case: outcomes so far
        self.joined = 0  # machines, ever

    # Machines.

    def join(self, name: str, introduced: dict[str, Any]) -> None:
        """A machine has introduced itself (see `Machine.introduce`). Raises `Refused`."""
        described, host = introduced["environment"], introduced["host"]
        there = introduced["software"]
        run = self.runs.get(introduced["fingerprint"])
        require_alike(name, there, self.software, None if run is None else run.software)
        if run is None:
            run = self._open(introduced["fingerprint"], introduced["machine"], described, there, introduced["threads"])
        if host not in run.hosts:
            run.hosts.append(host)
        run.empty_since = None
        self.of[name], self.host[name], self.arriving[name] = run, host, {}
        self.scheduler.join(name, introduced["fingerprint"], host)
        self.joined += 1

    def next(self, name: str) -> Order | None:
        """What an idle machine is to measure; None where there is nothing for it now."""
        share = self.scheduler.next(name)
        if share is None:
            return None
        run = self.of[name]
        cases = [(self.asked[number].study.name, self.asked[number].case.key) for number in share.cases]
        known = [encode(replace(record, replicate=0)) for record in run.common.get(self.host[name], ())]
        return Order(run.plan.to_dict(), cases, share.replicate, known)

    def hear(self, name: str, kind: str, value: Any) -> None:
        """What a machine hands out (see `bench.fleet.machine.Event`)."""
        if kind == "records":
            self.records(name, value)
        elif kind == "measured":
            self.measured(name, value)

    def records(self, name: str, lines: Iterable[str]) -> None:
        """Outcomes that a machine has made, as lines of JSON."""
        run = self.of[name]
        for record in map(decode, lines):
            assert isinstance(record, Record)
            if record.study not in self.plan.study_names:
                self._store_common(run, name, record)
                continue
            share = self.scheduler.of[name].machines[name].share
            number = self.place[record.study, record.case]
            assert share is not None and number in share.cases
            if number not in self.scheduler.of[name].machines[name].todo:
                continue
            record = replace(record, replicate=record.replicate + share.replicate)
            arrived = self.arriving[name].setdefault(number, {})
            arrived[record.backend, record.replicate] = record
            # A replicate beyond the plan's is one of the calibration, and asks for what the last of them does.
            wanted = expected(run.plan, *self.asked[number], share.replicate)
            if wanted <= arrived.keys():
                self._store(run, [arrived[key] for key in sorted(arrived)])
                self.scheduler.finish(name, number)
                del self.arriving[name][number]

    def ended(self, name: str) -> None:
        """A machine has measured all of its share."""
        self.scheduler.end(name)
        self.arriving[name] = {}

    def measured(self, name: str, seconds: float) -> None:
        """What a machine's warm-up and samples of a share took."""
        self.of[name].busy += seconds

    def lost(self, name: str) -> None:
        """A machine is gone; what it has not finished waits for another one of its fingerprint."""
        run = self.of.pop(name)
        del self.host[name], self.arriving[name]
        self._not_measured(run, self.scheduler.lose(name), "its machines were lost one after the other while they measured it")
        if run not in self.of.values():
            run.empty_since = self.clock()

    def give_up_after(self, seconds: float) -> None:
        """Record as not measured what belongs to a fingerprint that has had no machine for so long.

        Not where no machine has joined at all: then it is the fleet that is wrong, and the run stays to be finished.
        """
        if not self.joined:
            return
        for fingerprint_, run in self.runs.items():
            if run.empty_since is not None and self.clock() - run.empty_since >= seconds:
                left = self.scheduler.series[fingerprint_].give_up()
                self._not_measured(run, left, "no machine of this fingerprint was left in the fleet")
                run.empty_since = None

    @property
    def done(self) -> bool:
        """Whether everything is measured, or given up, on every fingerprint that joined."""
        return self.scheduler.done

    # Records.

    def _open(
        self, key: str, machine: str, described: dict[str, Any], there: dict[str, Any], threads: int
    ) -> SeriesRun:  # fmt: skip
        plan = replace(self.plan, threads=threads)
        fleet = {"id": self.id, "fingerprint": key, "address": self.address, "backends": there["backends"]}
        fleet |= {"remark": LOCAL} if self.local else {}
        header = Header(
            run=f"{self.started:%H%M%S}-{plan.name}-fleet",
            started=self.started.isoformat(timespec="seconds"),
            protocol=there["protocol"],
            machine=machine,
            # The machine has the code alone, by the same hash; which commit that is is known here.
            environment=described | {"host": f"fleet-{self.id}", "git": self.git, "fleet": fleet},
            plan=plan.to_dict(),
            claims=tuple(replace(claim, study=its.name) for its in plan.studies if plan.cases(its) for claim in its.claims),
        )
        run = self.runs[key] = SeriesRun(header, plan, store.create(self.root, header), there)
        self.scheduler.open(key)
        self._announce(run)
        return run

    def _announce(self, run: SeriesRun) -> None:
        for (number, _), wanted in self.expected.items():
            self.listener.on_planned(self.asked[number].study.name, len(self._tasks(number, wanted) - run.stored))

    def _tasks(self, number: int, outcomes: Iterable[tuple[str, int]]) -> set[tuple[str, str, str, int]]:
        its, case = self.asked[number]
        return {(its.name, case.key, *outcome) for outcome in outcomes}

    def _store(self, run: SeriesRun, records: Sequence[Record]) -> None:
        new = [record for record in records if record.task not in run.stored]
        if not new:
            return
        run.writer.append(*new)
        run.stored |= {record.task for record in new}
        self.listener.on_records(new)

    def _store_common(self, run: SeriesRun, name: str, record: Record) -> None:
        """Peaks and overhead, whose replicate is the host's number."""
        host = self.host[name]
        record = replace(record, replicate=run.hosts.index(host))
        if record.task not in run.stored:
            run.common.setdefault(host, []).append(record)
            self._store(run, [record])

    def _not_measured(self, run: SeriesRun, given_up: Iterable[Work], reason: str) -> None:
        for number, replicate in given_up:
            its, case = self.asked[number]
            run.given_up += 1
            wanted = expected(run.plan, its, case, replicate)
            response = WorkerResponse.not_measured(reason)
            observed = Observed({}, time.time(), 0.0)
            self._store(run, [
                build_record(Subject.of_case(its.name, case, backend, its_replicate), response, observed)
                for backend, its_replicate in sorted(wanted)
            ])  # fmt: skip

    def close(self, note: str = "") -> list[tuple[Path, Footer]]:
        """End the runs. note: why before they were complete; "" where they are, if they are."""
        ended = []
        for key, run in self.runs.items():
            complete = self.scheduler.series[key].done
            said = note if not complete else f"{run.given_up} cases not measured" if run.given_up else ""
            now = datetime.now(UTC).isoformat(timespec="seconds")
            footer = Footer(now, complete, self.clock() - self.began, run.busy, said)
            if complete or run.stored:
                run.writer.append(footer)
            run.writer.close()
            ended.append((run.writer.path, footer))
        return ended

    # Going on after an interruption.

    def resume(self) -> list[Path]:
        """Go on with the newest unfinished fleet run of this plan below the folder. Returns its files; raises `FleetError`."""
        fleets = {path: fleet for path in reversed(store.find(self.root)) if (fleet := _fleet_of(store.read_header(path)))}
        newest = next((fleet["id"] for path, fleet in fleets.items() if not store.read(path).finished), None)
        if newest is None:
            raise FleetError(f"no unfinished run of a fleet below {self.root}; start one without --resume")
        paths = [path for path, fleet in fleets.items() if fleet["id"] == newest]
        for path in paths:
            self._reopen(store.read(path), fleets[path]["fingerprint"])
        self.id = newest
        return paths

    def _reopen(self, run: store.Run, key: str) -> None:
        plan = Plan.from_dict(run.header.plan)
        if replace(plan, threads=self.plan.threads) != self.plan:
            raise FleetError(
                f"{run.path} was begun with another plan; ask for the same suite, backends and cases, or start anew"
            )
        there = software(run.header.environment, _fleet_of(run.header).get("backends", {}), run.header.protocol)
        if unlike := difference(there, self.software, builds=False):
            raise FleetError(
                f"{run.path} was begun with other software, this has {unlike}: their numbers do not compare; start anew"
            )
        reopened = SeriesRun(run.header, plan, store.Writer(run.path), there, {record.task for record in run.records})
        reopened.empty_since = self.clock()
        calibrated, beyond = set[str](), set[Work]()
        for record in run.records:
            host = record.conditions.get(HOST, "")
            if host and host not in reopened.hosts:
                reopened.hosts.append(host)
            if record.study not in self.plan.study_names:
                reopened.common.setdefault(host, []).append(record)
            elif (number := self.place[record.study, record.case]) in self.scheduler.common:
                calibrated.add(host)
                beyond.add((number, record.replicate))
        finished = {work for work, wanted in self.expected.items() if self._tasks(work[0], wanted) <= reopened.stored}
        self.runs[key] = reopened
        self.scheduler.open(key, finished | {work for work in beyond if work[1] >= self.plan.replicates}, calibrated)
        self._announce(reopened)


def _fleet_of(header: Header | None) -> dict[str, Any]:
    return {} if header is None else header.environment.get("fleet", {})
