"""pytest-benchmark's files become points of a history of their own; its compare command reads what our suite saves."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from analysis.regression import history
from bench.processes.code import ROOT
from bench.regression.revisions import Repository
from lstm_bench.commands import tracking
from results import pytest_benchmark, store
from results.store import StoreError
from tests.analysis import history_synthetic
from tests.lstm_bench.history_repository import History

ONE = ("tests/perf", "-k", "step and numpy", "--benchmark-enable", "--benchmark-max-time=0.02", "--benchmark-min-rounds=3")


def pytest_of_ours(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with two runs of one benchmark of our suite, the second with every round."""
    storage = tmp_path_factory.mktemp("benchmarks")
    for more in ((), ("--benchmark-save-data",)):
        run = pytest_of_ours(*ONE, f"--benchmark-storage={storage}", "--benchmark-autosave", *more)
        assert run.returncode == 0, run.stdout + run.stderr
    return storage


def file(commit: str | None, seconds: float = 0.01, **changes: Any) -> dict[str, Any]:
    """As pytest-benchmark writes it, as far as anybody reads it."""
    return {
        "machine_info": {
            "node": "laptop", "processor": "", "machine": "x86_64", "python_version": "3.12.1", "system": "Linux",
            "release": "6.1", "cpu": {"brand_raw": "Imaginary CPU", "count": 8},
        },
        "commit_info": {"id": commit, "time": "2026-01-01T00:00:00+00:00", "dirty": False},
        "benchmarks": [
            {"fullname": "tests/test_mine.py::test_sort[9]", "params": {"n": 9, "what": None},
             "stats": {"median": seconds, "rounds": 7, "data": [seconds, 1.1 * seconds, seconds]}},
            {"fullname": "tests/test_mine.py::test_sum", "params": None, "stats": {"median": seconds, "rounds": 7}},
        ],
        "datetime": "2026-01-02T03:04:05.678000", "version": "5.1.0",
    } | changes  # fmt: skip


def test_its_compare_commands_work_on_our_suite(saved: Path, tmp_path: Path):
    compared = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", f"--storage={saved}", "compare", "--columns=median", "--sort=name"],
        capture_output=True, text=True, timeout=60, env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    assert compared.returncode == 0, compared.stderr
    assert "test_throughput[lstm-I32-H32-T8-B1-step-float32-cpu/numpy] (0001" in compared.stdout
    impossible = json.loads(next(saved.rglob("0001*.json")).read_text())
    impossible["benchmarks"][0]["stats"]["min"] = 1e-12
    (tmp_path / "impossible.json").write_text(json.dumps(impossible))
    failing = pytest_of_ours(*ONE, f"--benchmark-compare={tmp_path / 'impossible.json'}", "--benchmark-compare-fail=min:5%")
    assert failing.returncode == 1 and "Performance has regressed" in failing.stdout + failing.stderr


def test_our_suites_file_is_imported_with_commit_and_rounds(saved: Path, tmp_path: Path):
    found = tracking.take_in([saved], tmp_path)
    runs = [store.read(one.stored) for one in found if one.stored]
    commit = Repository(ROOT).resolve("HEAD")
    assert [run.header.environment["git"]["commit"] for run in runs] == [commit] * 2
    assert [run.header.protocol for run in runs] == [pytest_benchmark.PROTOCOL] * 2
    (median,), (rounds,) = (run.records[0].measurements for run in runs)
    assert len(median.samples) == 1 and "rounds" in median.notes[0] and len(rounds.samples) >= 3


def test_files_become_points_once_and_share_no_line_with_ours(tmp_path: Path):
    made, root = History(tmp_path / "project"), tmp_path / "history"
    names = [made.commit(f"commit {number}") for number in range(12)]
    files = []
    for number, name in enumerate(names):
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps(file(name, 0.010 if number < 6 else 0.011)))
    assert all(one.stored for one in tracking.take_in(files, root))
    assert not any(one.stored for one in tracking.take_in(files[:3], root)), "the same file is no second replicate"
    history_synthetic.write(root, ("flat",))
    repository = Repository(made.folder)
    series = tracking.read(root, repository).series
    assert {one.key.case for one in series} == {"tests/test_mine.py::test_sort[9]", "tests/test_mine.py::test_sum"}
    assert [point.commit for point in series[0].points] == names
    assert {one.machine for one in series} == {"imaginary-cpu-8-pytest-benchmark"}
    ours = history.series(history.read(root), history_synthetic.COMMITS)
    assert not {one.fingerprint for one in series} & {one.fingerprint for one in ours}
    findings = tracking.findings(series)
    assert {finding.first for finding in findings} == {names[6]} and {finding.confirm for finding in findings} == {None}
    dates = dict.fromkeys(names, 0)
    assert len(history.export(series, history.read(root), dates, tmp_path / "asv")) == 12


