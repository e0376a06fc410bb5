"""Stored runs as series of times over commits, with their changes, and the same as asv's files."""

from __future__ import annotations

import hashlib
import math
import statistics
import warnings
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from analysis import AnalysisError
from analysis.regression.changes import INSTALL_ASV, Change, beyond_the_usual, find
from analysis.regression.comparison import Key
from analysis.report.load import comparable
from analysis.statistics.decision import Decision
from analysis.statistics.ratios import NOT_COMPARED, Statistic, aggregate
from results import asv_files, store
from results.record import Record
from results.store import Run

# Stored runs as series over commits: one point a commit, case and backend; fingerprints are never bridged.

# What belongs to the commit itself; everything else that changes speed is the fingerprint's.
OF_THE_COMMIT = ("git.commit", "packages.lstm-bench")

Reason = Literal["dirty", "another branch", "unfinished", "before its commit"]
StatisticOf = Callable[[Run], Statistic]


@dataclass(frozen=True, slots=True)
class Point:
    """A commit's time: the median over replicates in seconds, with the standard error of its logarithm where it is known.

    within: of a single replicate that asv measured: the standard error over the samples of its process, and their number. It
        leaves out by how much processes differ.
    """

    commit: str
    replicates: tuple[float, ...]
    within: tuple[float, int] | None = None

    @property
    def seconds(self) -> float:
        return statistics.median(self.replicates)

    @property
    def standard_error(self) -> float | None:
        if len(self.replicates) < 2:
            return self.within[0] if self.within else None
        return statistics.stdev(map(math.log, self.replicates)) / math.sqrt(len(self.replicates))

    @property
    def degrees(self) -> int:
        """Of freedom of that error."""
        alone = len(self.replicates) < 2 and self.within
        return (alone[1] if alone else len(self.replicates)) - 1


@dataclass(frozen=True, slots=True)
class Series:
    """Points in the order of the commits, all of one fingerprint of machine, software and protocol.

    asked: of the newest run, what it takes to ask the same again: its plan, and from where it took the revision's backends.
    """

    key: Key
    machine: str
    fingerprint: str
    points: tuple[Point, ...]
    asked: Mapping[str, Any] = field(default_factory=dict)

    def changes(self) -> list[Change]:
        return find([point.seconds for point in self.points])

    def suspicion(self) -> float | None:
        """How the newest point differs from the one before, where that is beyond the usual."""
        return beyond_the_usual([point.seconds for point in self.points])

    def blamed(self, change: Change) -> tuple[str, str]:
        """The last commit of the old level and the first of the new one."""
        return self.points[change.index - 1].commit, self.points[change.index].commit


UNKNOWN = "unknown"
Outcome = Literal["confirmed", "refuted", "undecided", "not compared"]


@dataclass(frozen=True, slots=True)
class Commit:
    """As git has it; `unknown` where the repository does not."""

    commit: str
    short: str
    author: str = UNKNOWN
    date: str = UNKNOWN
    subject: str = UNKNOWN


@dataclass(frozen=True, slots=True)
class Comparison:
    """A paired comparison of two commits on one case: the time's decision, new over base, and when it was made."""

    base: str
    new: str
    decision: Decision
    made: str


@dataclass(frozen=True, slots=True)
class Judged:
    """A change of a series, and the paired comparison across it, where there is one.

    confirm: the command that would make one, None where there is none.
    """

    series: Series
    change: Change
    comparison: Comparison | None
    confirm: str | None

    @property
    def first(self) -> str:
        """The first commit of the new level."""
        return self.series.points[self.change.index].commit

    @property
    def outcome(self) -> Outcome:
        """Confirmed where the comparison found a change of the same direction, refuted where it found none or the other."""
        if self.comparison is None:
            return "not compared"
        verdict = self.comparison.decision.verdict
        if verdict in ("UNDECIDED", "UNCOMPARABLE"):
            return "undecided"
        return "confirmed" if verdict == ("SLOWER" if self.change.slower else "FASTER") else "refuted"


