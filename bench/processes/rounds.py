"""One case measured by several workers in rounds, interleaved, so that drift of the machine hits all of them alike."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import impls
from bench.harness import suites
from bench.harness.case import Case
from bench.harness.suites import LEAST_ROUNDS, Pace
from bench.machine.conditions import Watch
from bench.processes.code import HERE, Code
from bench.processes.process import WorkerProcess, first_to_answer
from bench.processes.response import Observed, Reply, WorkerFailed, WorkerResponse
from impls.interface import GRAPH_OF
from results.output import format_si
from results.record import Record

PREPARE_SECONDS = 300.0  # compiling counts
WARM_SECONDS = 120.0
TURN_SECONDS = 60.0
# In the first replicate, where one compiles while others load and validate. Later ones find everything compiled, and two that
# compute side by side wait for each other's spinning threads: two such trainings took 15 times as long together as in turn.
PREPARED_AT_ONCE = 2
BESIDE = "another backend was being prepared at the same time"  # the note of such a first call

Responses = dict[str, WorkerResponse]
Ask = Callable[[Mapping[str, WorkerProcess], Watch], Responses]  # asks those that are ready, while the machine is watched


def most_uncertain(records: Iterable[Record], count: int) -> list[str]:
    """Keys of the `count` cases with the widest relative interval, widest first: where the next replicate is worth most.

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
    """Of the mean; infinite for fewer than two values."""
    return math.inf if len(values) < 2 else statistics.stdev(values) / math.sqrt(len(values))


# The rounds. Turns of two backends that follow each other lie next to each other in time; their order is reversed each round
# (ABBA).


def measure(
    workers: Mapping[str, WorkerProcess],
    case: Mapping[str, Any],
    pace: Pace,
    check_answers: bool,
    on_status: Callable[[str], None] = lambda text: None,
    *,
    at_once: int = 1,
    slowest: Sequence[str] = (),
    prepare_seconds: float | None = None,
    after_turn: Callable[[str], None] = lambda name: None,
) -> Responses:
    """Ask every worker for the same case in rounds.

    Args:
        workers: by the name under which their responses are returned.
        case: as `Case.to_dict` gives it.
        pace: rounds, and seconds of their parts.
        check_answers: whether answers are compared with the float64 reference, as in the first replicate.
        on_status: told what is running.
        at_once: how many prepare at a time; 1 where first calls are compared.
        slowest: those that begin to prepare, since they take longest.
        prepare_seconds: after which preparing counts as hanging; `PREPARE_SECONDS` if None.
        after_turn: called with a worker's name at the end of each of its turns.

    Returns: each worker's response: `ok` with measurements, provenance and first call, or the outcome that excluded it.
    """
    group = WorkerGroup(workers)
    limit = PREPARE_SECONDS if prepare_seconds is None else prepare_seconds
    on_status("preparing")
    order = [*slowest, *(name for name in workers if name not in slowest)]
    prepared = _ask_each(group, order, "prepare", limit, at_once, case=case, check_answers=check_answers)
    if at_once > 1 and len(workers) > 1:
        prepared = {name: reply | {"first_call_notes": [BESIDE]} for name, reply in prepared.items()}
    for name in list(prepared):
        on_status(f"{name}: warming up")
        if not group.ask(name, "warm_up", WARM_SECONDS, seconds=pace.warm_seconds):
            del prepared[name]
    started = time.monotonic()
    for number in range(pace.rounds):
        if number >= LEAST_ROUNDS and time.monotonic() - started >= pace.busy_seconds:
            break
        finished = True
        for name in suites.order([name for name in prepared if name not in group.excluded], number):
            if reply := group.ask(name, "turn", TURN_SECONDS, seconds=pace.turn_seconds):
                after_turn(name)
                on_status(f"{name}: {format_si(reply['latest'], 's')}")
                finished = finished and reply["finished"]
        if finished:
            break
    collected = {name: group.ask(name, "collect", TURN_SECONDS) for name in prepared if name not in group.excluded}
    responses = {name: WorkerResponse.from_reply(prepared[name] | reply) for name, reply in collected.items() if reply}
    return group.excluded | {name: _as_launched(response, case) for name, response in responses.items()}


def _as_launched(response: WorkerResponse, case: Mapping[str, Any]) -> WorkerResponse:
    """Code of a revision that does not know `launch` ignores it: what it measured is not what was asked."""
    if case.get("launch") == "graph" and not response.provenance.get("ran", "").startswith(GRAPH_OF):
        return WorkerResponse.unsupported(
            "unsupported: the code of this revision knows no launch=graph; choose revisions that do, or --where launch=eager"
        )
    return response


def ask_alone(workers: Mapping[str, WorkerProcess], study_name: str, case: Mapping[str, Any], seconds: float) -> Responses:
    """Each worker's response about a case that the study measures by itself, one worker after the other."""
    group = WorkerGroup(workers)
    replies = _ask_each(group, list(workers), "alone", seconds, 1, study_name=study_name, case=case)
    return group.excluded | {name: WorkerResponse.from_reply(reply) for name, reply in replies.items()}


