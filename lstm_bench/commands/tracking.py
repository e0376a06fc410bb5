"""`lstm-bench track`, `import` and `history`: commits taken into the history, which is read as series with changes."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

import impls
from analysis.regression import calibration, history
from analysis.regression.changes import Change
from analysis.regression.comparison import Key
from analysis.regression.history import Commit, Comparison, Judged, Series, StatisticOf
from analysis.statistics.decision import Decision
from analysis.statistics.ratios import Statistic, statistic_named
from bench.harness import session
from bench.harness.plan import Plan
from bench.harness.run import Listener
from bench.processes.code import Code, CodeFails, RevisionBackends, SourceInfo
from bench.regression.revisions import UNSHALLOW, BuildFails, Repository, ShallowClone, code_of
from lstm_bench.commands import compare as comparing
from lstm_bench.errors import ExitCode
from results import asv_files, pytest_benchmark, store
from results.record import Header
from results.store import StoreError

Result = Literal[
    "measured", "resumed", "already there", "not as committed", "does not run", "cannot be installed", "not measured"
]  # the last on a fleet whose machines were lost


@dataclass(frozen=True, slots=True)
class Tracked:
    """What became of one commit, and the run that is its point, if there is one."""

    commit: str
    result: Result
    reason: str = ""
    path: Path | None = None

    @property
    def sentence(self) -> str:
        return f"{self.result}{': ' * bool(self.reason)}{self.reason}"


@dataclass(frozen=True, slots=True)
class Tracker:
    """How commits are measured, and the first lines of the runs that are there already."""

    plan: Plan
    root: Path
    listener: Listener
    repository: Repository
    missing_only: bool = True
    build: bool = False
    known: dict[Path, Header] = field(default_factory=dict)
    warned: set[str] = field(default_factory=set)  # of harnesses, that the history was measured by others

    def track(self, commit: str) -> Tracked:
        try:
            with code_of(self.repository, commit, self.build) as code:
                return self._measure(commit, code, code.describe_source(self.plan.threads))
        except CodeFails as failure:
            return Tracked(commit, "does not run", str(failure))
        except BuildFails as failure:
            return Tracked(commit, "cannot be installed", str(failure))

    def _measure(self, commit: str, code: Code, said: SourceInfo) -> Tracked:
        if said.dirty is not False:
            reason = "its checkout differs from the commit, as by a filter of git"
            if said.dirty is None:
                reason = f"git could not tell whether its checkout differs from the commit: {said.environment['git']['reason']}"
            return Tracked(commit, "not as committed", f"{reason}; it would be no point, so it is not measured")
        if code.backends is None:
            return self._carry_out(self.plan, commit, code, said)
        with impls.searched(code.backends.folders()):
            return self._carry_out(_supplied(self.plan, code.backends), commit, code, said)

    def _carry_out(self, plan: Plan, commit: str, code: Code, said: SourceInfo) -> Tracked:
        mine = [path for path, header in self.known.items() if header.environment.get("git", {}).get("commit") == commit]
        same = [path for path in mine if session.same(self.known[path], plan, said)]
        unfinished = [path for path in same if not store.read(path).finished]
        if unfinished:
            session.finish(unfinished[-1], plan, self.listener, code)
            return Tracked(commit, "resumed", path=unfinished[-1])
        if same and self.missing_only:
            return Tracked(commit, "already there", path=same[-1])
        self._warn_of_a_commit_from_the_future(commit, said)
        self._warn_of_another_harness(said)
        path, _ = session.start(plan, self.root, self.listener, code, said, after=self.known.values())
        self.known[path] = store.header_of(path)
        return Tracked(commit, "measured", path=path)

    def _warn_of_a_commit_from_the_future(self, commit: str, said: SourceInfo) -> None:
        """No reason to refuse: the clock that was wrong may have been the author's, and a commit's date stays."""
        committed = said.environment["git"].get("committed")
        if committed and datetime.fromisoformat(committed) > datetime.now(UTC):
            short = self.repository.short(commit)
            print(f"{short} was committed at {committed}, later than this machine's clock says", file=sys.stderr)

    def _warn_of_another_harness(self, said: SourceInfo) -> None:
        mine = history.harness_of(said.environment)
        others = {name for header in self.known.values() if (name := history.harness_of(header.environment))} - {mine}
        if mine and others and mine not in self.warned:
            self.warned.add(mine)
            print(
                f"this history was measured by lstm-bench {', '.join(sorted(others))} until now, and this is {mine}: its "
                "points begin new series; to compare with earlier commits, track these again",
                file=sys.stderr,
            )


def _supplied(plan: Plan, backends: RevisionBackends) -> Plan:
    """The plan for the backends that a revision has. Raises `CodeFails` where none of its own was asked for."""
    own = backends.files().keys() & set(plan.backends)
    if not own:
        asked = " or ".join(name for name in plan.backends if name not in impls.built_in())
        raise CodeFails(f"it has no backend {asked} in {' and '.join(backends.paths)}")
    return replace(plan, backends=tuple(name for name in plan.backends if name in own or name in impls.built_in()))


def track(
    span: str,
    plan: Plan,
    root: Path,
    listener: Listener,
    repository: Repository,
    *,
    missing_only: bool = True,
    build: bool = False,
) -> list[Tracked]:
    """Measure every commit of a revision or range into the history below `root`, oldest first.

    Each is checked out by itself, so uncommitted changes are never measured. What an interruption left unfinished is
    finished; what is there already is measured again only without `missing_only`. A file that cannot be read is a mistake to
    be told, not a gap to be filled.
    """
    commits = repository.between(span)
    known = {path: store.header_of(path) for path in store.find(root)} if root.is_dir() else {}
    tracker = Tracker(plan, root, listener, repository, missing_only, build, known)
    done = []
    for commit in commits:
        done.append(tracker.track(commit))
        print(f"{repository.short(commit)}  {done[-1].sentence}", file=sys.stderr)
    return done


def exit_code(done: Sequence[Tracked]) -> int:
    """0 where every commit is in the history now; else why the first that is not could not be measured."""
    codes = {"not as committed": ExitCode.UNDECIDED, "does not run": ExitCode.DOES_NOT_RUN,
             "cannot be installed": ExitCode.BUILD_FAILS, "not measured": ExitCode.UNDECIDED}  # fmt: skip
    return next((codes[found.result] for found in done if found.result in codes), 0)


def values(done: Sequence[Tracked]) -> list[dict[str, str | None]]:
    """For a program to read."""
    return [
        {"commit": one.commit, "result": one.result, "reason": one.reason, "run": str(one.path) if one.path else None}
        for one in done
    ]


@dataclass(frozen=True, slots=True)
class Finding:
    """A change, where it is, and the comparison that would confirm it."""

    series: Series
    change: Change
    before: str
    first: str
    repository: Path | None = None  # of the commits, where it was named

    @property
    def confirm(self) -> str | None:
        """The command that compares the last commit of the old level with the first of the new one, on this case alone.

        None where the series is not of this harness.
        """
        key, asked = self.series.key, self.series.asked
        if key.study in (pytest_benchmark.STUDY, asv_files.STUDY):
            return None
        command = ["lstm-bench", "compare", self.before[:12], self.first[:12], "--suite", key.study]
        for name, option in (("suite", "--scale"), ("threads", "--threads")):
            command += [option, str(asked[name])] if name in asked else []
        for value, option in ((self.repository, "--repository"), (asked.get("backends_path"), "--backends-path")):
            command += [option, str(value)] if value else []
        return shlex.join([*command, "--backend", key.backend, "--where", f"case={key.case}"])


def statistic_for(calibrations: Path, requested: str | None) -> StatisticOf:
    """The statistic of a replicate: the requested one, else that of a calibration of the run's machine, else the median."""
    statistic = None if requested is None else statistic_named(requested)
    known: dict[tuple[object, ...], Statistic] = {}

    def aggregate(run: store.Run) -> Statistic:
        if statistic is not None:
            return statistic
        header = run.header
        threads = header.environment.get("cpu", {}).get("threads")
        name = header.machine, header.protocol, threads, header.plan.get("suite")
        if name not in known:
            found = calibration.newest_for(calibrations, header)
            known[name] = found.statistic if found else "median"
        return known[name]

    return aggregate


