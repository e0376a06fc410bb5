"""`lstm-bench track`, `import` and `history`: commits taken into the history, which is read as series with changes."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from analysis import history
from analysis.changes import Change
from analysis.history import Series
from bench import session
from bench.code import Code, CodeFails
from bench.plan import Plan
from bench.revisions import Repository, RevisionError
from bench.run import Listener
from results import pytest_benchmark, store
from results.store import StoreError

Result = Literal["measured", "resumed", "already there", "does not run"]


@dataclass(frozen=True, slots=True)
class Tracked:
    """What became of one commit."""

    commit: str
    result: Result
    reason: str = ""


def track(
    span: str, plan: Plan, root: Path, listener: Listener, repository: Repository, missing_only: bool = True
) -> list[Tracked]:
    """Measure every commit of a revision or range into the history below `root`, oldest first.

    Each is checked out by itself, so uncommitted changes are never measured. What an interruption left unfinished is
    finished; what is there already is measured again only without `missing_only`.
    """
    commits = repository.between(span)
    if not commits:
        raise RevisionError(f"the range {span} holds no commit; see what it names with: git log --oneline {span}")
    done = []
    for commit in commits:
        found = _track(commit, plan, root, listener, repository, missing_only)
        print(f"{repository.short(commit)}  {found.result}{': ' * bool(found.reason)}{found.reason}", file=sys.stderr)
        done.append(found)
    return done


def _track(commit: str, plan: Plan, root: Path, listener: Listener, repository: Repository, missing_only: bool) -> Tracked:
    with repository.checkout(commit) as worktree:
        code = Code(worktree)
        try:
            said = code.introduce(plan.threads)
        except CodeFails as failure:
            return Tracked(commit, "does not run", str(failure))
        mine = [run for run in _of(commit, root) if session.same(run, plan, said)]
        unfinished = [run for run in mine if not run.finished]
        if unfinished:
            session.finish(unfinished[-1], plan, listener, code)
            return Tracked(commit, "resumed")
        if mine and missing_only:
            return Tracked(commit, "already there")
        session.start(plan, root, listener, code, said)
        return Tracked(commit, "measured")


def _of(commit: str, root: Path) -> list[store.Run]:
    """Runs of a commit; a file that cannot be read is a mistake to be told, not a gap to be filled."""
    if not root.is_dir():
        return []
    return [run for run in map(store.read, store.find(root)) if history.commit_of(run) == commit]


@dataclass(frozen=True, slots=True)
class Finding:
    """A change, where it is, and the comparison that would confirm it."""

    series: Series
    change: Change
    before: str
    first: str

    @property
    def confirm(self) -> str | None:
        """The command that compares the last commit of the old level with the first of the new one, on this case alone.

        None where the series is not of this harness.
        """
        key, asked = self.series.key, self.series.asked
        if key.study == pytest_benchmark.STUDY:
            return None
        command = ["lstm-bench", "compare", self.before[:12], self.first[:12], "--suite", key.study]
        for name, option in (("suite", "--scale"), ("threads", "--threads")):
            command += [option, str(asked[name])] if name in asked else []
        return shlex.join([*command, "--backend", key.backend, "--where", f"case={key.case}"])


def read(root: Path, repository: Repository) -> list[Series]:
    """The history along this repository's first parents. Raises `StoreError` where none of it is a point."""
    order = repository.order()
    found = history.series(history.read(root), order)
    if not found:
        raise StoreError(f"no commit of this branch is in the history at {root}; measure with: lstm-bench track HEAD")
    return found


def findings(series: Sequence[Series]) -> list[Finding]:
    """Every change of every series, the loudest first."""
    found = [Finding(one, change, *one.blamed(change)) for one in series for change in one.changes()]
    loudness = {"red": 0, "amber": 1, "grey": 2}
    return sorted(found, key=lambda finding: (loudness[finding.change.mark], -abs(finding.change.change - 1)))


def suspicions(series: Sequence[Series]) -> list[Finding]:
    """Newest points beyond the usual, before any detector can say so."""
    found = []
    for one in series:
        change = one.suspicion()
        if change is not None:
            suspected = Change(len(one.points) - 1, change, "amber", "step")
            found.append(Finding(one, suspected, *one.blamed(suspected)))
    return found


def take_in(paths: Sequence[Path], root: Path) -> list[tuple[Path, Path | None]]:
    """Add pytest-benchmark's files to the history, each once: where each was put, None for what was there already.

    All are read before anything is written.
    """
    files = pytest_benchmark.find(paths)
    if not files:
        raise StoreError(f"no .json file below {' or '.join(map(str, paths))}; name pytest-benchmark's files or their folder")
    imported = [(path, pytest_benchmark.read(path)) for path in files]
    return [(path, pytest_benchmark.write(one, root)) for path, one in imported]