def fingerprint(run: Run) -> str:
    """Short, and equal only for runs whose numbers may share a line: of one machine, protocol, software and suite."""
    parts = {name: value for name, value in comparable(run).items() if name not in OF_THE_COMMIT}
    plan = run.header.plan
    studies = plan.get("studies", ())
    asked = plan.get("suite"), studies[0] if len(studies) == 1 else ""  # the pace: a study alone may keep its own
    text = repr((run.header.machine, run.header.protocol, asked, sorted(parts.items())))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def commit_of(run: Run) -> str | None:
    """The commit a run is a point of; None for one that was not measured by the code of a commit, or not known to be."""
    git = run.header.environment.get("git", {})
    return git.get("commit") if git.get("dirty") is False else None


def reason_left_out(run: Run, place: Container[str]) -> Reason | None:
    """Why a run is no point along these commits; None where it is one.

    An unfinished run is left out because the replicates it has would pass for all of them; `track` finishes it.
    """
    commit = commit_of(run)
    if not commit:
        return "dirty"
    if commit not in place:
        return "another branch"
    return None if run.finished else "unfinished"


def left_out(runs: Iterable[Run], order: Sequence[str]) -> dict[Reason, int]:
    """How many runs are no points, by reason; and how many points began before their commit was made, which are kept."""
    place = frozenset(order)
    found: dict[Reason, int] = {}
    for run in runs:
        if reason := reason_left_out(run, place) or _clock(run):
            found[reason] = found.get(reason, 0) + 1
    return found


def harnesses(runs: Iterable[Run], order: Sequence[str]) -> dict[str, int]:
    """The versions of lstm-bench that measured points of a repository of the user's, and how many runs each."""
    place, found = frozenset(order), dict[str, int]()
    for run in runs:
        if (name := harness_of(run.header.environment)) and reason_left_out(run, place) is None:
            found[name] = found.get(name, 0) + 1
    return found


def harness_of(environment: Mapping[str, Any]) -> str | None:
    """The version of lstm-bench that measured in a repository of the user's, down to its code."""
    harness = environment.get("harness")
    return f"{harness['version']} (code {harness['code'][:8]})" if harness else None


def _clock(run: Run) -> Reason | None:
    committed = run.header.environment.get("git", {}).get("committed")
    try:
        early = bool(committed) and datetime.fromisoformat(run.header.started) < datetime.fromisoformat(committed)
    except (TypeError, ValueError):  # a date without its zone, or none, of another program's file
        return None
    return "before its commit" if early else None


def median(_: Run) -> Statistic:
    """The median, whatever the run."""
    return "median"


def series(runs: Iterable[Run], order: Sequence[str], statistic: StatisticOf = median) -> list[Series]:
    """Stored runs as series of times over commits, one for each case, backend, machine and fingerprint of the environment.

    Args:
        runs, order: of the history; commits, oldest first, whose order points follow. Runs of other commits are left out.
        statistic: statistic of a run's replicates, by run.

    Returns: series in seconds a call.
    """
    place = {commit: position for position, commit in enumerate(order)}
    found: dict[tuple[Key, str, str], dict[str, list[float]]] = {}
    asked: dict[tuple[Key, str, str], Mapping[str, Any]] = {}
    within: dict[tuple[Key, str, str, str], tuple[float, int] | None] = {}
    for run in runs:
        commit = commit_of(run)
        if commit is None or reason_left_out(run, place):
            continue
        mark, chosen = fingerprint(run), statistic(run)
        for record in run.records:
            if (seconds := _seconds(record, chosen)) is not None:
                name = Key(record.study, record.case, record.backend), run.header.machine, mark
                found.setdefault(name, {}).setdefault(commit, []).append(seconds)
                within[*name, commit] = asv_files.standard_error(record)
                asked[name] = run.header.plan | {"backends_path": run.header.environment.get("backends_path")}
    return [
        Series(
            *name,
            tuple(
                Point(commit, tuple(points[commit]), within[*name, commit]) for commit in sorted(points, key=place.__getitem__)
            ),
            asked[name],
        )
        for name, points in found.items()
    ]