@dataclass(frozen=True, slots=True)
class History:
    """Series along this branch, and sentences on what is stored and is not in them."""

    series: list[Series]
    left_out: list[str]
    corrupt: bool  # a line is damaged that no interruption explains


def read(root: Path, repository: Repository, aggregate: StatisticOf = history.median) -> History:
    """The history along this repository's first parents. Raises `StoreError` where none of it is a point."""
    order = repository.order()
    if not root.exists():
        out = shlex.quote(str(root))
        raise StoreError(f"no history at {root}: no such folder; measure with: lstm-bench track HEAD --out {out}")
    runs = history.read(root)
    found = history.series(runs, order, aggregate)
    shallow = repository.shallow()
    if not found:
        hint = UNSHALLOW if shallow else "measure with: lstm-bench track HEAD"
        error = ShallowClone if shallow else StoreError
        raise error(f"no commit of this branch is in the history at {root}; {hint}")
    left_out = _left_out(history.left_out(runs, order), shallow) + _kept_apart(history.harnesses(runs, order))
    return History(found, left_out, any(run.damaged for run in runs))


def _left_out(counts: Mapping[history.Reason, int], shallow: bool) -> list[str]:
    said = {
        "another branch": "are of commits that are not on this branch along first parents"
        + (f": {UNSHALLOW}" if shallow else "; see them with HEAD there"),
        "dirty": "were measured with uncommitted changes, outside git, or where git could not tell, and are no points",
        "unfinished": "are unfinished, or still going; finish them with: lstm-bench track, and the same options",
    }
    found = [f"left out: {count} runs {said[reason]}" for reason, count in counts.items() if reason in said]
    if clock := counts.get("before its commit"):
        found.append(
            f"{clock} runs began before the commit they measured was made: a clock went backwards; order follows commits"
        )
    return found


