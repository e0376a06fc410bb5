"""Two sides compared in pairs of fresh processes, until every case is decided or the pairs are over."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import impls
from bench import costs
from bench.harness import standalone, suites
from bench.harness.case import Case
from bench.harness.forecast import START_SECONDS
from bench.harness.plan import Plan
from bench.harness.run import Interrupted, Listener
from bench.harness.study import Study
from bench.harness.suites import Pace
from bench.machine import environment, system
from bench.machine.conditions import Watch
from bench.machine.lock import device_lock
from bench.processes import rounds, scratch
from bench.processes.code import Code, SourceInfo
from bench.processes.process import WorkerProcess
from bench.processes.response import Observed, Subject, WorkerResponse, build_record
from bench.processes.rounds import Responses, Seat, Workers
from results import store
from results.record import Footer, Header, Record
from results.store import StoreError, Writer

# Pairs: two fresh workers, base and new, timed in rounds on the same cases; both outcomes of a pair go to disk together.
#
# Both live at once and alternate sample by sample; two frameworks on one GPU live one at a time, since each would count the
# other's memory as its own. Who begins alternates from pair to pair (ABBA), so that drift hits both alike.

Side = Literal["base", "new"]
SIDES: tuple[Side, ...] = get_args(Side)

TRIES = 3  # at a pair that the machine disturbs
MEMORY_PAIRS = 2  # peaks repeat: two say whether they do

# One sample a turn; the most turns by scale. Sampling ends earlier once both medians are known to 0.5 %, or after 2 s for both
# together: more pairs say more than longer ones, since processes differ more than turns do.
BUSY_SECONDS = 2.0
PACES: dict[str, Pace] = {
    "smoke": Pace(10, 0.0, 0.02, BUSY_SECONDS),
    "every": Pace(10, 0.0, 0.02, BUSY_SECONDS),
    "many": Pace(10, 0.0, 0.02, BUSY_SECONDS),
    "emulated": Pace(10, 0.0, 0.02, BUSY_SECONDS),
    "quick": Pace(40, 0.0, 0.05, BUSY_SECONDS),
    "cpu": Pace(60, 0.0, 0.2, BUSY_SECONDS),
    "gpu": Pace(40, 0.005, 0.25, BUSY_SECONDS),
    "grid": Pace(40, 0.005, 0.05, BUSY_SECONDS),
}


class PairedCase(NamedTuple):
    """One case, and the backend that each side runs it with."""

    study: Study
    case: Case
    base: str
    new: str

    def backend(self, side: Side) -> str:
        """That of a side."""
        return self.base if side == "base" else self.new


@dataclass(slots=True)
class Pairs:
    """Measures pairs as they are asked for. `records` holds each side's outcomes so far, by (study, case, backend, pair)."""

    plan: Plan
    codes: Mapping[Side, Code]
    writers: Mapping[Side, Writer]
    listener: Listener
    records: dict[Side, dict[tuple[str, str, str, int], Record]] = field(default_factory=lambda: {side: {} for side in SIDES})
    disturbed: Counter[tuple[PairedCase, int]] = field(default_factory=Counter)
    busy_seconds: float = 0.0

    @property
    def cpus(self) -> tuple[int, ...]:
        return system.usable()[: self.plan.threads]

    def measure(self, wanted: Mapping[PairedCase, Sequence[int]]) -> None:
        """Measure the pairs with these numbers that are not measured yet, one number after the other, cases shuffled.

        A case that failed or was refused on either side is not asked again; a pair that the machine disturbed is, twice.
        """
        with device_lock(self.plan.device, inner=True):
            for number in sorted({number for numbers in wanted.values() for number in numbers}):
                asked = [question for question, numbers in wanted.items() if number in numbers and self.open(question, number)]
                random.Random(f"{self.plan.seed} {number}").shuffle(asked)
                for group in _by_backends(asked):
                    self._one_after_the_other(group, number)

    def open(self, question: PairedCase, number: int) -> bool:
        """Whether this pair can still be measured."""
        return not self.out(question) and any(
            (record := self.records[side].get(self._key(question, side, number))) is None or record.status != "ok"
            for side in SIDES
        )

    def out(self, question: PairedCase) -> bool:
        """Whether either side failed or refused the case, or a pair of it was disturbed too often."""
        return any(
            record.status != "ok" and not (record.kind == "unstable" and self._may_try(question, record.replicate))
            for side in SIDES
            for record in self.records[side].values()
            if record.task[:3] == self._key(question, side, 0)[:3]
        )

    def _may_try(self, question: PairedCase, number: int) -> bool:
        return self.disturbed[question, number] < TRIES

    def remember(self, side: Side, records: Iterable[Record]) -> None:
        """Take outcomes that are on disk already for measured."""
        self.records[side] |= {record.task: record for record in records}

    def _one_after_the_other(self, questions: Sequence[PairedCase], number: int) -> None:
        """One pair of workers for questions that share their backends."""
        order = suites.order(SIDES, number)
        with scratch.folder() as cache:
            folders: dict[Side, Path] = {side: cache / side for side in SIDES}
            timed = [question for question in questions if not question.study.is_standalone(question.case)]
            for question in questions:
                if question not in timed:
                    self._append(question, number, self._standalone_pair(question, number, order, folders))
            frameworks = {impls.facts(question.backend(side)).framework for question in timed for side in SIDES}
            if self.plan.device == "cpu" or len(frameworks) == 1:
                self._together(timed, number, order, folders)
            else:
                self._one_side_at_a_time(timed, number, order, folders)

    def _together(
        self, questions: Sequence[PairedCase], number: int, order: Sequence[Side], folders: Mapping[Side, Path]
    ) -> None:
        worker_pools: dict[Side, Workers] = {side: Workers(self.cpus, folders[side], self.codes[side]) for side in order}
        with worker_pools["base"], worker_pools["new"]:
            for side, workers in worker_pools.items():
                workers.start({question.backend(side) for question in questions})  # both import at once
            for question in questions:
                self._append(question, number, self._side_by_side(question, number, worker_pools))

    def _side_by_side(self, question: PairedCase, number: int, worker_pools: Mapping[Side, Workers]) -> dict[Side, Record]:
        """Both sides in rounds, or one after the other where the GPU cannot hold the case twice."""
        if self.plan.device == "cuda" and costs.at_once(question.case, len(worker_pools)) < len(worker_pools):
            return {side: self._in_rounds(question, number, {side: workers})[side] for side, workers in worker_pools.items()}
        return self._in_rounds(question, number, worker_pools)

    def _one_side_at_a_time(
        self, questions: Sequence[PairedCase], number: int, order: Sequence[Side], folders: Mapping[Side, Path]
    ) -> None:
        found: dict[PairedCase, dict[Side, Record]] = {question: {} for question in questions}
        for side in order:
            with Workers(self.cpus, folders[side], self.codes[side]) as workers:
                for question in questions:
                    found[question] |= self._in_rounds(question, number, {side: workers})
        for question, records in found.items():
            self._append(question, number, records)

    def _in_rounds(self, question: PairedCase, number: int, worker_pools: Mapping[Side, Workers]) -> dict[Side, Record]:
        def ask(ready: Mapping[str, WorkerProcess], watch: Watch) -> Responses:
            return rounds.measure(
                ready, question.case.to_dict(), PACES[self.plan.suite], number == 0,
                lambda text: self.listener.on_status(f"pair {number + 1}  {question.case.key}  {text}"),
                after_turn=watch.note_turn,
            )  # fmt: skip

        seats = {side: Seat(workers, question.backend(side)) for side, workers in worker_pools.items()}
        outcome = rounds.measure_case(seats, question.case, ask)
        self.busy_seconds += sum(response.busy_seconds for response in outcome.responses.values())
        return {side: _record(question, side, number, outcome.responses[side], outcome.observed(side)) for side in worker_pools}

    def _standalone_pair(
        self, question: PairedCase, number: int, order: Sequence[Side], folders: Mapping[Side, Path]
    ) -> dict[Side, Record]:
        return {side: self._standalone(question, side, number, folders[side]) for side in order}

    def _standalone(self, question: PairedCase, side: Side, number: int, cache: Path) -> Record:
        started, clock = time.time(), time.monotonic()
        self.listener.on_status(f"pair {number + 1}  {question.case.key}  {question.study.name}")
        worker = WorkerProcess(question.backend(side), self.cpus, cache, code=self.codes[side])
        response = standalone.ask_once(
            worker, "alone", standalone.TIMEOUT_SECONDS, study_name=question.study.name, case=question.case.to_dict()
        )
        return _record(question, side, number, response, Observed({}, started, time.monotonic() - clock))

    def _append(self, question: PairedCase, number: int, records: Mapping[Side, Record]) -> None:
        self.disturbed[question, number] += any(record.kind == "unstable" for record in records.values())
        for side, record in records.items():
            self.writers[side].append(record)
            self.remember(side, [record])
        self.listener.on_records([records[side] for side in SIDES])

    @staticmethod
    def _key(question: PairedCase, side: Side, number: int) -> tuple[str, str, str, int]:
        return question.study.name, question.case.key, question.backend(side), number