def read(root: Path) -> list[Run]:
    """Every run of the history. A damaged line is skipped with a warning, and a file that is no run."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", store.DamagedLine)
        return [store.read(path) for path in store.readable(store.find(root))]


def _seconds(record: Record, statistic: Statistic) -> float | None:
    if record.status != "ok" or record.backend in NOT_COMPARED:
        return None
    times = [item for item in record.measurements if item.metric == "time" and item.samples]
    return aggregate(np.asarray(times[0].samples), statistic) if times else None


# The history as asv's own result files, written through asv's own classes, for `asv publish` and `asv show`.
#
# Samples are the replicates' times, not calls, so that asv's intervals and tests are honest. Times are not taken by asv.

VERSION = "1"  # of every benchmark, by hand: asv begins a new series whenever it changes


def export(series: Sequence[Series], runs: Iterable[Run], dates: Mapping[str, int], to: Path) -> list[Path]:
    """Write series as asv's result files: machine.json, benchmarks.json and one file a commit and fingerprint.

    Args:
        series, runs: of `series`, and what they were made of.
        dates: of commits, in milliseconds since the epoch.
        to: folder to write below.

    Returns: the files of commits.
    """
    try:
        from asv import util
        from asv.machine import Machine
        from asv.results import Results
        from asv.runner import BenchmarkResult
    except ImportError as error:
        raise AnalysisError(f"asv's files need asv; install it with: {INSTALL_ASV}") from error
    described = {run.header.machine: _machine(run) for run in runs}
    benchmarks = {name: _benchmark(name, chosen) for name, chosen in _by_study(series).items()}
    for machine, values in described.items():
        util.write_json(str(to / machine / "machine.json"), values, Machine.api_version)
    util.write_json(str(to / "benchmarks.json"), benchmarks, 2)
    written = []
    for (commit, machine, mark), points in _by_commit(series).items():
        parameters = described[machine] | {"software": mark}
        results = Results(parameters, {}, commit, dates[commit], parameters["python"], f"software-{mark}", {})
        for study, times in points.items():
            benchmark = benchmarks[f"{study}.seconds"]
            rows = [times.get(pair) for pair in product(*benchmark["params"])]
            result = BenchmarkResult(
                result=[None if row is None else statistics.median(row) for row in rows],
                samples=[None if row is None else list(row) for row in rows],
                number=[None if row is None else 1 for row in rows],
                errcode=0, stderr="", profile=None,
            )  # fmt: skip
            results.add_result(benchmark, result, record_samples=True)
        results.save(str(to))
        written.append(to / machine / f"{commit[:8]}-software-{mark}.json")
    return written


def _machine(run: Run) -> dict[str, Any]:
    """asv's keys, and those by which its page lets people filter."""
    environment = run.header.environment
    gpus, cpu = environment.get("gpus") or [{}], environment.get("cpu", {})
    return {
        "machine": run.header.machine,
        "os": str(environment.get("os", "")),
        "arch": "",
        "cpu": str(cpu.get("model", "")),
        "num_cpu": str(cpu.get("cores", "")),
        "ram": str(environment.get("memory_bytes", "")),
        "gpu": str(gpus[0].get("name", "none")),
        "driver": str(gpus[0].get("driver", "none")),
        "cuda": str(gpus[0].get("cuda", "none")),
        "python": str(environment.get("python", "")),
    }


def _benchmark(name: str, series: Sequence[Series]) -> dict[str, Any]:
    cases, backends = ({repr(getattr(one.key, part)): None for one in series} for part in ("case", "backend"))
    return {
        "name": name, "type": "time", "unit": "seconds", "version": VERSION, "code": f"# lstm-bench, study {name}",
        "params": [list(cases), list(backends)], "param_names": ["case", "backend"], "timeout": 600.0,
    }  # fmt: skip


def _by_study(series: Sequence[Series]) -> dict[str, list[Series]]:
    found: dict[str, list[Series]] = {}
    for one in series:
        found.setdefault(f"{one.key.study}.seconds", []).append(one)
    return found


Times = dict[str, dict[tuple[str, ...], tuple[float, ...]]]


def _by_commit(series: Sequence[Series]) -> dict[tuple[str, str, str], Times]:
    """For each commit, machine and fingerprint: study → (case, backend) → replicates' times."""
    found: dict[tuple[str, str, str], Times] = {}
    for one in series:
        pair = (repr(one.key.case), repr(one.key.backend))
        for point in one.points:
            times = found.setdefault((point.commit, one.machine, one.fingerprint), {})
            times.setdefault(one.key.study, {})[pair] = point.replicates
    return found
