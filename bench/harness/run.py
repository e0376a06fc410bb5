"""From a plan to records: replicates of fresh workers, cases in rounds, every outcome on disk as soon as it exists."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import impls
from bench import costs
from bench.gpu_check.groups import EMULATION, GROUPS, PROBE, register_emulated_backend
from bench.harness import gpu_check, standalone, study
from bench.harness.case import Case
from bench.harness.plan import MACHINE, Plan, Task
from bench.harness.study import RunPaths, Study
from bench.harness.suites import Pace
from bench.machine import system
from bench.machine.conditions import Watch
from bench.machine.lock import device_lock
from bench.processes import rounds, scratch
from bench.processes.code import HERE, Code
from bench.processes.process import WorkerProcess
from bench.processes.response import Observed, Subject, WorkerResponse, build_record
from bench.processes.rounds import Responses, Seat, Workers
from bench.worker import prepare
from bench.worker.prepare import NULL
from impls import LSTMSpec
from results.record import Footer, Record
from results.store import Writer

PEAKS_SECONDS = 120.0
PEAKS = "ceilings"  # the study's name in the records of the machine's peaks
OVERHEAD = Study("what does the harness itself add to a call?", "", {}, name="overhead")
OVERHEAD_CASE = Case(LSTMSpec(8, 8), 1, 1)  # the null backend does the same nothing at any size


Part = tuple[str, str, str]  # of a replicate: study, case, backend
# From a run's file, the seconds left, and how many times as long as before it samples: what each further replicate is to
# measure, and the seconds that it should take.
ChooseMore = Callable[[Path, float, float], Sequence[tuple[Collection[Part], float]]]
FURTHER_ROUNDS = 4  # times those of the pace, since starting the processes takes 3 to 4 s whatever they sample
MOST_FURTHER = 0.4  # of the seconds of the fixed replicates, for further ones: a short run stays short


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run; what it had measured is kept at `path`."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"interrupted: {path}")
        self.path = path


class Listener(Protocol):
    """Hears what a run is doing; see `lstm_bench.views.progress`."""

    def on_planned(self, study: str, records: int) -> None:
        """So many more records of this study will come (fewer, if negative)."""

    def on_status(self, text: str) -> None:
        """What is running now, and its running result."""

    def on_records(self, records: Sequence[Record]) -> None:
        """These outcomes of one case are on disk."""


@dataclass(slots=True)
class Run:
    """Carries out a plan.

    Attributes:
        finished: the records a resumed run already has; none of their tasks is run again.
        excluded: (study, case, backend) not to be asked again, since it failed or was refused.
        preparing: seconds that each backend's last case took to load and to call once.
        started: monotonic time.
        choose_more: asked once, where the plan adds replicates where a ranking is open; none are added without it.
    """

    plan: Plan
    writer: Writer
    listener: Listener
    finished: Sequence[Record] = ()
    records: dict[tuple[str, str, str, int], Record] = field(default_factory=dict)
    excluded: set[tuple[str, str, str]] = field(default_factory=set)
    busy_seconds: float = 0.0
    warm_up_seconds: float = 0.0
    preparing: dict[str, float] = field(default_factory=dict)
    started: float = 0.0
    code: Code = HERE
    corpus: Path | None = None
    choose_more: ChooseMore | None = None

    @property
    def cpus(self) -> tuple[int, ...]:
        """The processors that workers may use."""
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
                note = self._measure_all(cache)
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

    def _measure_all(self, cache: Path) -> str:
        self._measure_check_groups(cache, first=True)
        self._measure_peaks(cache)
        self._measure_overhead(cache)
        note = self._measure_replicates(cache)
        if self.plan.items:
            self._record_unreached_cases()
        self._measure_check_groups(cache, first=False)
        return note

    def _measure_check_groups(self, cache: Path, first: bool) -> None:
        """The groups of `gpu-check` that come before the cases (`first`), or those that come after them."""
        ends = None if self.plan.time_budget is None else self.started + self.plan.time_budget
        groups = gpu_check.CheckGroups(
            self.plan.emulated, ends, self.cpus, cache, self.code, is_finished=self._is_finished,
            on_status=self.listener.on_status,
        )  # fmt: skip
        measured = groups.measure([name for name in self.plan.items if GROUPS[name].first == first])
        with contextlib.closing(measured):
            for record in measured:
                self._record(record)

    @property
    def _marks(self) -> dict[str, str]:
        """What the provenance of every record of this run says."""
        return {"emulated": "true"} if self.plan.emulated else {}

    def _is_finished(self, study_name: str, key: str) -> bool:
        return any((study_name, key, backend, 0) in self.records for backend in (PROBE, EMULATION))

    def _record_unreached_cases(self) -> None:
        """A record for every case and backend that was asked for and not reached."""
        unreached = WorkerResponse.not_measured(
            "the time of the grid was spent before its turn; without a limit: lstm-bench gpu-check --check grid"
        )
        for task in self.plan.replicate(0):
            self._record_responses(task, dict.fromkeys(self._pending_backends(task), unreached))

    def _measure_replicates(self, cache: Path) -> str:
        spent = "time budget spent before every case had its replicates"
        for number in range(self.plan.replicates):
            begin = self.plan.begins_with(number)
            for tasks in self.plan.stages(number):
                if not self._measure_replicate(tasks, cache, begin):
                    return spent
                begin = []
            if number == 0 and not self._measure_standalone(cache):
                return spent
        self._measure_open_rankings(cache)
        while self.plan.time_budget is not None and not self.plan.items:
            number = 1 + max(record.replicate for record in self._of_studies())
            per_case = self._seconds_per_case()
            left = self._seconds_left()
            count = int(left / per_case) if per_case else 0
            if not count:
                return "time budget spent"
            chosen = rounds.most_uncertain(self.records.values(), count)
            tasks = list(self.plan.replicate(number, only=chosen))
            for task in tasks:
                self.listener.on_planned(task.study.name, len(self._pending_backends(task)))
            if not tasks or not self._measure_replicate(tasks, cache):
                return "time budget spent"
        return ""

    def _measure_open_rankings(self, cache: Path) -> None:
        """Further replicates of the cases and backends whose ranking is open, chosen once, for the intervals allow one look. A
        resumed run that had chosen before does not choose again."""
        if self.choose_more is None or self.plan.ranking_seconds is None:
            return
        if any(record.replicate >= self.plan.replicates for record in self._of_studies() if not _is_standalone(record)):
            return
        self.listener.on_status("which rankings are open")
        elapsed = time.monotonic() - self.started
        ends = self.started + min(self.plan.ranking_seconds, (1 + MOST_FURTHER) * elapsed)
        for number, (parts, seconds) in enumerate(
            self.choose_more(self.writer.path, ends - time.monotonic(), FURTHER_ROUNDS), self.plan.replicates
        ):
            if time.monotonic() + seconds > ends:
                return
            tasks = [
                dataclasses.replace(task, backends=asked)
                for task in self.plan.replicate(number)
                if (asked := tuple(name for name in task.backends if (task.study.name, task.case.key, name) in parts))
            ]
            for task in tasks:
                self.listener.on_planned(task.study.name, len(self._pending_backends(task)))
            self._measure_replicate(tasks, cache)

    def _measure_replicate(self, tasks: Sequence[Task], cache: Path, begin: Sequence[Task] = ()) -> bool:
        """One replicate in fresh workers, which are asked first what it begins with. Workers of a group live side by side and
        are asked in rounds. False if out of time."""
        groups = self.plan.groups(tasks[0].replicate if tasks else 0)
        for number, group in enumerate(groups):
            # Under a limit each gets an equal part of what is left, lest one that compiles for minutes take it all.
            until = self._seconds_left() * (1 - 1 / (len(groups) - number)) if self.plan.items else 0.0
            with Workers(self.cpus, cache, self.code) as workers:
                needed = {
                    name
                    for task in (*begin, *tasks)
                    for name in self._pending_backends(task)
                    if not prepare.static_unsupported_reason(task.case, name)
                }
                workers.start(needed & set(group))
                for task in begin:
                    if pending := [name for name in self._pending_backends(task) if name in group]:
                        self.listener.on_status(f"{task.study.name}  {task.case.key}")
                        self._ask(task, pending, workers, functools.partial(self._alone_first, task))
                for task in tasks:
                    pending = [name for name in self._pending_backends(task) if name in group]
                    if not pending:
                        continue
                    if self._seconds_left() <= 0:
                        return False
                    if self._seconds_left() <= until < float("inf"):
                        break
                    self._measure_task(task, pending, workers)
        return True

    def _measure_task(self, task: Task, pending: Sequence[str], workers: Workers) -> None:
        """Time the case on all its backends in rounds; on a GPU that cannot hold them all at once, some after the others."""
        on_gpu = task.case.spec.device == "cuda"
        together = costs.at_once(task.case, len(pending)) if on_gpu else len(pending)
        for first in range(0, len(pending), together):
            self._ask(task, pending[first : first + together], workers, functools.partial(self._time, task))

    def _alone_first(self, task: Task, ready: Mapping[str, WorkerProcess], watch: Watch) -> Responses:
        """What a study measures by itself, in workers that have run nothing yet."""
        return rounds.ask_alone(ready, task.study.name, task.case.to_dict(), standalone.TIMEOUT_SECONDS)

    def _time(self, task: Task, ready: Mapping[str, WorkerProcess], watch: Watch) -> Responses:
        first = task.replicate == 0
        limit = min(rounds.PREPARE_SECONDS, max(1.0, self._seconds_left())) if self.plan.items else None
        slowest = sorted(ready.keys() & self.preparing.keys(), key=lambda name: -self.preparing[name])
        return rounds.measure(
            ready, task.case.to_dict(), self._pace(task), first,
            lambda text: self.listener.on_status(f"replicate {task.replicate + 1}  {task.case.key}  {text}"),
            at_once=rounds.PREPARED_AT_ONCE if first else 1, slowest=slowest, prepare_seconds=limit,
        )  # fmt: skip

    def _pace(self, task: Task) -> Pace:
        """Of the plan, with more rounds in a replicate that was added where a ranking is open."""
        own = self.plan.pace
        if self.plan.ranking_seconds is None or task.replicate < self.plan.replicates:
            return own
        return dataclasses.replace(own, rounds=FURTHER_ROUNDS * own.rounds)

    def _ask(self, task: Task, pending: Sequence[str], workers: Workers, ask: rounds.Ask) -> None:
        """Have the task measured by the backends that do not refuse it unasked, and record what became of all."""
        refused = _refused(task, pending)
        seats = {name: Seat(workers, name) for name in pending if name not in refused}
        outcome = rounds.measure_case(seats, task.case, ask)
        for name, response in outcome.responses.items():
            self.busy_seconds += response.busy_seconds
            self.warm_up_seconds += response.warm_up_seconds
            if response.load_seconds is not None and response.first_call_seconds is not None:
                self.preparing[name] = response.load_seconds + response.first_call_seconds
        responses = refused | outcome.responses
        self._record_responses(task, {name: responses[name] for name in pending}, outcome.observed())

    def _record_responses(self, task: Task, responses: Responses, observed: Observed | None = None) -> None:
        observed = observed or Observed({}, time.time(), 0.0)
        self._record(*(self._record_of(task, name, response, observed) for name, response in responses.items()))

    def _record_of(self, task: Task, backend: str, response: WorkerResponse, observed: Observed) -> Record:
        subject = Subject.of_case(task.study.name, task.case, backend, task.replicate)
        first_call = task.replicate == 0 and backend != NULL
        # What a backend of lower precision costs in error is read beside the error of the others.
        error = first_call and any(name in impls.names() and impls.facts(name).precision for name in self.plan.backends)
        return build_record(subject, response, observed, self._marks, first_call=first_call, error=error)

    def _measure_standalone(self, cache: Path) -> bool:
        """Studies that measure by themselves, but for what later replicates begin with. False if out of time."""
        jobs, later = [], [task for number in range(self.plan.replicates) for task in self.plan.begins_with(number)]
        # Asked before anything is recorded: a refusal of the first time must not take the others off the count.
        for task, pending in [(task, self._pending_backends(task)) for task in self.plan.standalone() if task not in later]:
            refused = _refused(task, pending)
            self._record_responses(task, refused)
            jobs += [(task, name) for name in pending if name not in refused]
        # On a CPU side by side, a processor each, but for those that are timed; GPU memory is counted for the whole device, so
        # one at a time.
        slots = [(cpu,) for cpu in self.cpus] if self.plan.device == "cpu" else [self.cpus]
        timed, rest = [], []
        for task, backend in jobs:
            (timed if task.study.needs_all_processors(task.case) else rest).append((task, backend))
        self.listener.on_status("each case in a process of its own")
        for each, given in ((rest, slots), (timed, [self.cpus])):
            outcomes = standalone.measure(each, given, cache, self.code, RunPaths(self.corpus, self.checkpoints))
            with contextlib.closing(outcomes):
                for task, backend, response, observed in outcomes:
                    self._record(self._record_of(task, backend, response, observed))
                    if self._seconds_left() <= 0:
                        return False
        return True

    def _measure_peaks(self, cache: Path) -> None:
        for dtype in self.plan.peak_dtypes():
            key = f"{dtype}-{self.plan.device}"
            if (PEAKS, key, MACHINE, 0) in self.records:
                continue
            self.listener.on_status(f"peaks of this machine, {dtype}")
            arguments: dict[str, Any] = {"device": self.plan.device, "dtype": dtype}
            started, clock = time.time(), time.monotonic()
            worker = WorkerProcess(MACHINE, self.cpus, cache)
            response = standalone.ask_once(worker, "ceilings", PEAKS_SECONDS, **arguments)
            observed = Observed({}, started, time.monotonic() - clock)
            self._record(build_record(Subject(PEAKS, key, MACHINE, 0, arguments), response, observed, self._marks))

    def _measure_overhead(self, cache: Path) -> None:
        task = Task(OVERHEAD, OVERHEAD_CASE, (NULL,), 0)
        if (task.study.name, task.case.key, NULL, 0) in self.records:
            return
        with Workers(self.cpus, cache, self.code) as workers:
            self._measure_task(task, [NULL], workers)

    def _pending_backends(self, task: Task) -> list[str]:
        """The task's backends that have neither done it nor failed or refused the same case before."""
        return [
            backend
            for backend in task.backends
            if (task.study.name, task.case.key, backend, task.replicate) not in self.records
            and (task.study.name, task.case.key, backend) not in self.excluded
        ]

    def _record(self, *records: Record) -> None:
        """Put the outcomes of one case on disk together: a kill leaves all of them or none."""
        if not records:
            return
        self.writer.append(*records)
        for record in records:
            self._remember(record)
            if record.status != "ok" and record.study in self.plan.study_names and not _is_standalone(record):
                self.listener.on_planned(record.study, record.replicate + 1 - self.plan.replicates)
        self.listener.on_records(records)

    def _remember(self, record: Record) -> None:
        self.records[record.task] = record
        if record.status != "ok":
            self.excluded.add((record.study, record.case, record.backend))

    def _announce(self) -> None:
        """Tell the listener what is still to come."""
        tasks = [task for number in range(self.plan.replicates) for task in self.plan.replicate(number)]
        for task in [*tasks, *self.plan.standalone()]:
            self.listener.on_planned(task.study.name, len(self._pending_backends(task)))

    def _of_studies(self) -> list[Record]:
        """What was measured of the plan's studies, without peaks and overhead."""
        return [record for record in self.records.values() if record.study in self.plan.study_names]

    def _seconds_left(self) -> float:
        if self.plan.time_budget is None:
            return float("inf")
        return self.plan.time_budget - gpu_check.reserved(self.plan.items) - (time.monotonic() - self.started)

    def _seconds_per_case(self) -> float:
        """What one case of one replicate costs, workers' start included, learnt from this run."""
        measured = self._of_studies()
        cases = {(record.study, record.case, record.replicate) for record in measured if record.status == "ok"}
        return sum(record.seconds for record in measured) / len(cases) if cases else 0.0


def _is_standalone(record: Record) -> bool:
    return study.get(record.study).is_standalone(Case.from_dict(record.parameters))


def _refused(task: Task, backends: Iterable[str]) -> Responses:
    """The backends that need not be started to know that they refuse the task."""
    reasons = {name: prepare.static_unsupported_reason(task.case, name) for name in backends if name != study.REFERENCE}
    return {name: WorkerResponse.unsupported(reason) for name, reason in reasons.items() if reason}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