def _ask_each(
    group: WorkerGroup, order: Sequence[str], operation: str, limit: float, at_once: int, **arguments: Any
) -> dict[str, Reply]:
    """The `ok` replies of all workers, asked in this order, of which at most `at_once` compute at a time.

    No two of them by one framework: their threads would spin against each other.
    """
    waiting, asked, replies = [name for name in order if name in group.workers], dict[str, float](), dict[str, Reply]()
    while waiting or asked:
        while len(asked) < at_once and (name := _next(group.workers, waiting, asked)):
            waiting.remove(name)
            if group.send(name, operation, **arguments):
                asked[name] = time.monotonic() + limit
        if asked:
            name = first_to_answer({name: group.workers[name] for name in asked}, min(asked.values()))
            del asked[name]
            if reply := group.receive(name, limit):
                replies[name] = reply
    return {name: replies[name] for name in group.workers if name in replies}


def _next(workers: Mapping[str, WorkerProcess], waiting: Sequence[str], asked: Iterable[str]) -> str | None:
    """The first of those waiting whose framework is not at work."""
    busy = {impls.facts(workers[name].backend).framework for name in asked}
    return next((name for name in waiting if not busy or impls.facts(workers[name].backend).framework not in busy), None)


class WorkerGroup:
    """Workers that measure one case, by name; `excluded` has the responses of those that are not asked any more."""

    def __init__(self, workers: Mapping[str, WorkerProcess]) -> None:
        self.workers = workers
        self.excluded: Responses = {}

    def ask(self, name: str, operation: str, timeout: float, /, **arguments: Any) -> Reply | None:
        """The reply if it is `ok`, else None, and the worker is excluded."""
        return self.receive(name, timeout) if self.send(name, operation, **arguments) else None

    def send(self, name: str, operation: str, /, **arguments: Any) -> bool:
        """Ask without waiting; False where the worker is gone, and it is excluded."""
        try:
            self.workers[name].send(operation, **arguments)
        except WorkerFailed as failure:
            self.excluded[name] = WorkerResponse.of_failure(failure)
            return False
        return True

    def receive(self, name: str, timeout: float) -> Reply | None:
        """The reply to the last `send` if it is `ok`, else None, and the worker is excluded."""
        try:
            reply = self.workers[name].receive(timeout)
        except WorkerFailed as failure:
            self.excluded[name] = WorkerResponse.of_failure(failure)
            return None
        if reply["status"] == "ok":
            return reply
        self.excluded[name] = WorkerResponse.from_reply(reply)
        return None


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
        """Start a worker for each, and wait for none."""
        for backend in sorted(backends):
            self.live[backend] = WorkerProcess(backend, self.cpus, self.cache, code=self.code)

    def get(self, backends: Sequence[str]) -> tuple[dict[str, WorkerProcess], Responses]:
        """Live workers, and a failure for each backend whose worker would not start.

        Returns once every worker has started: none of them imports while another is timed.
        """
        ready: dict[str, WorkerProcess] = {}
        failed: Responses = {}
        self.start(set(backends) - self.live.keys())
        for worker in self.live.values():
            with contextlib.suppress(WorkerFailed):  # raised again below, if it is one of those wanted
                worker.await_start()
        for backend in backends:
            try:
                self.live[backend].await_start()
                ready[backend] = self.live[backend]
            except WorkerFailed as failure:
                failed[backend] = WorkerResponse.of_failure(failure)
        return ready, failed

    def drop(self, backend: str) -> None:
        """End a backend's worker."""
        self.live.pop(backend).close()


@dataclass(frozen=True, slots=True)
class Seat:
    """Who measures a case under one name: the worker of a backend among a replicate's workers."""

    workers: Workers
    backend: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The responses about one case by name, the watch kept meanwhile, when it began, and its seconds."""

    responses: Responses
    watch: Watch
    started: float
    seconds: float

    def observed(self, name: str | None = None) -> Observed:
        """What a record says of its making: an equal part of the seconds; the clocks of a name's own turns where noted."""
        conditions = self.watch.summary if name is None else self.watch.of(name)
        return Observed(conditions, self.started, self.seconds / max(1, len(self.responses)))


def measure_case(seats: Mapping[str, Seat], case: Case, ask: Ask) -> Outcome:
    """The one procedure by which workers that live side by side are asked about a case.

    Their start is awaited, the machine is watched while `ask` asks those that started, what the machine disturbed becomes a
    failure, and workers that died are dropped, to be replaced when they are next needed.
    """
    started, clock = time.time(), time.monotonic()
    ready: dict[str, WorkerProcess] = {}
    responses: Responses = {}
    for workers in dict.fromkeys(seat.workers for seat in seats.values()):
        names = {seat.backend: name for name, seat in seats.items() if seat.workers is workers}
        live, failed = workers.get(list(names))
        ready |= {names[backend]: worker for backend, worker in live.items()}
        responses |= {names[backend]: response for backend, response in failed.items()}
    with Watch(case.spec.device) as watch:
        responses |= ask(ready, watch)
    for name, response in responses.items():
        if response.died:
            seats[name].workers.drop(seats[name].backend)
    unstable = watch.invalid()
    responses = {name: responses[name].unless_unstable(unstable) for name in seats}
    return Outcome(responses, watch, started, time.monotonic() - clock)