def _kept_apart(harnesses: Mapping[str, int]) -> list[str]:
    """A sentence where more than one version of the harness measured a repository's history."""
    if len(harnesses) < 2:
        return []
    said = ", ".join(f"{count} runs by lstm-bench {name}" for name, count in harnesses.items())
    return [f"kept apart: {said}; their numbers may differ by the harness, so each version has series of its own"]


def findings(series: Sequence[Series], repository: Path | None = None) -> list[Finding]:
    """Every change of every series, the loudest first. repository: what the user named, for the commands that confirm."""
    found = [Finding(one, change, *one.blamed(change), repository) for one in series for change in one.changes()]
    loudness = {"red": 0, "amber": 1, "grey": 2}
    return sorted(found, key=lambda finding: (loudness[finding.change.mark], -abs(finding.change.change - 1)))


def suspicions(series: Sequence[Series], repository: Path | None = None) -> list[Finding]:
    """Newest points beyond the usual, before any detector can say so."""
    found = []
    for one in series:
        change = one.suspicion()
        if change is not None:
            suspected = Change(len(one.points) - 1, change, "amber", "step")
            found.append(Finding(one, suspected, *one.blamed(suspected), repository))
    return found


def judged(found: Sequence[Finding], comparisons: Path, calibrations: Path, order: Sequence[str]) -> list[Judged]:
    """Each change with the paired comparison across it that is stored below `comparisons`, if there is one.

    Across it is a comparison on the series' machine whose base lies on the old level and whose new side lies on the new one:
    the closest such pair of commits, of several the newest.
    """
    stored = _paired_runs(comparisons) if found else []
    place = {commit: position for position, commit in enumerate(order)}
    known: dict[Path, dict[Key, Decision]] = {}
    result = []
    for finding in found:
        low, high = _levels(finding, found, place)
        before, first = place[finding.before], place[finding.first]
        across = [
            (place[new] - place[base], started, paths, (base, new))
            for machine, base, new, started, paths in stored
            if machine == finding.series.machine and base in place and new in place
            and low <= place[base] <= before and first <= place[new] < high
        ]  # fmt: skip
        across.sort(key=lambda each: each[1], reverse=True)
        comparison = None
        for _, started, paths, (base, new) in sorted(across, key=lambda each: each[0]):
            if paths[0] not in known:
                known[paths[0]] = _decisions(paths, calibrations)
            if decision := known[paths[0]].get(finding.series.key):
                comparison = Comparison(base, new, decision, started)
                break
        result.append(Judged(finding.series, finding.change, comparison, finding.confirm))
    return result