def _by_backends(questions: Sequence[PairedCase]) -> list[list[PairedCase]]:
    groups: dict[tuple[str, str], list[PairedCase]] = {}
    for question in questions:
        groups.setdefault((question.base, question.new), []).append(question)
    return list(groups.values())


def _record(question: PairedCase, side: Side, number: int, response: WorkerResponse, observed: Observed) -> Record:
    subject = Subject.of_case(question.study.name, question.case, question.backend(side), number)
    return build_record(subject, response, observed, first_call=True, error=True)


# A comparison on disk: two runs of equal shape, one a side, that can be finished after an interruption.
#
# Each side is a run like any other, with the environment and the commit of its own code; what makes them a pair is the same
# `comparison` in both plans, and the replicate's number.


@dataclass(frozen=True, slots=True)
class ComparisonSide:
    """One side: how a person calls it, its code, what the code says of itself, and the backend it stands for (else all)."""

    label: str
    code: Code
    introduction: SourceInfo
    backend: str | None = None

    @property
    def shown(self) -> str:
        """The label, and whether its code differs from its commit."""
        state = {True: " with uncommitted changes", False: "", None: " (uncommitted changes unknown)"}
        return self.label + state[self.introduction.dirty]


@dataclass(slots=True)
class Comparison:
    """An open comparison. `paths` are its two runs."""

    paths: dict[Side, Path]
    pairs: Pairs


