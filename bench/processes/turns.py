"""Workers that are asked in turns: groups of them, rounds, answers, and what becomes of an answer."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import impls
from bench.harness import suites
from bench.harness.suites import LEAST_ROUNDS, Pace
from bench.machine.system import in_unit
from bench.processes.code import HERE, Code
from bench.processes.process import WorkerFailed, WorkerProcess, first_to_answer
from bench.worker.prepare import NULL
from impls.interface import GRAPH_OF
from results.record import EMULATED_METRIC, HOST_PEAK, Measurement, Record, measurement_from_dict

# Where the next replicate is worth most: the cases whose intervals are widest.


def widest(records: Iterable[Record], count: int) -> list[str]:
    """Keys of the `count` cases with the widest relative interval, widest first.

    A case is as wide as its worst backend: the standard error over replicates of ln(median time). A case with a single
    replicate has no interval yet and comes before all others.
    """
    medians: dict[tuple[str, str], list[float]] = defaultdict(list)
    for record in records:
        for measurement in record.measurements:
            if measurement.metric == "time" and record.status == "ok":
                medians[record.case, record.backend].append(math.log(statistics.median(measurement.samples)))
    widths: dict[str, float] = defaultdict(float)
    for (case, _), values in medians.items():
        widths[case] = max(widths[case], standard_error(values))
    return sorted(widths, key=lambda case: (-widths[case], case))[:count]


def standard_error(values: Sequence[float]) -> float:
    return math.inf if len(values) < 2 else statistics.stdev(values) / math.sqrt(len(values))


# From a worker's reply to a record.


def outcome(
    study_name: str, case: str, backend: str, replicate: int, parameters: dict[str, Any], counts: dict[str, int],
    reply: Reply, conditions: dict[str, Any], started: float, seconds: float, marks: dict[str, str],
) -> Record:  # fmt: skip
    """`marks` are added to the provenance, whatever the status. Of an emulated run no metric keeps its name."""
    measurements = [measurement_from_dict(item) for item in reply.get("measurements", ())]
    if replicate == 0 and "first_call_seconds" in reply and backend != NULL:
        notes = tuple(reply.get("first_call_notes", ()))
        measurements.append(Measurement("first_call", "s", (reply["first_call_seconds"],), notes=notes))
    if "emulated" in marks:
        measurements = [
            replace(item, metric=EMULATED_METRIC + item.metric.removeprefix(EMULATED_METRIC)) for item in measurements
        ]
    peak = {name: reply[name] for name in (HOST_PEAK,) if name in reply}
    return Record(
        study=study_name, case=case, backend=backend, replicate=replicate, status=reply["status"], parameters=parameters,
        reason=reply.get("reason", ""), kind=reply.get("kind"), measurements=tuple(measurements), counts=dict(counts),
        provenance=reply.get("provenance", {}) | marks, conditions=conditions | peak, started=started, seconds=seconds,
    )  # fmt: skip


# One case, several backends, one clock: the backends take turns so that drift hits all alike.
#
# Turn k of two backends lie next to each other in time; the order of turns is reversed each round (ABBA).

PREPARE_SECONDS = 300.0  # compiling counts
WARM_SECONDS = 120.0
TURN_SECONDS = 60.0
# In the first replicate, where one compiles while others load and validate. Later ones find everything compiled, and two that
# compute side by side wait for each other's spinning threads: two such trainings took 15 times as long together as in turn.
PREPARED_AT_ONCE = 2
BESIDE = "another backend was being prepared at the same time"  # the note of such a first call


Reply = dict[str, Any]


def measure(
    workers: Mapping[str, WorkerProcess],
    case: Mapping[str, Any],
    pace: Pace,
    first: bool,
    watch: Callable[[str], None],
    at_once: int = 1,
    slowest: Sequence[str] = (),
    prepare_seconds: float | None = None,
    after_turn: Callable[[str], None] = lambda backend: None,
) -> dict[str, Reply]:
    """Ask every worker for the same case in turns; returns each backend's reply.

    In the `first` replicate answers are checked against the oracle. `at_once`: how many prepare at a time; 1 where first calls
    are compared. `slowest`: backends that begin, since they take longest. `prepare_seconds`: after which preparing counts as
    hanging. A reply is `ok` with measurements, provenance and first-call time, or the typed outcome that took its backend out.
    """
    table = _Table(workers)
    limit = PREPARE_SECONDS if prepare_seconds is None else prepare_seconds
    watch("preparing")
    order = [*slowest, *(name for name in workers if name not in slowest)]
    prepared = _ask_each(table, order, "prepare", limit, at_once, case=case, check_answers=first)
    if at_once > 1 and len(workers) > 1:
        prepared = {name: reply | {"first_call_notes": [BESIDE]} for name, reply in prepared.items()}
    for backend in list(prepared):
        watch(f"{backend}: warming up")
        if not table.ask(backend, "warm_up", WARM_SECONDS, seconds=pace.warm_seconds):
            del prepared[backend]
    started = time.monotonic()
    for number in range(pace.rounds):
        if number >= LEAST_ROUNDS and time.monotonic() - started >= pace.busy_seconds:
            break
        order = suites.order([name for name in prepared if name not in table.out], number)
        replies = [_turn(table, name, pace, watch, after_turn) for name in order]
        if all(reply["finished"] for reply in replies if reply):
            break
    collected = {name: table.ask(name, "collect", TURN_SECONDS) for name in prepared if name not in table.out}
    measured = {name: prepared[name] | reply for name, reply in collected.items() if reply}
    return table.out | {name: _as_launched(reply, case) for name, reply in measured.items()}


def _as_launched(reply: Reply, case: Mapping[str, Any]) -> Reply:
    """Code of a revision that does not know `launch` ignores it: what it measured is not what was asked."""
    if case.get("launch") == "graph" and not reply["provenance"].get("ran", "").startswith(GRAPH_OF):
        reason = (
            "unsupported: the code of this revision knows no launch=graph; choose revisions that do, or --where launch=eager"
        )
        return {"status": "skipped", "reason": reason}
    return reply


def ask_alone(
    workers: Mapping[str, WorkerProcess], study_name: str, case: Mapping[str, Any], seconds: float
) -> dict[str, Reply]:
    """Each worker's reply about a case that the study measures by itself, one worker after the other."""
    table = _Table(workers)
    measured = _ask_each(table, list(workers), "alone", seconds, 1, study_name=study_name, case=case)
    return table.out | measured


