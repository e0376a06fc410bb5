"""From a plan to records: replicates of fresh workers, cases in turns, every outcome on disk as soon as it exists."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from bench import costs
from bench.gpu_check.groups import GROUPS, register_emulated_backend
from bench.harness import check_groups, standalone, study
from bench.harness.case import Case
from bench.harness.plan import MACHINE, Plan, Task
from bench.harness.study import RunPaths
from bench.machine import system
from bench.machine.conditions import Watch
from bench.machine.lock import device_lock
from bench.processes import scratch, turns
from bench.processes.code import HERE, Code
from bench.processes.turns import Reply, Workers, outcome
from bench.worker import prepare
from bench.worker.prepare import NULL
from impls import LSTMSpec
from results.record import Footer, Record
from results.store import Writer

CEILINGS_SECONDS = 120.0
OVERHEAD_CASE = Case(LSTMSpec(8, 8), 1, 1)  # the null backend does the same nothing at any size


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run; what it had measured is kept at `path`."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"interrupted: {path}")
        self.path = path


class Listener(Protocol):
    """Hears what a run is doing; see `lstm_bench.views.progress`."""

    def expect(self, study: str, records: int) -> None:
        """So many more records of this study will come (fewer, if negative)."""

    def doing(self, text: str) -> None:
        """What is running now, and its running result."""

    def recorded(self, records: Sequence[Record]) -> None:
        """These outcomes of one case are on disk."""


@dataclass(slots=True)
class Run:
    """Carries out a plan. `finished` holds the records a resumed run already has; none of their tasks is run again."""

    plan: Plan
    writer: Writer
    listener: Listener
    finished: Sequence[Record] = ()
    records: dict[tuple[str, str, str, int], Record] = field(default_factory=dict)
    out: set[tuple[str, str, str]] = field(default_factory=set)  # (study, case, backend) not to be asked again
    busy_seconds: float = 0.0
    warm_up_seconds: float = 0.0
    preparing: dict[str, float] = field(default_factory=dict)  # seconds that each backend's last case took to load and call
    started: float = 0.0
    code: Code = HERE
    corpus: Path | None = None

    @property
    def cpus(self) -> tuple[int, ...]:
        return system.usable()[: self.plan.threads]

    @property
    def checkpoints(self) -> Path:
        """Beside the run's file, until the run is finished."""
        return self.writer.path.with_suffix(".checkpoints")

    def execute(self) -> Footer:
        """Run what is left of the plan and append the footer. Ctrl-C is recorded and passed on."""
        self.started = time.monotonic()
        if self.plan.emulated:
            register_emulated_backend()
        for record in self.finished:
            self._remember(record)
        self._announce()
        complete, note = False, "ended by an error"
        try:
            with device_lock(self.plan.device, inner=True), scratch.folder() as cache:
                note = self._all(cache)
                complete = True
                shutil.rmtree(self.checkpoints, ignore_errors=True)
        except KeyboardInterrupt:
            note = "interrupted"
            raise
        finally:
            footer = Footer(_now(), complete, time.monotonic() - self.started, self.busy_seconds, note, self.warm_up_seconds)
            if complete or self.records:
                self.writer.append(footer)
        return footer

    def _all(self, cache: Path) -> str:
        self._measure_items(cache, first=True)
        self._measure_machine(cache)
        self._measure_overhead(cache)
        note = self._replicates(cache)
        if self.plan.items:
            self._write_down_what_did_not_fit()
        self._measure_items(cache, first=False)
        return note

    def _measure_items(self, cache: Path, first: bool) -> None:
        """The GPU items that come before the cases (`first`), or those that come after them."""
        ends = None if self.plan.time_budget is None else self.started + self.plan.time_budget
        found = check_groups.Items(
            self.plan.emulated, ends, self.cpus, cache, self.code, self._is_finished, self.listener.doing
        )
        measured = found.measure([name for name in self.plan.items if GROUPS[name].first == first])
        with contextlib.closing(measured):
            for record in measured:
                self._record(record)

    @property
    def _marks(self) -> dict[str, str]:
        """What the provenance of every record of this run says."""
        return {"emulated": "true"} if self.plan.emulated else {}

    def _is_finished(self, study_name: str, key: str) -> bool:
        return any((study_name, key, backend, 0) in self.records for backend in (check_groups.PROBE, check_groups.EMULATION))

    def _write_down_what_did_not_fit(self) -> None:
        """A record for every case and backend that was asked for and not reached."""
        spent = (
            "not measured: the time of the grid was spent before its turn; without a limit: lstm-bench gpu-check --item grid"
        )
        for task in self.plan.replicate(0):
            of = {"status": "skipped", "reason": spent}, {}, time.time(), 0.0, self._marks
            self._record(*(_of_task(task, name, *of) for name in self._wanted(task)))

    def _replicates(self, cache: Path) -> str:
        spent = "time budget spent before every case had its replicates"
        for number in range(self.plan.replicates):
            begin = self.plan.begins_with(number)
            for tasks in self.plan.stages(number):
                if not self._replicate(tasks, cache, begin):
                    return spent
                begin = []
            if number == 0 and not self._alone(cache):
                return spent
        while self.plan.time_budget is not None and not self.plan.items:
            number = 1 + max(record.replicate for record in self._of_studies())
            per_case = self._seconds_per_case()
            left = self._seconds_left()
            count = int(left / per_case) if per_case else 0
            if not count:
                return "time budget spent"
            chosen = turns.widest(self.records.values(), count)
            tasks = list(self.plan.replicate(number, only=chosen))
            for task in tasks:
                self.listener.expect(task.study, len(self._wanted(task)))
            if not tasks or not self._replicate(tasks, cache):
                return "time budget spent"
        return ""

    def _replicate(self, tasks: Sequence[Task], cache: Path, begin: Sequence[Task] = ()) -> bool:
        """One replicate in fresh workers, which are asked first what it begins with. Workers of a group live side by side and
        take turns. False if out of time."""
        groups = self.plan.groups(tasks[0].replicate if tasks else 0)
        for number, group in enumerate(groups):
            # Under a limit each gets an equal part of what is left, lest one that compiles for minutes take it all.
            until = self._seconds_left() * (1 - 1 / (len(groups) - number)) if self.plan.items else 0.0
            with Workers(self.cpus, cache, self.code) as workers:
                asked = {
                    name
                    for task in (*begin, *tasks)
                    for name in self._wanted(task)
                    if not prepare.static_unsupported_reason(task.case, name)
                }
                workers.start(asked & set(group))
                for task in begin:
                    if wanted := [name for name in self._wanted(task) if name in group]:
                        self._begin(task, wanted, workers)
                for task in tasks:
                    wanted = [name for name in self._wanted(task) if name in group]
                    if not wanted:
                        continue
                    if self._seconds_left() <= 0:
                        return False
                    if self._seconds_left() <= until < float("inf"):
                        break
                    self._take_turns(task, wanted, workers)
        return True

    def _begin(self, task: Task, wanted: Sequence[str], workers: Workers) -> None:
        """What a study measures by itself, in workers that have run nothing yet."""
        started, clock = time.time(), time.monotonic()
        self.listener.doing(f"{task.study}  {task.case.key}")
        replies = _refused(task, wanted)
        ready, unready = workers.get([name for name in wanted if name not in replies])
        replies |= unready
        with Watch(task.case.spec.device) as conditions:
            replies |= turns.ask_alone(ready, task.study, task.case.to_dict(), standalone.TIMEOUT_SECONDS)
        self._finish(task, wanted, replies, workers, conditions, started, time.monotonic() - clock)

    def _take_turns(self, task: Task, wanted: Sequence[str], workers: Workers) -> None:
        """Time the case on all its backends in rounds; on a GPU that cannot hold them all at once, some after the others."""
        on_gpu = task.case.spec.device == "cuda"
        together = costs.at_once(task.case, len(wanted)) if on_gpu else len(wanted)
        for first in range(0, len(wanted), together):
            self._time(task, wanted[first : first + together], workers)

    def _time(self, task: Task, wanted: Sequence[str], workers: Workers) -> None:
        def watch(text: str) -> None:
            self.listener.doing(f"replicate {task.replicate + 1}  {task.case.key}  {text}")

        started, clock = time.time(), time.monotonic()
        replies = _refused(task, wanted)
        ready, unready = workers.get([name for name in wanted if name not in replies])
        replies |= unready
        with Watch(task.case.spec.device) as conditions:
            first = task.replicate == 0
            limit = min(turns.PREPARE_SECONDS, max(1.0, self._seconds_left())) if self.plan.items else None
            slowest = sorted(ready.keys() & self.preparing.keys(), key=lambda name: -self.preparing[name])
            replies |= turns.measure(
                ready, task.case.to_dict(), self.plan.pace, first, watch, turns.PREPARED_AT_ONCE if first else 1, slowest, limit
            )
        for name in replies:
            if "load_seconds" in replies[name]:
                self.preparing[name] = replies[name]["load_seconds"] + replies[name]["first_call_seconds"]
        self._finish(task, wanted, replies, workers, conditions, started, time.monotonic() - clock)

    def _finish(
        self, task: Task, wanted: Sequence[str], replies: dict[str, Reply], workers: Workers, conditions: Watch,
        started: float, seconds: float,
    ) -> None:  # fmt: skip
        """Record the replies about one case; a worker that died is replaced when it is next needed."""
        for backend, reply in replies.items():
            if reply.get("died"):
                workers.drop(backend)
            self.busy_seconds += reply.get("busy_seconds", 0.0)
            self.warm_up_seconds += reply.get("warm_up_seconds", 0.0)
        invalid = conditions.invalid()
        for backend in wanted:
            if invalid and replies[backend]["status"] == "ok":
                replies[backend] = {"status": "failed", "kind": "unstable", "reason": invalid}
        of = conditions.summary, started, seconds / len(wanted), self._marks
        self._record(*(_of_task(task, name, replies[name], *of) for name in wanted))

    def _alone(self, cache: Path) -> bool:
        """Studies that measure by themselves, but for what later replicates begin with. False if out of time."""
        jobs, later = [], [task for number in range(self.plan.replicates) for task in self.plan.begins_with(number)]
        # Asked before anything is recorded: a refusal of the first time must not take the others off the count.
        for task, wanted in [(task, self._wanted(task)) for task in self.plan.alone() if task not in later]:
            refused = _refused(task, wanted)
            self._record(*(_of_task(task, name, reply, {}, time.time(), 0.0, self._marks) for name, reply in refused.items()))
            jobs += [(task, name) for name in wanted if name not in refused]
        # On a CPU side by side, a processor each; GPU memory is counted for the whole device, so one at a time.
        slots = [(cpu,) for cpu in self.cpus] if self.plan.device == "cpu" else [self.cpus]
        self.listener.doing("each case in a process of its own")
        outcomes = standalone.measure(jobs, slots, cache, self.code, RunPaths(self.corpus, self.checkpoints))
        with contextlib.closing(outcomes):
            for one in outcomes:
                self._record(_of_task(*one, self._marks))
                if self._seconds_left() <= 0:
                    return False
        return True

    def _measure_machine(self, cache: Path) -> None:
        for dtype in () if self.plan.emulated else self.plan.dtypes():
            key = f"{dtype}-{self.plan.device}"
            if ("ceilings", key, MACHINE, 0) in self.records:
                continue
            self.listener.doing(f"ceilings of this machine, {dtype}")
            arguments: dict[str, Any] = {"device": self.plan.device, "dtype": dtype}
            started, clock = time.time(), time.monotonic()
            reply = standalone.ask_once(MACHINE, self.cpus, cache, "ceilings", CEILINGS_SECONDS, set(), **arguments)
            seconds = time.monotonic() - clock
            self._record(outcome("ceilings", key, MACHINE, 0, arguments, {}, reply, {}, started, seconds, self._marks))

    def _measure_overhead(self, cache: Path) -> None:
        task = Task("overhead", OVERHEAD_CASE, (NULL,), 0)
        if (task.study, task.case.key, NULL, 0) in self.records:
            return
        with Workers(self.cpus, cache, self.code) as workers:
            self._take_turns(task, [NULL], workers)

    def _wanted(self, task: Task) -> list[str]:
        """The task's backends that have neither done it nor failed or refused the same case before."""
        return [
            backend
            for backend in task.backends
            if (task.study, task.case.key, backend, task.replicate) not in self.records
            and (task.study, task.case.key, backend) not in self.out
        ]

    def _record(self, *records: Record) -> None:
        """Put the outcomes of one case on disk together: a kill leaves all of them or none."""
        if not records:
            return
        self.writer.append(*records)
        for record in records:
            self._remember(record)
            if record.status != "ok" and record.study in self.plan.studies and not _measured_alone(record):
                self.listener.expect(record.study, record.replicate + 1 - self.plan.replicates)
        self.listener.recorded(records)

    def _remember(self, record: Record) -> None:
        self.records[record.task] = record
        if record.status != "ok":
            self.out.add((record.study, record.case, record.backend))

    def _announce(self) -> None:
        """Tell the listener what is still to come."""
        tasks = [task for number in range(self.plan.replicates) for task in self.plan.replicate(number)]
        for task in [*tasks, *self.plan.alone()]:
            self.listener.expect(task.study, len(self._wanted(task)))

    def _of_studies(self) -> list[Record]:
        """What was measured of the plan's studies, without ceilings and overhead."""
        return [record for record in self.records.values() if record.study in self.plan.studies]

    def _seconds_left(self) -> float:
        if self.plan.time_budget is None:
            return float("inf")
        return self.plan.time_budget - check_groups.reserved(self.plan.items) - (time.monotonic() - self.started)

    def _seconds_per_case(self) -> float:
        """What one case of one replicate costs, workers' start included, learnt from this run."""
        measured = self._of_studies()
        cases = {(record.study, record.case, record.replicate) for record in measured if record.status == "ok"}
        return sum(record.seconds for record in measured) / len(cases) if cases else 0.0


def _measured_alone(record: Record) -> bool:
    return study.get(record.study).measures_alone(Case.from_dict(record.parameters))


def _refused(task: Task, backends: Sequence[str]) -> dict[str, Reply]:
    """The backends that need not be started to know that they refuse the task."""
    reasons = {name: prepare.static_unsupported_reason(task.case, name) for name in backends if name != study.REFERENCE}
    return {name: {"status": "skipped", "reason": reason} for name, reason in reasons.items() if reason}


def _of_task(
    task: Task, backend: str, reply: Reply, conditions: dict[str, Any], started: float, seconds: float, marks: dict[str, str]
) -> Record:
    return outcome(
        task.study, task.case.key, backend, task.replicate, task.case.to_dict(), task.case.counts(),
        reply, conditions, started, seconds, marks,
    )  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