def questions(plan: Plan, sides: Mapping[Side, ComparisonSide], memory: bool) -> list[PairedCase]:
    """Every timed case with the backends it is compared for, and with `memory` those that each backend measures by itself."""
    return paired_cases(plan, sides["base"].backend, sides["new"].backend, memory)


def paired_cases(plan: Plan, base: str | None, new: str | None, memory: bool) -> list[PairedCase]:
    """As `questions`, of sides that stand for these backends, or for all that the plan has where there are none.

    What a study measures on backends of its own choice (a reference's gradients, trainings) says nothing of their speed.
    """
    chosen = [
        (its, case, plan.measured_on(its, case))
        for its in plan.studies
        for case in plan.cases(its)
        if not its.is_standalone(case) or (memory and its.select_backends is None)
    ]
    if base and new:
        return [PairedCase(its, case, base, new) for its, case, on in chosen if base in on and new in on]
    return [PairedCase(its, case, backend, backend) for backend in plan.compared() for its, case, on in chosen if backend in on]


def predicted_seconds(plan: Plan, asked: Sequence[PairedCase], pairs: int) -> float:
    """Of so many pairs of every timed case and the peaks of memory, with samples as long as they may take and a start a pair.

    Compiling is not in it.
    """
    start, pace = START_SECONDS[plan.device], PACES[plan.suite]
    timed = [question for question in asked if not question.study.is_standalone(question.case)]
    groups = len({(question.base, question.new) for question in timed})
    in_pairs = start * groups + len(timed) * (BUSY_SECONDS + len(SIDES) * pace.warm_seconds)
    return pairs * in_pairs + (len(asked) - len(timed)) * MEMORY_PAIRS * len(SIDES) * start


@contextmanager
def opened(
    plan: Plan,
    sides: Mapping[Side, ComparisonSide],
    root: Path,
    listener: Listener,
    options: Mapping[str, Any],
    resume: bool = False,
) -> Iterator[Comparison]:
    """A comparison whose pairs can be measured within the block. Its last lines are written when the block is left.

    Args:
        plan: what is compared.
        sides: base and new.
        root: folder of comparisons.
        listener: told what happens.
        options: what else two comparisons must share for one to continue the other.
        resume: go on with an interrupted comparison of the same sides, plan and options.

    Raises:
        StoreError: there is no comparison to resume.
        DeviceBusy: another run holds the device.
        Interrupted: Ctrl-C; what was measured is kept.
    """
    key = _key(plan, sides, options)
    with device_lock(plan.device), _writers(plan, sides, root, key, resume) as (writers, found):
        codes: dict[Side, Code] = {side: contender.code for side, contender in sides.items()}
        pairs = Pairs(plan, codes, writers, listener)
        for side, run in found.items():
            pairs.remember(side, run.records)
        started, complete, note = time.monotonic(), False, "ended by an error"
        try:
            yield Comparison({side: writer.path for side, writer in writers.items()}, pairs)
            complete, note = True, ""
        except KeyboardInterrupt as stop:
            note = "interrupted"
            raise Interrupted(writers["base"].path) from stop
        finally:
            ended = datetime.now(UTC).isoformat(timespec="seconds")
            for writer in writers.values():
                writer.append(Footer(ended, complete, time.monotonic() - started, pairs.busy_seconds / 2, note))


