"""The history handed to asv: its result files, and the site that `asv publish` draws from them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from analysis import AnalysisError
from analysis.regression import history
from analysis.regression.history import Locate
from bench.machine import git
from bench.processes import scratch
from bench.regression.revisions import Repository

THRESHOLD = 0.02  # relative; asv's own default of 5 % hides what is looked for here


def export(root: Path, repository: Repository, to: Path, locate: Locate = history.median) -> list[Path]:
    """Write the history along first parents as asv's result files below `to`."""
    runs = history.read(root)
    order = repository.order()
    stamps = repository.git("log", "--first-parent", "--format=%H %ct", "HEAD").splitlines()
    dates = {commit: int(seconds) * 1000 for commit, seconds in (line.split() for line in stamps)}
    return history.export(history.series(runs, order, locate), runs, dates, to)


def export_and_publish(
    root: Path, repository: Repository, to: Path | None, html: Path | None, locate: Locate = history.median
) -> Path | None:
    """asv's files in `to`, its site of them in `html`, either if it is named; returns the site's first page."""
    with scratch.folder() as folder:
        results = to or folder
        export(root, repository, results, locate)
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
