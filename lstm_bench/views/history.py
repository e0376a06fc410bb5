"""What `lstm-bench history` prints: series, changes with the commits they are blamed on, and how to confirm them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analysis.regression.comparison import change
from analysis.regression.history import Series
from analysis.report.words import format_count, format_si
from bench.regression.revisions import Repository
from lstm_bench.commands.tracking import Finding
from lstm_bench.views import tables


def rows(found: Sequence[Finding], repository: Repository) -> list[dict[str, str]]:
    return [
        {
            "mark": finding.change.mark,
            "kind": finding.change.kind,
            "case": finding.series.key.case,
            "backend": finding.series.key.backend,
            "change": change(finding.change.change),
            "after": repository.short(finding.before),
            "first": repository.short(finding.first),
            "subject": repository.git("show", "-s", "--format=%s", finding.first),
        }
        for finding in found
    ]


def show(
    series: Sequence[Series],
    found: Sequence[Finding],
    suspected: Sequence[Finding],
    repository: Repository,
    not_searched: str | None = None,
) -> None:
    """Everything for a person to read. not_searched: why change points were not searched, where they were not."""
    print(summary(series))
    if not_searched:
        print(f"\n{not_searched}")
    for title, some in (("Changes:", found), ("Newest points beyond the usual:", suspected)):
        if some:
            print(f"\n{title}")
            shown = rows(some, repository)
            tables.table(list(shown[0]), [list(row.values()) for row in shown])
    for finding in [*found, *suspected]:
        if finding.change.mark != "grey" and finding.confirm:
            print(f"confirm with: {finding.confirm}")


def values(
    series: Sequence[Series],
    found: Sequence[Finding],
    suspected: Sequence[Finding],
    left_out: Sequence[str] = (),
    not_searched: str | None = None,
) -> dict[str, Any]:
    """Everything for a program to read; seconds, and changes as new over old. `changes` is None where none were searched."""
    return {
        "series": [
            {**one.key._asdict(), "machine": one.machine, "fingerprint": one.fingerprint}
            | {"points": [{"commit": p.commit, "seconds": p.seconds, "standard_error": p.standard_error} for p in one.points]}
            for one in series
        ],
        "changes": None if not_searched else [_finding(finding) for finding in found],
        "changes_not_searched": not_searched,
        "suspicions": [_finding(finding) for finding in suspected],
        "left_out": list(left_out),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        **finding.series.key._asdict(), "machine": finding.series.machine, "fingerprint": finding.series.fingerprint,
        "mark": finding.change.mark, "kind": finding.change.kind, "change": finding.change.change,
        "after": finding.before, "first": finding.first, "confirm": finding.confirm,
    }  # fmt: skip


def summary(series: Sequence[Series]) -> str:
    """One line a series: how many commits, and where its time began and ended."""
    lines = [
        f"{one.key.case}  {one.key.backend}  {format_count(len(one.points), 'commit')}  "
        f"{format_si(one.points[0].seconds, 's')} → {format_si(one.points[-1].seconds, 's')}  "
        f"on {one.machine} ({one.fingerprint})"
        for one in series
    ]
    return "\n".join(lines)