@pytest.mark.parametrize("state", [{"dirty": True}, {}], ids=["uncommitted", "not known to be committed"])
def test_an_uncommitted_measurement_is_kept_and_is_no_point(tmp_path: Path, state: dict[str, bool]):
    made = History(tmp_path / "project")
    name = made.commit("only")
    (tmp_path / "dirty.json").write_text(json.dumps(file(None, commit_info={"id": name} | state)))
    command = [sys.executable, "-m", "lstm_bench", "import", tmp_path / "dirty.json", "--out", tmp_path / "history"]
    answer = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0 and "kept and is no point" in answer.stderr
    with pytest.raises(StoreError, match="no commit of this branch is in the history"):
        tracking.read(tmp_path / "history", Repository(made.folder))


@pytest.mark.parametrize(("text", "message"), [
    ("{", "is damaged or no JSON"),
    (json.dumps({"some": "JSON"}), "is no file of pytest-benchmark: 'commit_info' is missing"),
    (json.dumps([1]), "is no file of pytest-benchmark"),
    (json.dumps(file(None)), "belong to no commit"),
    (json.dumps(file(None, commit_info={"id": "unknown", "dirty": False})), "belong to no commit"),
    (json.dumps(file("a" * 40, math.nan)), r"test_sort\[9\] has a time of nan s"),
    (json.dumps(file("a" * 40, -1.0)), "has a time of -1.0 s"),
    (json.dumps(file("a" * 40, datetime="yesterday")), "is no file of pytest-benchmark"),
])  # fmt: skip
def test_corrupt_and_foreign_files_are_left_out_and_named(tmp_path: Path, text: str, message: str):
    (tmp_path / "right.json").write_text(json.dumps(file("a" * 40)))
    (tmp_path / "wrong.json").write_text(text)
    right, wrong = tracking.take_in([tmp_path / "right.json", tmp_path / "wrong.json"], tmp_path / "history")
    assert right.stored is not None and right.problem is None
    assert wrong.stored is None and wrong.problem is not None and re.search(message, wrong.problem)
    assert [path.suffix for path in (tmp_path / "history").rglob("*") if path.is_file()] == [".jsonl"]
    with pytest.raises(StoreError, match=message):
        tracking.take_in([tmp_path / "wrong.json"], tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def benchmark(name: str, *times: float, **changes: object) -> dict[str, object]:
    stats = {"data": list(times), "median": times[0], "rounds": len(times)}
    return {"fullname": name, "stats": stats, "params": None} | changes


@pytest.mark.parametrize(("changes", "cases", "left_out"), [
    ({"machine_info": {"owner": "somebody"}}, ["a"], []),
    ({"machine_info": None}, ["a"], []),
    ({"benchmarks": [benchmark("a", 1.0, 0.0, 2.0)]}, ["a"], []),
    ({"benchmarks": [benchmark("a", 1.0), benchmark("b", 0.0)]}, ["a"], ["b has no time above 0 s"]),
    ({"benchmarks": [benchmark("a", 1.0), benchmark("a", 2.0), benchmark("a", 3.0)]}, ["a", "a #2", "a #3"], []),
    ({"benchmarks": [benchmark("a", 1.0, params={"x": math.nan, "y": math.inf, "z": 1})]}, ["a"], []),
    ({"benchmarks": [benchmark("a", 1.0), {"fullname": "b"}, 7]}, ["a"], ["'stats' is missing", "benchmark 3"]),
])  # fmt: skip
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["", "byte order mark"])
def test_what_can_be_used_of_a_file_is(
    tmp_path: Path, changes: dict[str, object], cases: list[str], left_out: list[str], mark: str
):
    whole = file("a" * 40) | {"benchmarks": [benchmark("a", 1.0, 2.0)]} | changes
    (tmp_path / "one.json").write_text(mark + json.dumps(whole), encoding="utf-8")
    (taken,) = tracking.take_in([tmp_path / "one.json"], tmp_path / "history")
    assert taken.stored is not None
    assert [record.case for record in store.read(taken.stored).records] == cases
    assert len(taken.left_out) == len(left_out)
    assert all(part in said for part, said in zip(left_out, taken.left_out, strict=True))


def test_a_file_without_benchmarks_is_named(tmp_path: Path):
    (tmp_path / "one.json").write_text(json.dumps(file("a" * 40) | {"benchmarks": []}))
    with pytest.raises(StoreError, match="holds no benchmark, as with --benchmark-disable"):
        tracking.take_in([tmp_path / "one.json"], tmp_path / "history")


def test_a_folder_without_files_is_a_sentence(tmp_path: Path):
    with pytest.raises(StoreError, match=r"no \.json file below"):
        tracking.take_in([tmp_path], tmp_path / "history")