def _levels(finding: Finding, found: Sequence[Finding], place: Mapping[str, int]) -> tuple[int, int]:
    """The places of the first commit of the old level and of the first one after the new level."""
    edges = sorted(place[other.first] for other in found if other.series is finding.series)
    here = edges.index(place[finding.first])
    low = edges[here - 1] if here else 0
    return low, edges[here + 1] if here + 1 < len(edges) else len(place)


def _paired_runs(root: Path) -> list[tuple[str, str, str, str, tuple[Path, Path]]]:
    """Machine, base, new, start and both files of each comparison of two commits; what is not committed is none."""
    sides: dict[str, dict[str, tuple[Path, Header]]] = {}
    for path in store.find(root) if root.is_dir() else ():
        header = store.header_of(path)
        if "comparison" in header.plan and header.environment.get("git", {}).get("dirty") is False:
            sides.setdefault(f"{header.machine} {header.plan['comparison']}", {})[header.plan["side"]] = path, header
    found = []
    for both in sides.values():
        if len(both) == 2:
            (base, header), (new, other) = both["base"], both["new"]
            commits = [each.environment["git"]["commit"] for each in (header, other)]
            if commits[0] != commits[1]:
                found.append((header.machine, *commits, header.started, (base, new)))
    return found


def _decisions(paths: tuple[Path, Path], calibrations: Path) -> dict[Key, Decision]:
    """What `compare` says of two stored runs, by row of the time."""
    options = comparing.Options(calibration=calibration.newest_for(calibrations, store.header_of(paths[0])))
    rows = comparing.stored(str(paths[0]), str(paths[1]), options).rows
    return {row.key: row.decision for row in rows if row.metric == "time"}


def commits_of(repository: Repository) -> list[Commit]:
    """Every commit that HEAD descends from along first parents, oldest first, with its author, date and subject."""
    text = repository.git("log", "--reverse", "--first-parent", "--format=%H%x1f%h%x1f%an%x1f%cI%x1f%s", "HEAD")
    return [Commit(*line.split("\x1f", 4)) for line in text.splitlines()]


class Taken(NamedTuple):
    """What became of a file: where it was put (None where it was there already), or the problem with it; what was left out."""

    path: Path
    stored: Path | None
    problem: str | None = None
    left_out: tuple[str, ...] = ()


def take_in(paths: Sequence[Path], root: Path) -> list[Taken]:
    """Add files of pytest-benchmark and asv to the history, each once and by itself.

    Raises `StoreError` where none can be used.
    """
    files = [path for path in pytest_benchmark.find(paths) if path in paths or path.name not in asv_files.METADATA]
    if not files:
        raise StoreError(
            f"no .json file below {' or '.join(map(str, paths))}; name pytest-benchmark's or asv's files or their folder"
        )
    taken = [_taken(path, root) for path in files]
    problems = [one.problem for one in taken if one.problem is not None]
    if len(problems) == len(taken):
        more = f" ({len(problems) - 1} more files like it)" if len(problems) > 1 else ""
        raise StoreError(f"{problems[0]}{more}")
    return taken


def _taken(path: Path, root: Path) -> Taken:
    try:
        values, text = pytest_benchmark.parsed(path)
        reader = asv_files.read if asv_files.recognises(values) else pytest_benchmark.of_values
        imported = reader(path, values, text)
        return Taken(path, pytest_benchmark.write(imported, root), None, imported.left_out)
    except StoreError as error:
        return Taken(path, None, str(error))
