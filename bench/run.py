"""From a plan to records: replicates of fresh workers, cases in turns, every outcome on disk as soon as it exists."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from bench import budget, turns
from bench.case import Case
from bench.conditions import Watch
from bench.lock import device_lock
from bench.plan import MACHINE, Plan, Task
from bench.prepare import NULL
from bench.process import WorkerFailed, WorkerProcess
from bench.workers import Workers
from bench.turns import Reply
from impls import LSTMSpec
from results.record import Footer, Measurement, Record, measurement_from_dict
from results.store import Writer

ALONE_SECONDS = 600.0
CEILINGS_SECONDS = 120.0
OVERHEAD_CASE = Case(LSTMSpec(8, 8), 1, 1)  # the null backend does the same nothing at any size


class Listener(Protocol):
    """Hears what a run is doing; see `lstm_bench.progress`."""

    def begin(self, total: int, done: int) -> None: ...
    def doing(self, text: str) -> None: ...
    def recorded(self, record: Record) -> None: ...
    def extend(self, tasks: int) -> None: ...


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
    started: float = 0.0

    def execute(self) -> Footer:
        """Run what is left of the plan and append the footer. Ctrl-C is recorded and passed on."""
        self.started = time.monotonic()
        for record in self.finished:
            self._remember(record)
        self.listener.begin(self._total(), len(self.records))
        complete, note = False, "ended by an error"
        try:
            with device_lock(self.plan.device), tempfile.TemporaryDirectory(prefix="lstm-bench-") as cache:
                note = self._all(Path(cache))
                complete = True
        except KeyboardInterrupt:
            note = "interrupted"
            raise
        finally:
            footer = Footer(_now(), complete, time.monotonic() - self.started, self.busy_seconds, note)
            if complete or self.records:
                self.writer.append(footer)
        return footer

    def _all(self, cache: Path) -> str:
        self._measure_machine(cache)
        self._measure_overhead(cache)
        for number in range(self.plan.replicates):
            if not self._replicate(list(self.plan.replicate(number)), cache):
                return "time budget spent before every case had its replicates"
            if number == 0 and not self._alone(cache):
                return "time budget spent before every case had its replicates"
        while self.plan.time_budget is not None:
            number = 1 + max(record.replicate for record in self.records.values())
            per_case = self._seconds_per_case()
            left = self._seconds_left()
            count = int(left / per_case) if per_case else 0
            if not count:
                return "time budget spent"
            chosen = budget.widest(self.records.values(), count)
            tasks = list(self.plan.replicate(number, only=chosen))
            self.listener.extend(sum(len(self._wanted(task)) for task in tasks))
            if not tasks or not self._replicate(tasks, cache):
                return "time budget spent"
        return ""

    def _replicate(self, tasks: Sequence[Task], cache: Path) -> bool:
        """One replicate in fresh workers. On a CPU all backends' workers live side by side and take turns;
        on a GPU one lives at a time, in an order that is reversed from replicate to replicate. False if out of time."""
        if self.plan.device == "cpu":
            groups: list[tuple[str, ...]] = [self.plan.compared()]
        else:
            groups = [(name,) for name in self.plan.compared()]
            if tasks and tasks[0].replicate % 2:
                groups.reverse()
        for group in groups:
            with Workers(self.plan.threads, cache) as workers:
                workers.start({name for task in tasks for name in self._wanted(task) if name in group})
                for task in tasks:
                    wanted = [name for name in self._wanted(task) if name in group]
                    if not wanted:
                        continue
                    if self._seconds_left() <= 0:
                        return False
                    self._take_turns(task, wanted, workers)
        return True

    def _take_turns(self, task: Task, wanted: Sequence[str], workers: Workers) -> None:
        def watch(text: str) -> None:
            self.listener.doing(f"replicate {task.replicate + 1}  {task.case.key}  {text}")

        started, clock = time.time(), time.monotonic()
        ready, replies = workers.get(wanted)
        with Watch(task.case.spec.device) as conditions:
            first = task.replicate == 0
            replies |= turns.measure(ready, task.case.to_dict(), self.plan.pace, first, watch)
        for backend, reply in replies.items():
            if reply.get("died"):
                workers.drop(backend)
            self.busy_seconds += reply.get("busy_seconds", 0.0)
        invalid = conditions.invalid()
        seconds = (time.monotonic() - clock) / len(wanted)
        for backend in wanted:
            reply = replies[backend]
            if invalid and reply["status"] == "ok":
                reply = {"status": "failed", "kind": "unstable", "reason": invalid}
            self._write(task, backend, reply, conditions.summary, started, seconds)

    def _alone(self, cache: Path) -> bool:
        """Studies that measure by themselves: a fresh worker for each case and backend."""
        for task in self.plan.alone():
            for backend in self._wanted(task):
                if self._seconds_left() <= 0:
                    return False
                self.listener.doing(f"{task.study}  {task.case.key}  {backend}")
                arguments = {"study_name": task.study, "case": task.case.to_dict()}
                started, clock = time.time(), time.monotonic()
                with Watch(task.case.spec.device) as conditions:
                    reply = self._ask_once(backend, cache, "alone", ALONE_SECONDS, **arguments)
                self._write(task, backend, reply, conditions.summary, started, time.monotonic() - clock)
        return True

    def _measure_machine(self, cache: Path) -> None:
        for dtype in self.plan.dtypes():
            key = f"{dtype}-{self.plan.device}"
            if ("ceilings", key, MACHINE, 0) in self.records:
                continue
            self.listener.doing(f"ceilings of this machine, {dtype}")
            arguments = {"device": self.plan.device, "dtype": dtype}
            started, clock = time.time(), time.monotonic()
            reply = self._ask_once(MACHINE, cache, "ceilings", CEILINGS_SECONDS, **arguments)
            self._record(
                _outcome("ceilings", key, MACHINE, 0, arguments, {}, reply, {}, started, time.monotonic() - clock)
            )

    def _measure_overhead(self, cache: Path) -> None:
        task = Task("overhead", OVERHEAD_CASE, (NULL,), 0)
        if (task.study, task.case.key, NULL, 0) in self.records:
            return
        with Workers(self.plan.threads, cache) as workers:
            self._take_turns(task, [NULL], workers)

    def _ask_once(self, backend: str, cache: Path, operation: str, timeout: float, /, **arguments: Any) -> Reply:
        worker = WorkerProcess(backend, self.plan.threads, cache)
        try:
            return worker.request(operation, timeout, **arguments)
        except WorkerFailed as failure:
            return {"status": "failed", "kind": failure.kind, "reason": str(failure)}
        finally:
            worker.close()

    def _wanted(self, task: Task) -> list[str]:
        """The task's backends that have neither done it nor failed or refused the same case before."""
        return [
            backend
            for backend in task.backends
            if (task.study, task.case.key, backend, task.replicate) not in self.records
            and (task.study, task.case.key, backend) not in self.out
        ]

    def _write(self, task: Task, backend: str, reply: Reply, conditions: dict[str, Any], started: float, seconds: float) -> None:
        record = _outcome(
            task.study, task.case.key, backend, task.replicate, task.case.to_dict(), task.case.counts(),
            reply, conditions, started, seconds,
        )  # fmt: skip
        self._record(record)

    def _record(self, record: Record) -> None:
        self.writer.append(record)
        self._remember(record)
        self.listener.recorded(record)

    def _remember(self, record: Record) -> None:
        self.records[record.task] = record
        if record.status != "ok":
            self.out.add((record.study, record.case, record.backend))

    def _total(self) -> int:
        tasks = [task for number in range(self.plan.replicates) for task in self.plan.replicate(number)]
        return sum(len(task.backends) for task in [*tasks, *self.plan.alone()]) + len(self.plan.dtypes()) + 1

    def _seconds_left(self) -> float:
        if self.plan.time_budget is None:
            return float("inf")
        return self.plan.time_budget - (time.monotonic() - self.started)

    def _seconds_per_case(self) -> float:
        """What one case of one replicate costs, workers' start included, learnt from this run."""
        measured = [record for record in self.records.values() if record.study not in ("ceilings", "overhead")]
        cases = {(record.study, record.case, record.replicate) for record in measured if record.status == "ok"}
        return sum(record.seconds for record in measured) / len(cases) if cases else 0.0


def _outcome(
    study: str, case: str, backend: str, replicate: int, parameters: dict[str, Any], counts: dict[str, int],
    reply: Reply, conditions: dict[str, Any], started: float, seconds: float,
) -> Record:  # fmt: skip
    measurements = [measurement_from_dict(item) for item in reply.get("measurements", ())]
    if replicate == 0 and "first_call_seconds" in reply and backend != NULL:
        measurements.append(Measurement("first_call", "s", (reply["first_call_seconds"],)))
    return Record(
        study=study, case=case, backend=backend, replicate=replicate, status=reply["status"], parameters=parameters,
        reason=reply.get("reason", ""), kind=reply.get("kind"), measurements=tuple(measurements), counts=dict(counts),
        provenance=reply.get("provenance", {}), conditions=conditions, started=started, seconds=seconds,
    )  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
