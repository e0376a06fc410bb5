"""A comparison on disk: two runs of equal shape, one a side, that can be finished after an interruption.

Each side is a run like any other, with the environment and the commit of its own code; what makes them a pair is the same
`comparison` in both plans, and the replicate's number.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import study
from bench.code import Code, Introduction
from bench.pairs import SIDES, Pairs, Question, Side
from bench.plan import Plan
from bench.run import Listener
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
        return self.label + (" with uncommitted changes" if self.introduction.dirty else "")


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
    now = datetime.now(UTC)
    key = _key(plan, sides, options)
    found = _unfinished(root, key) if resume else {}
    writers: dict[Side, store.Writer] = {}
    try:
        for side in SIDES:
            header = _header(side, sides, key, now)
            writers[side] = store.Writer(found[side].path if found else store.new_path(root, header))
            if not found:
                writers[side].append(header)
        codes: dict[Side, Code] = {side: contender.code for side, contender in sides.items()}
        pairs = Pairs(plan, codes, writers, listener)
        for side, run in found.items():
            pairs.remember(side, run.records)
        started, complete, note = time.monotonic(), False, "ended by an error"
        try:
            yield Comparison({side: writer.path for side, writer in writers.items()}, pairs)
            complete, note = True, ""
        except KeyboardInterrupt:
            note = "interrupted"
            raise
        finally:
            ended = datetime.now(UTC).isoformat(timespec="seconds")
            for writer in writers.values():
                writer.append(Footer(ended, complete, time.monotonic() - started, pairs.busy_seconds / 2, note))
    finally:
        for writer in writers.values():
            writer.close()


def _key(plan: Plan, sides: Mapping[Side, Contender], options: Mapping[str, Any]) -> dict[str, Any]:
    """What two comparisons must share for one to continue the other."""
    git = {side: contender.introduction.environment["git"] for side, contender in sides.items()}
    return plan.to_dict() | dict(options) | {
        "sides": [sides[side].shown for side in SIDES],
        "commits": [git[side]["commit"] for side in SIDES],
        "sides_backends": [sides[side].backend for side in SIDES],
        "machines": [[sides[side].introduction.machine, sides[side].introduction.protocol] for side in SIDES],
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
    for found in _same(root, key):
        if not all(run.finished for run in found.values()):
            return found
    raise StoreError(f"no unfinished comparison of {' and '.join(key['sides'])} below {root}; start one without --resume")


def _same(root: Path, key: Mapping[str, Any]) -> Iterator[dict[Side, store.Run]]:
    """Comparisons that ask the same, newest first."""
    groups: dict[str, dict[Side, store.Run]] = {}
    for path in reversed(store.find(root)):
        run = store.read(path)
        asked = {name: value for name, value in run.header.plan.items() if name not in ("comparison", "side")}
        if asked == _plain(key):
            group = groups.setdefault(run.header.plan["comparison"], {})
            group[run.header.plan["side"]] = run
            if len(group) == len(SIDES):
                yield group


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back: tuples are lists."""
    return {name: list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
            for name, value in values.items()}  # fmt: skip
