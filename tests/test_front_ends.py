"""The command line, asv and pytest-benchmark are three readers of the same studies: they see equal sets of cases."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.asv_suite import throughput
from bench.harness import plan, study
from tests.lstm_bench.history_repository import History

ROOT = Path(__file__).parent.parent


def test_three_front_ends_see_equal_sets_of_cases():
    smoke = plan.make("smoke")
    by_command_line = {(case.key, backend) for case in smoke.cases(study.get("throughput")) for backend in smoke.compared()}
    assert by_command_line == by_asv() == by_pytest_benchmark()


def by_asv() -> set[tuple[str, str]]:
    """Imports the suite as asv does: under the folder's own name, from its file."""
    specification = importlib.util.spec_from_file_location("asv_suite.throughput", ROOT / "bench/asv_suite/throughput.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    keys, backends = module.Throughput.params
    return {(key, backend) for key in keys for backend in backends}


def by_pytest_benchmark() -> set[tuple[str, str]]:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/perf"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120).stdout
    ids = [line.partition("[")[2].rstrip("]") for line in listed.splitlines() if "[" in line]
    return {tuple(identity.split("/")) for identity in ids}


def test_asv_tracks_a_number_or_na_for_unsupported():
    key = next(iter(throughput.cases("throughput")))
    assert 0 < throughput.median_seconds("throughput", key, "numpy") < 1
    with pytest.raises(NotImplementedError, match="cuda"):
        throughput.median_seconds("throughput", key, "cudnn")


def test_asv_run_measures_and_keeps_results(tmp_path: Path):
    """As its users run it, in a repository of their own; one case of one backend, the others not chosen."""
    made = History(tmp_path / "project").with_code()
    shutil.copy(ROOT / "asv.conf.json", made.folder)
    commit = made.commit("only")

    def asv(*arguments: str) -> str:
        variables = os.environ | {"HOME": str(tmp_path), "PYTHONPATH": str(made.folder), "TMPDIR": str(tmp_path)}
        command = [sys.executable, "-m", "asv", *arguments, "--machine", "here"]
        run = subprocess.run(command, cwd=made.folder, env=variables, capture_output=True, text=True, timeout=200)
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    asv("machine", "--yes")
    key = next(iter(throughput.cases("throughput")))
    asv("run", "--python=same", "--launch-method=spawn", "--set-commit-hash", commit, "--bench", f"{key}.*numpy")
    (path,) = (made.folder / "results" / "asv" / "here").glob(f"{commit[:8]}-*.json")
    values = json.loads(path.read_text())
    ((name, columns),) = values["results"].items()
    seconds = [value for value in columns[0] if not math.isnan(value)]
    assert name == "throughput.Throughput.track_median_seconds" and len(seconds) == 1 and 0 < seconds[0] < 1
    assert len(columns[0]) == len(columns[1][0]) * len(columns[1][1]), "one place for every case and backend"


def test_asv_is_kept_away_from_the_harness():
    configuration = json.loads((ROOT / "asv.conf.json").read_text())
    assert configuration["benchmark_dir"] == "bench/asv_suite"
