"""Results go to the current folder, or where LSTM_BENCH_RESULTS or --out says; never beside the code, perhaps installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.processes.code import ROOT

RUN = "run throughput --scale smoke --backend numpy --where hidden_size=32 --where phase=forward --replicates 1".split()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages alone, as an installation has them in its site-packages."""
    folder = tmp_path_factory.mktemp("site-packages")
    for package in ("impls", "bench", "results", "analysis", "lstm_bench"):
        ignored = shutil.ignore_patterns("__pycache__", "runs", "comparisons", "certificates", "history", "asv")
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    return folder


def lstm_bench(installed: Path, cwd: Path, *arguments: str, results: Path | None = None) -> str:
    variables = {name: value for name, value in os.environ.items() if name != "LSTM_BENCH_RESULTS"}
    variables |= {"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    variables |= {"LSTM_BENCH_RESULTS": str(results)} if results else {}
    program = f"import sys; sys.path.insert(0, {str(installed)!r}); from lstm_bench.__main__ import main; main()"
    command = [sys.executable, "-P", "-c", program, *arguments]
    run = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_a_run_is_kept_in_the_current_folder_and_found_there(installed: Path, tmp_path: Path):
    before = files(installed)
    printed = lstm_bench(installed, tmp_path, *RUN).split()[-1]
    (kept,) = (tmp_path / "results" / "runs").rglob("*.jsonl")
    assert (tmp_path / printed).samefile(kept)
    assert json.loads(lstm_bench(installed, tmp_path, "show", "--json"))
    assert files(installed) == before
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert json.loads(lstm_bench(installed, elsewhere, "show", "--json", results=tmp_path / "results"))
    assert json.loads(lstm_bench(installed, elsewhere, "show", "--json", "--out", str(tmp_path / "results/runs")))
    with pytest.raises(AssertionError, match="no results at results/runs: no such folder; measure first"):
        lstm_bench(installed, elsewhere, "show")


def test_in_the_root_of_a_checkout_its_own_runs_are_found():
    found = "from results import store; print(len(store.find(store.ROOT)))"
    variables = {name: value for name, value in os.environ.items() if name != "LSTM_BENCH_RESULTS"}
    run = subprocess.run([sys.executable, "-c", found], cwd=ROOT, env=variables, capture_output=True, text=True, check=True)
    assert int(run.stdout) == len(list((ROOT / "results" / "runs").rglob("*.jsonl"))) > 0