@contextmanager
def _writers(
    plan: Plan, sides: Mapping[Side, ComparisonSide], root: Path, key: dict[str, Any], resume: bool
) -> Iterator[tuple[dict[Side, store.Writer], dict[Side, store.Run]]]:
    """Two files to write to, and what they hold already: those of an interrupted comparison if `resume`, else new ones."""
    found = _unfinished(root, key) if resume else {}
    writers: dict[Side, store.Writer] = (
        {side: store.Writer(found[side].path) for side in SIDES} if found else _new(sides, root, key)
    )
    try:
        yield writers, found
    finally:
        for writer in writers.values():
            writer.close()


def _new(sides: Mapping[Side, ComparisonSide], root: Path, key: dict[str, Any]) -> dict[Side, store.Writer]:
    """Both files or none, under a name that no other comparison has."""
    while True:
        now = datetime.now(UTC)
        writers: dict[Side, store.Writer] = {}
        try:
            for side in SIDES:
                writers[side] = store.create(root, _header(side, sides, key, now), numbered=False)
            return writers
        except store.NameTaken:  # in the same microsecond
            _discard(writers)
        except BaseException:
            _discard(writers)
            raise


def _discard(writers: Mapping[Side, store.Writer]) -> None:
    for writer in writers.values():
        writer.discard()


def _key(plan: Plan, sides: Mapping[Side, ComparisonSide], options: Mapping[str, Any]) -> dict[str, Any]:
    """What two comparisons must share for one to continue the other."""
    sources = [sides[side].introduction for side in SIDES]
    return plan.to_dict() | dict(options) | {
        "sides": [sides[side].shown for side in SIDES],
        "commits": [one.environment["git"]["commit"] for one in sources],
        "sides_backends": [sides[side].backend for side in SIDES],
        "machines": [[one.machine, one.protocol] for one in sources],
        "continues": [environment.continues(one.environment) for one in sources],
    }  # fmt: skip


def _header(side: Side, sides: Mapping[Side, ComparisonSide], key: dict[str, Any], now: datetime) -> Header:
    source = sides[side].introduction
    name = f"{now:%H%M%S%f}"
    return Header(
        run=f"{name}-{side}", started=now.isoformat(timespec="seconds"), protocol=source.protocol, machine=source.machine,
        environment=source.environment, plan=key | {"comparison": name, "side": side},
    )  # fmt: skip


def earlier(
    plan: Plan, sides: Mapping[Side, ComparisonSide], root: Path, options: Mapping[str, Any]
) -> dict[Side, store.Run] | None:
    """The newest comparison that asked the same, finished or not."""
    return next(_same(root, _key(plan, sides, options)), None) if root.is_dir() else None


def _unfinished(root: Path, key: Mapping[str, Any]) -> dict[Side, store.Run]:
    """The newest unfinished comparison that asks the same."""
    for found in _same(root, key) if root.is_dir() else ():
        if not all(run.finished for run in found.values()):
            return found
    raise StoreError(f"no unfinished comparison of {' and '.join(key['sides'])} below {root}; start one without --resume")


def _same(root: Path, key: Mapping[str, Any]) -> Iterator[dict[Side, store.Run]]:
    """Comparisons that ask the same, newest first. Of all others only the first line is read."""
    groups: dict[str, dict[Side, store.Run]] = {}
    wanted = json.loads(json.dumps(key))  # as it is read back: tuples are lists
    for path in reversed(store.find(root)):
        header = store.header_of(path)
        asked = {name: value for name, value in header.plan.items() if name not in ("comparison", "side")}
        if asked == wanted:
            group = groups.setdefault(header.plan["comparison"], {})
            group[header.plan["side"]] = store.read(path)
            if len(group) == len(SIDES):
                yield group
