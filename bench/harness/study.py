"""A study: one question, the claim it tests, and its cases at each scale. Each in `bench/studies/<name>/__init__.py`."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness.case import Case
from bench.harness.suites import Pace, Scale
from bench.harness.suites import studies as names
from impls import UnknownName
from results.claims import Claim
from results.record import Measurement

REFERENCE = "reference"  # stands in the place of a backend where a study's own float64 code measures, once for all backends


@dataclass(frozen=True, slots=True)
class Study:
    """What the study measures.

    Attributes:
        question: what is asked.
        name: of its folder in `bench/studies`, given by `get`.
        claim: what is said of it, which the numbers test.
        cases: at each scale.
        measure: None where backends are timed in rounds (see `bench.processes.rounds`). Otherwise measures a case on a backend
            by itself, in a worker of its own, after the validation gate (see `bench.worker.prepare`).
        standalone: of a study that has `measure`: which of its cases are measured so, the others in rounds; all if None.
        all_processors: which of its standalone cases are timed and get all processors, with nothing beside them; none if None.
            On a CPU the others go side by side, a processor each.
        repetitions: how often a standalone case is measured, each time in a fresh worker: what has no spread of its own over
            seeds needs several for an interval; once if None.
        forecast: seconds that one case takes on one backend; None, or returning it, where nobody knows.
        select_backends: of the backends compared, those a case is measured on; all if None. Where the study measures by itself
            it may name `REFERENCE`.
        repeats: where the study is asked for by itself: its replicates and its pace, in place of the suite's.
        claims: the rules that say which numbers support the claim, pre-registered.
        trains: it may read a corpus that the user names and keeps checkpoints while it runs (see `RunPaths`).
        needs_fresh_worker: `measure` needs a worker that has run nothing else yet, and leaves it fit for other cases: the
            workers of later replicates begin with it. It compares the loaded case with the float64 reference itself where
            `prepare.validated_in_full` says so.
        reuse_worker: the reference measures its cases one after the other in one worker: what it counts does not depend on the
            process.

    `repetitions` at a profile of their own exist because a suite's can take too long for a study of many networks: `cost` on
    three backends would take six minutes.

    Timed cases and those measured in a process of their own are one study, so that one header holds one set of rules for all
    its numbers.
    """

    question: str
    claim: str
    cases: Mapping[Scale, tuple[Case, ...]]
    measure: Callable[[str, Case], Iterable[Measurement]] | None = None
    standalone: Callable[[Case], bool] | None = None
    all_processors: Callable[[Case], bool] | None = None
    repetitions: Callable[[Case], int] | None = None
    forecast: Callable[[Case], float | None] | None = None
    select_backends: Callable[[Case, Sequence[str]], tuple[str, ...]] | None = None
    repeats: Mapping[Scale, tuple[int, Pace]] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    trains: bool = False
    needs_fresh_worker: bool = False
    reuse_worker: bool = False
    name: str = ""

    def __hash__(self) -> int:
        return hash(self.name)

    def is_standalone(self, case: Case) -> bool:
        """Whether the case is measured by itself and not in rounds."""
        return self.measure is not None and (self.standalone is None or self.standalone(case))

    def needs_all_processors(self, case: Case) -> bool:
        """Whether a standalone case goes by itself on all processors."""
        return self.all_processors is not None and self.all_processors(case)

    def repetitions_of(self, case: Case) -> int:
        """How often a standalone case is measured."""
        return 1 if self.repetitions is None else self.repetitions(case)


def get(name: str) -> Study:
    """The study of that name. Raises `UnknownName` with the choices."""
    if name not in names():
        raise UnknownName("study", name, names())
    return dataclasses.replace(importlib.import_module(f"bench.studies.{name}").STUDY, name=name)


# Paths that a study may need and no record may name: the user's corpus, and where checkpoints are kept while it runs.


@dataclass(frozen=True, slots=True)
class RunPaths:
    """corpus: None where none was named. checkpoints: a folder of the run, gone when the run is finished; None for none.

    Records name a corpus by its hash: a path would name a machine and prove nothing about the text, and a copy is the user's
    to publish.
    """

    corpus: Path | None = None
    checkpoints: Path | None = None

    def to_dict(self) -> dict[str, str]:
        """Plain values for a worker."""
        return {name: str(path) for name, path in (("corpus", self.corpus), ("checkpoints", self.checkpoints)) if path}

    @staticmethod
    def from_dict(values: dict[str, str]) -> RunPaths:
        """The inverse of `to_dict`."""
        return RunPaths(**{name: Path(path) for name, path in values.items()})


NO_PATHS = RunPaths()
_paths = NO_PATHS


def get_paths() -> RunPaths:
    """The paths of this process."""
    return _paths


def set_paths(paths: RunPaths) -> None:
    """Set the paths of this process, as a worker does before it measures."""
    global _paths
    _paths = paths
