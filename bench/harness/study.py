"""A study: one question, the claim it tests, and its cases at each scale. Each in `bench/studies/<name>/__init__.py`."""

from __future__ import annotations

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
    """`alone` is None where backends take turns under the clock (see `bench.processes.turns`); otherwise given a backend's name
    and a case it measures by itself, in a worker of its own, after both were admitted (see `bench.worker.prepare`).

    apart    of a study that has `alone`: which of its cases are measured so, the others taking turns; all if None
    times    a case that is measured alone is measured, each time in a fresh worker: what has no spread of its own over seeds
             needs several for an interval; once if None
    forecast seconds that one case takes on one backend, told before it is tried; None, or returning it, where nobody knows
    on       of the backends compared, those a case is measured on; all if None. Where the study measures alone it may name
             `REFERENCE`.
    repeats  where the study is asked for by itself: its replicates and its pace, in place of the suite's
    verdicts the rules that say which numbers support the claim, written down before there were numbers
    trains   it may read a corpus that the user names and keeps checkpoints while it runs (see `RunPaths`)
    in_fresh what is measured alone needs a worker that has run nothing else yet, and leaves it fit for other cases: the workers
             of later replicates begin with it. It compares the loaded case with the float64 reference itself where
             `prepare.validated_in_full` says so
    shares   the reference measures its cases one after the other in one worker: what it counts does not depend on the process
    """

    question: str
    claim: str
    cases: Mapping[Scale, tuple[Case, ...]]
    alone: Callable[[str, Case], Iterable[Measurement]] | None = None
    apart: Callable[[Case], bool] | None = None
    times: Callable[[Case], int] | None = None
    forecast: Callable[[Case], float | None] | None = None
    on: Callable[[Case, Sequence[str]], tuple[str, ...]] | None = None
    repeats: Mapping[Scale, tuple[int, Pace]] = field(default_factory=dict)
    verdicts: tuple[Claim, ...] = ()
    trains: bool = False
    in_fresh: bool = False
    shares: bool = False

    def measures_alone(self, case: Case) -> bool:
        return self.alone is not None and (self.apart is None or self.apart(case))

    def times_alone(self, case: Case) -> int:
        return 1 if self.times is None else self.times(case)


def get(name: str) -> Study:
    """The study of that name. Raises `UnknownName` with the choices."""
    if name not in names():
        raise UnknownName("study", name, names())
    return importlib.import_module(f"bench.studies.{name}").STUDY


# Paths that a study may need and no record may name: the user's corpus, and where checkpoints are kept while it runs.


@dataclass(frozen=True, slots=True)
class RunPaths:
    """corpus: None where none was named. checkpoints: a folder of the run, gone when the run is finished; None for none."""

    corpus: Path | None = None
    checkpoints: Path | None = None

    def to_dict(self) -> dict[str, str]:
        return {name: str(path) for name, path in (("corpus", self.corpus), ("checkpoints", self.checkpoints)) if path}

    @staticmethod
    def from_dict(values: dict[str, str]) -> RunPaths:
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