def _ask_each(
    table: _Table, order: Sequence[str], operation: str, limit: float, at_once: int, **arguments: Any
) -> dict[str, Reply]:
    """The `ok` replies of all workers, asked in this order, of which at most `at_once` compute at a time.

    No two of them by one framework: their threads would spin against each other.
    """
    waiting, asked, found = [name for name in order if name in table.workers], dict[str, float](), dict[str, Reply]()
    while waiting or asked:
        while len(asked) < at_once and (backend := _next(table.workers, waiting, asked)):
            waiting.remove(backend)
            if table.send(backend, operation, **arguments):
                asked[backend] = time.monotonic() + limit
        if asked:
            backend = first_to_answer({name: table.workers[name] for name in asked}, min(asked.values()))
            del asked[backend]
            if reply := table.receive(backend, limit):
                found[backend] = reply
    return {backend: found[backend] for backend in table.workers if backend in found}


def _next(workers: Mapping[str, WorkerProcess], waiting: Sequence[str], asked: Iterable[str]) -> str | None:
    """The first of those waiting whose framework is not at work."""
    busy = {impls.facts(workers[name].backend).framework for name in asked}
    return next((name for name in waiting if not busy or impls.facts(workers[name].backend).framework not in busy), None)


def _turn(
    table: _Table, backend: str, pace: Pace, watch: Callable[[str], None], after_turn: Callable[[str], None]
) -> Reply | None:
    reply = table.ask(backend, "turn", TURN_SECONDS, seconds=pace.turn_seconds)
    if reply:
        after_turn(backend)
        watch(f"{backend}: {in_unit(reply['latest'], 's')}")
    return reply


class _Table:
    """The workers, and the typed outcomes of those that are out."""

    def __init__(self, workers: Mapping[str, WorkerProcess]) -> None:
        self.workers = workers
        self.out: dict[str, Reply] = {}

    def ask(self, backend: str, operation: str, timeout: float, /, **arguments: Any) -> Reply | None:
        """The reply if it is `ok`, else None."""
        return self.receive(backend, timeout) if self.send(backend, operation, **arguments) else None

    def send(self, backend: str, operation: str, /, **arguments: Any) -> bool:
        try:
            self.workers[backend].send(operation, **arguments)
        except WorkerFailed as failure:
            self._lose(backend, failure)
            return False
        return True

    def receive(self, backend: str, timeout: float) -> Reply | None:
        try:
            reply = self.workers[backend].receive(timeout)
        except WorkerFailed as failure:
            self._lose(backend, failure)
            return None
        if reply["status"] == "ok":
            return reply
        self.out[backend] = reply
        return None

    def _lose(self, backend: str, failure: WorkerFailed) -> None:
        self.out[backend] = {"status": "failed", "kind": failure.kind, "reason": str(failure), "died": True}


# The live workers of one replicate.


class Workers:
    """The live workers of a replicate, by backend. A dead one is replaced when it is next needed."""

    def __init__(self, cpus: Sequence[int], cache: Path, code: Code = HERE) -> None:
        self.cpus, self.cache, self.code = cpus, cache, code
        self.live: dict[str, WorkerProcess] = {}

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.live.values():
            worker.end()  # all of them before any is waited for
        for backend in list(self.live):
            self.drop(backend)

    def start(self, backends: Iterable[str]) -> None:
        for backend in sorted(backends):
            self.live[backend] = WorkerProcess(backend, self.cpus, self.cache, code=self.code)

    def get(self, backends: Sequence[str]) -> tuple[dict[str, WorkerProcess], dict[str, Reply]]:
        """Live workers, and a typed outcome for each backend whose worker would not start.

        Returns once every worker has started: none of them imports while another is timed.
        """
        ready: dict[str, WorkerProcess] = {}
        replies: dict[str, Reply] = {}
        self.start(set(backends) - self.live.keys())
        for worker in self.live.values():
            with contextlib.suppress(WorkerFailed):  # said again below, if it is one of those wanted
                worker.await_start()
        for backend in backends:
            try:
                self.live[backend].await_start()
                ready[backend] = self.live[backend]
            except WorkerFailed as failure:
                replies[backend] = {"status": "failed", "kind": failure.kind, "reason": str(failure), "died": True}
        return ready, replies

    def drop(self, backend: str) -> None:
        self.live.pop(backend).close()
