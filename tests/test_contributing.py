"""CONTRIBUTING keeps its promises: under 50 lines, and the backend it shows works from one file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from results import store

TEXT = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text()


def test_it_is_short():
    assert len(TEXT.splitlines()) < 50


@pytest.fixture
def toy(tmp_path: Path) -> dict[str, str]:
    """The environment in which the one file that CONTRIBUTING shows is a backend."""
    found = re.search(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    assert found
    (tmp_path / "backends").mkdir()
    (tmp_path / "backends" / "toy.py").write_text(found[1])
    return os.environ | {"LSTM_BENCH_BACKENDS": str(tmp_path / "backends"), "TMPDIR": str(tmp_path)}


def test_one_file_makes_a_backend_that_is_listed_checked_measured_and_reported(toy: dict[str, str], tmp_path: Path):
    def lstm_bench(*arguments: object) -> str:
        command = [sys.executable, "-m", "lstm_bench", *map(str, arguments)]
        return subprocess.run(command, env=toy, check=True, capture_output=True, text=True, timeout=120).stdout.strip()

    assert json.loads(lstm_bench("list", "--json"))["backends"]["toy"] == "Toy: one LSTM layer, forward only, in plain NumPy."
    run = store.read(Path(lstm_bench("run", "smoke", "--backend", "toy", "--backend", "numpy", "--out", tmp_path / "out")))
    outcomes = {(record.parameters["phase"], record.status) for record in run.records if record.backend == "toy"}
    assert outcomes == {("forward", "ok"), ("forward_backward", "skipped"), ("step", "skipped")}
    page = Path(lstm_bench("report", run.path, "--to", tmp_path / "report"))
    assert "toy" in page.read_text()


def test_the_conformance_suite_finds_it(toy: dict[str, str]):
    command = [sys.executable, "-m", "pytest", "-q", "-k", "toy", "-p", "no:cacheprovider", "tests/impls/test_conformance.py"]
    root = Path(__file__).parent.parent
    run = subprocess.run(command, cwd=root, env=toy, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stdout
    assert re.search(r"[1-9]\d* passed", run.stdout), run.stdout
