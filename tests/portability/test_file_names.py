"""Names of files that every file system takes: Windows refuses some characters and names, macOS and Windows ignore case."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from analysis.regression import calibration
from analysis.report import page as report
from bench.harness import gpu_check as gpu_check_plan
from bench.harness import plan, study
from bench.machine import environment
from bench.processes.code import ROOT
from bench.regression import comparison
from results import pytest_benchmark, store
from results.record import Header
from tests.portability.reading import RUN, STUDIES

RESERVED = {"con", "prn", "aux", "nul", *(f"{name}{number}" for name in ("com", "lpt") for number in range(1, 10))}


def refused(path: str) -> list[str]:
    """The parts of a path that Windows refuses."""
    return [
        part for part in path.split("/")
        if re.search(r'[<>:"|?*\\\x00-\x1f]', part) or part.endswith((".", " ")) or part.partition(".")[0].lower() in RESERVED
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["a/12:30.json", "a\\b", "aux.py", "runs/Nul", "what?", "end.", "a|b", "b*"])
def test_what_windows_refuses_is_found(path: str):
    assert refused(path)


def test_every_file_of_the_repository():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout
    names = [name for name in listed.split("\0") if name]
    assert len(names) > 500 and not [name for name in names if refused(name)]
    assert not [name for name, count in Counter(map(str.lower, names)).items() if count > 1]
    assert max(map(len, names)) < 150, "Windows takes 260 characters by default, the folder of the checkout among them"


def header(run: str, machine: str) -> Header:
    return Header(run=run, started="2026-01-01T00:00:00+00:00", protocol=2, machine=machine, environment={}, plan={})


@pytest.mark.parametrize("model", ["Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", "Apple M2 Pro", "AMD EPYC: 7B13 / 64?", "arm"])
def test_every_run_of_every_suite_and_study(model: str):
    machine = environment.machine_name({"cpu": {"model": model, "cores": 8}, "gpus": [], "memory_bytes": 1 << 34})
    made = [plan.make(name) for name in (*plan.offered(), *study.names())]
    made += [gpu_check_plan.make((), emulated) for emulated in (False, True)]
    for one in made:
        path = store.new_path(Path("results/runs"), header(f"{datetime.now(UTC):%H%M%S}-{one.name}", machine))
        assert not refused(path.as_posix())
    assert not refused(calibration.SUFFIX)


def test_both_runs_of_a_comparison():
    said = type("Said", (), {"protocol": 2, "machine": "m", "environment": {}})
    sides = {side: comparison.ComparisonSide("backend:torch", None, said, "torch") for side in comparison.SIDES}  # type: ignore[arg-type]
    for side in comparison.SIDES:
        made = comparison._header(side, sides, {}, datetime.now(UTC))
        assert not refused(store.new_path(Path("results/comparisons"), made).as_posix())


def test_what_pytest_benchmark_measured_elsewhere(tmp_path: Path):
    saved = tmp_path / "saved.json"
    saved.write_text(json.dumps({
        "machine_info": {"node": "n", "system": "Windows", "release": "11", "python_version": "3.12.1",
                         "cpu": {"brand_raw": "AMD: 7 <PRO> 5850U?", "count": 8}},
        "commit_info": {"id": "a" * 40, "dirty": False}, "datetime": "2026-01-02T03:04:05", "version": "5.1.0",
        "benchmarks": [{"fullname": "test.py::test[a:b]", "params": None, "stats": {"median": 0.01, "rounds": 7}}],
    }), encoding="utf-8")  # fmt: skip
    stored = pytest_benchmark.write(pytest_benchmark.read(saved), tmp_path / "history")
    assert stored is not None and not refused(stored.relative_to(tmp_path).as_posix())


@pytest.mark.parametrize("paths", [(ROOT / RUN,), tuple(sorted((ROOT / STUDIES).glob("*.jsonl")))], ids=["quick", "studies"])
def test_every_file_of_a_report(tmp_path: Path, paths: tuple[Path, ...]):
    report.build(paths, tmp_path)
    written = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 4 and not [name for name in written if refused(name)]
