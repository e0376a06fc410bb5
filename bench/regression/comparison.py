"""A comparison on disk: two runs of equal shape, one a side, that can be finished after an interruption.

Each side is a run like any other, with the environment and the commit of its own code; what makes them a pair is the same
`comparison` in both plans, and the replicate's number.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.harness import study
from bench.harness.plan import Plan
from bench.harness.run import Listener
from bench.harness.session import Interrupted
from bench.machine import environment
from bench.machine.lock import device_lock
from bench.processes.code import Code, Introduction
from bench.regression.pairs import SIDES, Pairs, Question, Side
from results import store
from results.record import Footer, Header
from results.store import StoreError


@dataclass(frozen=True, slots=True)
class Contender:
    """One side: how a person calls it, its code, what the code said of itself, and the backend it stands for (else all)."""

    label: str
    code: Code
    introduction: Introduction
    backend: str | None = None

    @property
    def shown(self) -> str:
        state = {True: " with uncommitted changes", False: "", None: " (uncommitted changes unknown)"}
        return self.label + state[self.introduction.dirty]


@dataclass(slots=True)
class Comparison:
    """An open comparison. `paths` are its two runs."""

    paths: dict[Side, Path]
    pairs: Pairs


def questions(plan: Plan, sides: Mapping[Side, Contender], memory: bool) -> list[Question]:
    """Every timed case with the backends it is compared for, and with `memory` those that each backend measures alone.

    What a study measures alone on backends of its own choice (a reference's gradients, trainings) says nothing of their speed.
    """
    cases = [(name, case) for name in plan.studies for case in plan.cases(name)]
    chosen = [
        (name, case, plan.measured_on(name, case))
        for name, case in cases
        if not (its := study.get(name)).measures_alone(case) or (memory and its.on is None)
    ]
    base, new = sides["base"].backend, sides["new"].backend
    if base and new:
        return [Question(name, case, base, new) for name, case, on in chosen if base in on and new in on]
    return [Question(name, case, backend, backend) for backend in plan.compared() for name, case, on in chosen if backend in on]


@contextmanager
def opened(
    plan: Plan,
    sides: Mapping[Side, Contender],
    root: Path,
    listener: Listener,
    options: Mapping[str, Any],
    resume: bool = False,
) -> Iterator[Comparison]:
    """The comparison's writers, with what an interrupted one of the same sides and plan has already measured if `resume`.

    Its last lines are written when the block is left: complete, or what ended it.
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
    plan: Plan, sides: Mapping[Side, Contender], root: Path, key: dict[str, Any], resume: bool
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


def _new(sides: Mapping[Side, Contender], root: Path, key: dict[str, Any]) -> dict[Side, store.Writer]:
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


def _key(plan: Plan, sides: Mapping[Side, Contender], options: Mapping[str, Any]) -> dict[str, Any]:
    """What two comparisons must share for one to continue the other."""
    said = [sides[side].introduction for side in SIDES]
    return plan.to_dict() | dict(options) | {
        "sides": [sides[side].shown for side in SIDES],
        "commits": [one.environment["git"]["commit"] for one in said],
        "sides_backends": [sides[side].backend for side in SIDES],
        "machines": [[one.machine, one.protocol] for one in said],
        "continues": [environment.continues(one.environment) for one in said],
    }  # fmt: skip


def _header(side: Side, sides: Mapping[Side, Contender], key: dict[str, Any], now: datetime) -> Header:
    said = sides[side].introduction
    name = f"{now:%H%M%S%f}"
    return Header(
        run=f"{name}-{side}", started=now.isoformat(timespec="seconds"), protocol=said.protocol, machine=said.machine,
        environment=said.environment, plan=key | {"comparison": name, "side": side},
    )  # fmt: skip


def earlier(
    plan: Plan, sides: Mapping[Side, Contender], root: Path, options: Mapping[str, Any]
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
