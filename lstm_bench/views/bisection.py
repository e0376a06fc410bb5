"""What `lstm-bench bisect` prints: the first slow commit or what hides it, and what to do next."""

from __future__ import annotations

from typing import Any

from analysis.regression.comparison import interval
from bench.regression.revisions import Repository
from lstm_bench.commands.bisecting import Bisected


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
        said.append("decide more of them with a larger --most-pairs, or on a quieter machine")
    elif found.exit_code == 1:
        said = [f"nothing to find: {named(found.judged[0].commit)} against {good} on {case}: {found.judged[0].sentence}"]
    else:
        said = [f"{named(found.judged[0].commit)} is not shown to be slower than {good} on {case}: {found.judged[0].sentence}"]
        said.append("measure more with a larger --most-pairs, or another case with --where")
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
