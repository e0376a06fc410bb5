"""Pairs: two fresh workers, base and new, that take turns on the same cases; both outcomes of a pair go to disk together.

Both live at once and alternate sample by sample; two frameworks on one GPU live one at a time, since each would count the
other's memory as its own. Who begins alternates from pair to pair (ABBA), so that drift hits both alike.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import impls
from bench.harness import standalone, study, suites
from bench.harness.case import Case
from bench.harness.plan import Plan
from bench.harness.run import Listener
from bench.harness.suites import Pace
from bench.machine import system
from bench.machine.conditions import Watch
from bench.machine.lock import device_lock
from bench.processes import scratch, turns
from bench.processes.code import Code
from bench.processes.process import WorkerProcess
from bench.processes.turns import Reply, Workers
from bench.worker import room
from results.record import Measurement, Record, measurement_from_dict
from results.store import Writer

Side = Literal["base", "new"]
SIDES: tuple[Side, ...] = get_args(Side)

TRIES = 3  # at a pair that the machine disturbs

# One sample a turn; the most turns by scale. Sampling ends earlier once both medians are known to 0.5 %, or after 2 s for both
# together: more pairs say more than longer ones, since processes differ more than turns do.
BUSY_SECONDS = 2.0
PACES: dict[str, Pace] = {
    "smoke": Pace(10, 0.0, 0.02, BUSY_SECONDS),
    "every": Pace(10, 0.0, 0.02, BUSY_SECONDS),
    "many": Pace(10, 0.0, 0.02, BUSY_SECONDS),
    "quick": Pace(40, 0.0, 0.05, BUSY_SECONDS),
    "cpu": Pace(60, 0.0, 0.2, BUSY_SECONDS),
    "gpu": Pace(40, 0.005, 0.25, BUSY_SECONDS),
}


class Question(NamedTuple):
    """One case, and the backend that each side runs it with."""

    study: str
    case: Case
    base: str
    new: str

    def backend(self, side: Side) -> str:
        return self.base if side == "base" else self.new


@dataclass(slots=True)
class Pairs:
    """Measures pairs as they are asked for. `records` holds each side's outcomes so far, by (study, case, backend, pair)."""

    plan: Plan
    codes: Mapping[Side, Code]
    writers: Mapping[Side, Writer]
    listener: Listener
    records: dict[Side, dict[tuple[str, str, str, int], Record]] = field(default_factory=lambda: {side: {} for side in SIDES})
    disturbed: Counter[tuple[Question, int]] = field(default_factory=Counter)
    busy_seconds: float = 0.0

    @property
    def cpus(self) -> tuple[int, ...]:
        return system.usable()[: self.plan.threads]

    def measure(self, wanted: Mapping[Question, Sequence[int]]) -> None:
        """Measure the pairs with these numbers that are not measured yet, one number after the other, cases shuffled.

        A case that failed or was refused on either side is not asked again; a pair that the machine disturbed is, twice.
        """
        with device_lock(self.plan.device, inner=True):
            for number in sorted({number for numbers in wanted.values() for number in numbers}):
                asked = [question for question, numbers in wanted.items() if number in numbers and self.open(question, number)]
                random.Random(f"{self.plan.seed} {number}").shuffle(asked)
                for group in _by_backends(asked):
                    self._one_after_the_other(group, number)

    def open(self, question: Question, number: int) -> bool:
        """Whether this pair can still be measured."""
        return not self.out(question) and any(
            (record := self.records[side].get(self._key(question, side, number))) is None or record.status != "ok"
            for side in SIDES
        )

    def out(self, question: Question) -> bool:
        """Whether either side failed or refused the case, or a pair of it was disturbed too often."""
        return any(
            record.status != "ok" and not (record.kind == "unstable" and self._may_try(question, record.replicate))
            for side in SIDES
            for record in self.records[side].values()
            if record.task[:3] == self._key(question, side, 0)[:3]
        )

    def _may_try(self, question: Question, number: int) -> bool:
        return self.disturbed[question, number] < TRIES

    def remember(self, side: Side, records: Iterable[Record]) -> None:
        self.records[side] |= {record.task: record for record in records}

    def _one_after_the_other(self, questions: Sequence[Question], number: int) -> None:
        """One pair of workers for questions that share their backends."""
        order = suites.order(SIDES, number)
        with scratch.folder() as cache:
            folders: dict[Side, Path] = {side: cache / side for side in SIDES}
            timed = [question for question in questions if not study.get(question.study).measures_alone(question.case)]
            for question in questions:
                if question not in timed:
                    self._append(question, number, {side: self._alone(question, side, number, folders[side]) for side in order})
            frameworks = {impls.framework(question.backend(side)) for question in timed for side in SIDES}
            if self.plan.device == "cpu" or len(frameworks) == 1:
                self._together(timed, number, order, folders)
            else:
                self._apart(timed, number, order, folders)

    def _together(
        self, questions: Sequence[Question], number: int, order: Sequence[Side], folders: Mapping[Side, Path]
    ) -> None:
        crews: dict[Side, Workers] = {side: Workers(self.cpus, folders[side], self.codes[side]) for side in order}
        with crews["base"], crews["new"]:
            for side, workers in crews.items():
                workers.start({question.backend(side) for question in questions})  # both import at once
            for question in questions:
                self._append(question, number, self._side_by_side(question, number, crews))

    def _side_by_side(self, question: Question, number: int, crews: Mapping[Side, Workers]) -> dict[Side, Record]:
        """Both sides in turns, or one after the other where the GPU cannot hold the case twice."""
        if self.plan.device == "cuda" and room.at_once(question.case, len(crews)) < len(crews):
            return {side: self._turns(question, number, {side: workers})[side] for side, workers in crews.items()}
        return self._turns(question, number, crews)

    def _apart(self, questions: Sequence[Question], number: int, order: Sequence[Side], folders: Mapping[Side, Path]) -> None:
        found: dict[Question, dict[Side, Record]] = {question: {} for question in questions}
        for side in order:
            with Workers(self.cpus, folders[side], self.codes[side]) as workers:
                for question in questions:
                    found[question] |= self._turns(question, number, {side: workers})
        for question, records in found.items():
            self._append(question, number, records)

    def _turns(self, question: Question, number: int, crews: Mapping[Side, Workers]) -> dict[Side, Record]:
        def watch(text: str) -> None:
            self.listener.doing(f"pair {number + 1}  {question.case.key}  {text}")

        started, clock = time.time(), time.monotonic()
        ready: dict[str, WorkerProcess] = {}
        replies: dict[str, Reply] = {}
        for side, workers in crews.items():
            backend = question.backend(side)
            live, failed = workers.get([backend])
            if backend in live:
                ready[side] = live[backend]
            else:
                replies[side] = failed[backend]
        with Watch(question.case.spec.device) as conditions:
            suites = PACES[self.plan.suite]
            note = conditions.note_turn
            replies |= turns.measure(ready, question.case.to_dict(), suites, number == 0, watch, after_turn=note)
        invalid = conditions.invalid()
        seconds = (time.monotonic() - clock) / len(crews)
        records = {}
        for side, workers in crews.items():
            reply: Reply = replies[side]
            if reply.get("died"):
                workers.drop(question.backend(side))
            if invalid and reply["status"] == "ok":
                reply = {"status": "failed", "kind": "unstable", "reason": invalid}
            self.busy_seconds += reply.get("busy_seconds", 0.0)
            records[side] = _record(question, side, number, reply, conditions.of(side), started, seconds)
        return records

    def _alone(self, question: Question, side: Side, number: int, cache: Path) -> Record:
        started, clock = time.time(), time.monotonic()
        self.listener.doing(f"pair {number + 1}  {question.case.key}  {question.study}")
        reply = standalone.ask_once(
            question.backend(side), self.cpus, cache, "alone", standalone.TIMEOUT_SECONDS, set(),
            code=self.codes[side], study_name=question.study, case=question.case.to_dict(),
        )  # fmt: skip
        return _record(question, side, number, reply, {}, started, time.monotonic() - clock)

    def _append(self, question: Question, number: int, records: Mapping[Side, Record]) -> None:
        self.disturbed[question, number] += any(record.kind == "unstable" for record in records.values())
        for side, record in records.items():
            self.writers[side].append(record)
            self.remember(side, [record])
        self.listener.recorded([records[side] for side in SIDES])

    @staticmethod
    def _key(question: Question, side: Side, number: int) -> tuple[str, str, str, int]:
        return question.study, question.case.key, question.backend(side), number


def _by_backends(questions: Sequence[Question]) -> list[list[Question]]:
    groups: dict[tuple[str, str], list[Question]] = {}
    for question in questions:
        groups.setdefault((question.base, question.new), []).append(question)
    return list(groups.values())


def _record(
    question: Question, side: Side, number: int, reply: Reply, conditions: dict[str, Any], started: float, seconds: float
) -> Record:
    measurements = [measurement_from_dict(item) for item in reply.get("measurements", ())]
    if "first_call_seconds" in reply:
        measurements.append(Measurement("first_call", "s", (reply["first_call_seconds"],)))
    if reply.get("error") is not None:
        measurements.append(Measurement("error", "1", (reply["error"],)))
    return Record(
        study=question.study, case=question.case.key, backend=question.backend(side), replicate=number,
        status=reply["status"], parameters=question.case.to_dict(), reason=reply.get("reason", ""), kind=reply.get("kind"),
        measurements=tuple(measurements), counts=dict(question.case.counts()), provenance=reply.get("provenance", {}),
        conditions=conditions, started=started, seconds=seconds,
    )  # fmt: skip
