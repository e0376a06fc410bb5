"""`lstm-bench bisect`: the first slow commit, found by `git bisect` and paired comparisons, and what is printed of it.

Every commit is compared with GOOD. One that the pairs leave undecided is skipped; git then tries its neighbours.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from analysis.regression.comparison import NotComparable, NothingInCommon, Row, interval, note
from analysis.statistics.decision import STAGES, Decision, Verdict
from bench.harness.plan import Plan
from bench.harness.run import Listener
from bench.regression.comparison import ComparisonSide
from bench.regression.revisions import Repository, RevisionError, Word, bisection
from lstm_bench.commands import compare
from lstm_bench.commands.compare import Options, UnclearSides

MAX_PAIRS = 80
WORDS: dict[Verdict, Word] = {"SLOWER": "bad", "SAME": "good", "FASTER": "good"}  # the other two are no judgement


@dataclass(frozen=True, slots=True)
class Judged:
    """A commit, what git was told of it, and why: the decision on its time over GOOD's, or the reason that there is none."""

    commit: str
    word: Word
    decision: Decision | None = None
    reason: str = ""

    @property
    def sentence(self) -> str:
        if self.decision is None or self.decision.change is None:
            return self.reason
        parts = [f"{self.decision.verdict} {interval(self.decision)}", f"{self.decision.pairs} pairs", note(self.decision)]
        return ", ".join(filter(None, parts))


@dataclass(frozen=True, slots=True)
class Bisected:
    """What the search found. candidates: one commit where it was found, several where skipped ones hide it, none where BAD
    is not shown to be slower than GOOD. row: the case that was followed; also: others that BAD is slower on."""

    good: str
    row: Row
    judged: list[Judged]
    candidates: list[str] = field(default_factory=list)
    also: list[Row] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 the first slow commit was found, 1 BAD is not slower, 3 the measurements leave it open."""
        if len(self.candidates) == 1:
            return 0
        return 1 if self.row.decision.verdict in ("SAME", "FASTER") else 3

    @property
    def first(self) -> Judged | None:
        """The first slow commit, with its comparison with GOOD."""
        if len(self.candidates) != 1:
            return None
        return next(found for found in self.judged if found.commit == self.candidates[0])


def bisect(
    good: str, bad: str, plan: Plan, root: Path, listener: Listener, options: Options, *, max_pairs: int = MAX_PAIRS
) -> Bisected:
    """Find the first commit after `good` that is slower, on the case on which `bad` is surest to be.

    A comparison that is below `root` already is not measured again, so an interrupted search goes on where it stopped.
    """
    if max_pairs < STAGES[0]:
        raise UnclearSides(f"a comparison takes at least {STAGES[0]} pairs; got a limit of {max_pairs}")
    repository = options.repository
    start, end = repository.resolve(good), repository.resolve(bad)
    options = replace(options, memory=False, stages=stages(max_pairs, options.stages))
    with bisection(repository, start, end) as search, compare.comparison_side(good, plan.threads, options) as base:
        row, also = _suspect(base, bad, plan, root, listener, options)
        judged = [_judged(end, row.decision)]
        _tell(judged[0], repository)
        if judged[0].word != "bad" or row.decision.change is None:
            return Bisected(start, row, judged)
        # As fast as GOOD is, in a search, what surely has not lost half of what BAD has: it lies before the step.
        tolerated = math.log(row.decision.change) / 2
        following = replace(options, only=row.key, tolerated=tolerated, hidden=2 * tolerated)
        while (commit := search.next()) is not None:
            judged.append(_judge(base, commit, plan, root, listener, following))
            _tell(judged[-1], repository)
            search.judge(commit, judged[-1].word)
        return Bisected(start, row, judged, search.candidates(), also)


def stages(max_pairs: int, usual: tuple[int, ...] = STAGES) -> tuple[int, ...]:
    """The usual looks, then one at every doubling, up to `max_pairs`."""
    found = [stage for stage in usual if stage <= max_pairs] or [max_pairs]
    while found[-1] * 2 <= max_pairs:
        found.append(found[-1] * 2)
    return tuple(found)


def _suspect(
    base: ComparisonSide, bad: str, plan: Plan, root: Path, listener: Listener, options: Options
) -> tuple[Row, list[Row]]:
    """The row on which BAD is surest to be slower, or what stands in its place; and the other slower ones."""
    with compare.comparison_side(bad, plan.threads, options) as new:
        outcome = compare.measured_once({"base": base, "new": new}, plan, root, listener, options)
    times = [row for row in outcome.rows if row.metric == "time"]
    if not times:
        raise NothingInCommon(f"no case was measured for both {base.label} and {new.label}; choose others with --suite")
    slower = [row for row in times if row.decision.verdict == "SLOWER"]
    if slower:
        slower.sort(key=lambda row: row.decision.low or 0, reverse=True)
        return slower[0], slower[1:]
    undecided = [row for row in times if row.decision.verdict not in WORDS]
    return (undecided or times)[0], []


def _judge(base: ComparisonSide, commit: str, plan: Plan, root: Path, listener: Listener, options: Options) -> Judged:
    try:
        with compare.comparison_side(commit, plan.threads, options) as new:
            outcome = compare.measured_once({"base": base, "new": new}, plan, root, listener, options)
    except (RevisionError, NotComparable) as error:
        return Judged(commit, "skip", reason=str(error))
    rows = [row for row in outcome.rows if row.metric == "time"]
    return _judged(commit, rows[0].decision) if rows else Judged(commit, "skip", reason="it was not measured")


def _judged(commit: str, decision: Decision) -> Judged:
    return Judged(commit, WORDS.get(decision.verdict, "skip"), decision, decision.reason)


def _tell(found: Judged, repository: Repository) -> None:
    print(f"{repository.short(found.commit)}  {found.word:4}  {found.sentence}", file=sys.stderr)


def sentences(found: Bisected, repository: Repository) -> list[str]:
    """What a person wants to know at the end, and what to do next."""

    def named(commit: str) -> str:
        return f"{repository.short(commit)} {repository.git('show', '-s', '--format=%s', commit)}"

    good = repository.short(found.good)
    case = f"{found.row.key.case} {found.row.key.backend}"
    if found.first is not None and found.first.decision is not None:
        said = [f"first slow commit: {named(found.first.commit)}", f"{case}: {found.first.sentence}, against {good}"]
    elif found.candidates:
        said = [f"the first slow commit on {case} is one of these; the ones between could not be judged:"]
        said += [f"  {named(commit)}" for commit in reversed(found.candidates)]
        said.append("decide more of them with a larger --max-pairs, or on a quieter machine")
    elif found.exit_code == 1:
        said = [f"nothing to find: {named(found.judged[0].commit)} against {good} on {case}: {found.judged[0].sentence}"]
    else:
        said = [f"{named(found.judged[0].commit)} is not shown to be slower than {good} on {case}: {found.judged[0].sentence}"]
        said.append("measure more with a larger --max-pairs, or another case with --where")
    also = [f"also slower: {row.key.case} {row.key.backend} {interval(row.decision)}" for row in found.also]
    return said + also


def values(found: Bisected) -> dict[str, Any]:
    """Everything for a program to read; changes are new over GOOD."""
    return {
        **found.row.key._asdict(), "good": found.good, "first": found.first.commit if found.first else None,
        "candidates": found.candidates, "also": [row.key._asdict() for row in found.also],
        "judged": [
            {"commit": one.commit, "word": one.word, "reason": one.reason}
            | {name: getattr(one.decision, name, None) for name in ("verdict", "change", "low", "high", "pairs")}
            for one in found.judged
        ],
    }  # fmt: skip
