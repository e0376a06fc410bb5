"""The runs kept as a reference: read, counted in the notes, and no part of a history or of the claims by default."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from analysis.regression import history
from analysis.report import claims
from analysis.report.load import load, newest_of_each_study
from analysis.report.page import build
from analysis.report.summary import remarks
from results import store
from results.store import REFERENCE, ROOT

H100 = REFERENCE / "2026-11-26-h100"
LARGEST = 700_000  # bytes of the folder: it is cloned with the code


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    return build([H100], tmp_path_factory.mktemp("report")).markdown.read_text()


def test_the_report_counts_excluded_outcomes_and_unknown_commits(page: str):
    assert "- 16 outcomes of an invalid CUDA context are left out, listed in exclusions.json beside the runs.\n" in page
    assert "182710-throughput are not known to be the code of a commit." in page
    assert "INVALID_CONTEXT" not in page and "_is_autocast_available" in page
    assert "nan" not in page.split("### Environment")[0].split()
    assert remarks([H100]) == [
        "16 outcomes of an invalid CUDA context are left out, listed in exclusions.json beside the runs."
    ]


def test_backends_that_share_a_case_are_compared(page: str):
    """The default baseline is one that others can be compared with: torch ran no case that another backend ran."""
    assert "Speedup over cudnn, the baseline" in page
    (row,) = [
        line
        for line in page.splitlines()
        if line.startswith("| inference | throughput | lstm | bfloat16 | 256 | 16 | 256 | plain | cuda")
    ]
    assert "| 19.6× |" in row


def test_rejections_are_counted_too(monkeypatch):
    (section,) = load([H100 / "173700-throughput.jsonl"])
    (run,) = section.runs
    both = dict(run.left_out) | {("s", "c", "cudnn", 0): "allowed_today"}
    from analysis.report.load import left_out

    assert left_out([replace(run, left_out=both)]) == [
        "16 outcomes of an invalid CUDA context and 1 rejection that today's tolerance reverses are left out, listed in "
        "exclusions.json beside the runs."
    ]
    assert left_out([replace(run, left_out={})]) == []


def test_they_are_no_points_of_a_history():
    runs = history.read(H100)
    assert len(runs) == 7 and {history.commit_of(run) for run in runs} == {None}
    assert history.series(runs, ["093f531"]) == [] and history.left_out(runs, ["093f531"]) == {"dirty": 7}
    known = [
        replace(run, header=replace(run.header, environment=run.header.environment | {"git": {"commit": "c", "dirty": False}}))
        for run in runs
    ]
    assert history.series(known, ["c"]), "it is the unknown commit that keeps them out"


def test_claims_read_reference_runs_only_when_named():
    assert all(ROOT in path.parents for path in newest_of_each_study())
    rows = claims.rows([H100])
    assert rows and all("182611-scaling (commit unknown)" in row["run"] for row in rows)
    assert not any("commit unknown" in row["run"] for row in claims.rows())


def test_the_folder_is_small_and_holds_runs_and_tables_only():
    files = [path for path in H100.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < LARGEST
    assert {path.suffix for path in files} == {".jsonl", ".json", ".md"}
    assert all(isinstance(store.read(path), store.Run) for path in store.find(H100))


def test_a_wheel_does_not_hold_them_and_they_are_no_code():
    import tomllib

    root = Path(__file__).parents[3]
    excluded = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["exclude"]
    folders = {path.name for path in (root / "results").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert {f"results/{name}" for name in folders} <= set(excluded)
    assert "reference" in folders
