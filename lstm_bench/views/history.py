"""The history over commits as a table, as JSON, and as asv's result files and site."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis import AnalysisError
from analysis.regression import history
from analysis.regression.comparison import change
from analysis.regression.history import Judged, Series, StatisticOf
from analysis.report.words import format_count, format_si
from bench.machine import git
from bench.processes import scratch
from bench.regression.revisions import Repository
from lstm_bench.commands import tracking
from lstm_bench.commands.tracking import Finding
from lstm_bench.views import tables

THRESHOLD = 0.02  # relative; asv's own default of 5 % hides what is looked for here


def export(root: Path, repository: Repository, to: Path, aggregate: StatisticOf = history.median) -> list[Path]:
    """Write the history along first parents as asv's result files below `to`."""
    runs = history.read(root)
    order = repository.order()
    stamps = repository.git("log", "--first-parent", "--format=%H %ct", "HEAD").splitlines()
    dates = {commit: int(seconds) * 1000 for commit, seconds in (line.split() for line in stamps)}
    return history.export(history.series(runs, order, aggregate), runs, dates, to)


def export_and_publish(
    root: Path, repository: Repository, to: Path | None, html: Path | None, aggregate: StatisticOf = history.median
) -> Path | None:
    """asv's files in `to`, its site of them in `html`, either if it is named; returns the site's first page."""
    with scratch.folder() as folder:
        results = to or folder
        export(root, repository, results, aggregate)
        return publish(results, repository, html) if html else None


def publish(results: Path, repository: Repository, html: Path) -> Path:
    """Have asv draw its site from exported files; returns its first page. Raises `AnalysisError` with asv's last words."""
    branch = repository.git("rev-parse", "--abbrev-ref", "HEAD")
    settings = {
        "version": 1, "project": "lstm-bench", "repo": str(repository.folder.resolve()), "dvcs": "git",
        "branches": [branch], "results_dir": str(results.resolve()), "html_dir": str(html.resolve()),
        "benchmark_dir": "bench/asv_suite", "show_commit_url": "#", "regressions_thresholds": {".*": THRESHOLD},
    }  # fmt: skip
    with scratch.folder() as folder:
        configuration = folder / "asv.conf.json"
        configuration.write_text(json.dumps(settings), encoding="utf-8")
        command = [sys.executable, "-m", "asv", "publish", "--config", str(configuration)]
        run = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=folder, env=git.variables())
    if run.returncode:
        last = (run.stderr or run.stdout).strip().splitlines()[-1:] or ["it gave no reason"]
        raise AnalysisError(f"asv publish failed: {last[0]}")
    return html / "index.html"


def write_page(
    series: Sequence[Series],
    judged: Sequence[Judged],
    suspected: Sequence[Judged],
    repository: Repository,
    to: Path,
    said: Sequence[str | None],
) -> Path:
    """history.html in the folder `to`; says where the report beside it has no link to it yet.

    Args:
        said: why changes were not searched, None where they were; then what is stored and is not in the series.
    """
    from analysis.regression import history_page
    from analysis.report import rendering

    not_searched, *left_out = said
    page = history_page.build(
        series, judged, tracking.commits_of(repository), to,
        not_searched=not_searched, remarks=[each for each in left_out if each], suspected=suspected,
    )  # fmt: skip
    report = to / rendering.REPORT_PAGE
    covered = rendering.covers(report, [one.machine for one in series])
    if covered and f'href="{rendering.HISTORY_PAGE}"' not in report.read_text(encoding="utf-8"):
        print(f"{report} has no link to this page yet; write it again with: lstm-bench report", file=sys.stderr)
    return page


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
