"""`git bisect` in a worktree of its own: git chooses the commit to judge, and narrows down by what is said of it.

The user's checkout, and a bisection that may be going on in it, are not touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

from bench.regression.revisions import NoSpan, Repository, RevisionError

Word = Literal["good", "bad", "skip"]


@dataclass(frozen=True, slots=True)
class Bisection:
    """A bisection under way. `worktree` has no files; git keeps its notes there."""

    worktree: Repository

    def next(self) -> str | None:
        """The commit to judge; None where no judgement would narrow it down further."""
        return None if self.candidates() else self.worktree.git("rev-parse", "BISECT_HEAD")

    def judge(self, commit: str, word: Word) -> None:
        try:
            self.worktree.git("bisect", word, commit)
        except RevisionError:
            if not self.candidates():  # git also fails where only skipped commits are left
                raise

    def candidates(self) -> list[str]:
        """Once it is over: the first bad commit, or all that could be it where skipped ones lie between; in git's order."""
        said = self.worktree.git("bisect", "log")
        found = re.findall(r"^# (?:possible )?first bad commit: \[(\w+)\]", said, flags=re.MULTILINE)
        return list(dict.fromkeys(found))


@contextmanager
def bisection(repository: Repository, good: str, bad: str) -> Iterator[Bisection]:
    """Between two commits along first parents, gone again afterwards.

    Raises `NoSpan` where good does not precede bad.
    """
    along = repository.git("rev-list", "--first-parent", bad).split()
    if good not in along[1:]:
        raise NoSpan(
            f"{repository.short(good)} does not lie before {repository.short(bad)} along first parents, so there is nothing "
            "between them to search; name an ancestor as GOOD"
        )
    with repository.checkout(bad, "--no-checkout") as worktree:
        inside = replace(repository, folder=worktree)
        inside.git("bisect", "start", "--no-checkout", "--first-parent", bad, good)
        yield Bisection(inside)
