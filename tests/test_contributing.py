"""CONTRIBUTING keeps its promises: it is short, and the backend and the study it shows work without touching another file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from results import store
from tests.lstm_bench.user_project import installed

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def test_it_is_short():
    assert len(TEXT.splitlines()) < 100


@pytest.fixture
def toy(tmp_path: Path) -> dict[str, str]:
    """The environment in which the one file that CONTRIBUTING shows is a backend."""
    found = re.search(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    assert found
    (tmp_path / "backends").mkdir()
    (tmp_path / "backends" / "toy.py").write_text(found[1])
    return os.environ | {"LSTM_BENCH_BACKENDS": str(tmp_path / "backends"), "TMPDIR": str(tmp_path)}


def test_one_file_adds_a_backend_everywhere(toy: dict[str, str], tmp_path: Path):
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
    run = subprocess.run(command, cwd=ROOT, env=toy, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stdout
    assert re.search(r"[1-9]\d* passed", run.stdout), run.stdout


def test_two_files_add_a_study_everywhere(tmp_path: Path):
    code = installed(tmp_path / "code")
    shown = dict(
        re.findall(r"^`((?:bench|analysis)/studies/width/\w+\.py)`:\n\n```python\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE)
    )
    assert len(shown) == 2
    for name, text in shown.items():
        (code / name).parent.mkdir(exist_ok=True)
        (code / name).write_text(text)
        (code / name).with_name("__init__.py").touch()

    def lstm_bench(*arguments: object) -> str:
        command = [sys.executable, "-P", "-m", "lstm_bench", *map(str, arguments)]
        variables = os.environ | {"PYTHONPATH": str(code)}
        return subprocess.run(
            command, env=variables, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=120
        ).stdout.strip()

    assert "width" in json.loads(lstm_bench("list", "--json"))["studies"]
    options = ("--scale", "smoke", "--backend", "numpy", "--out", tmp_path / "out")
    run = store.read(Path(lstm_bench("run", "width", *options)))
    measured = [record for record in run.records if (record.study, record.backend) == ("width", "numpy")]
    assert [record.status for record in measured] == ["ok"] * 3
    page = Path(lstm_bench("report", run.path, "--to", tmp_path / "report")).read_text()
    assert "One step over the width" in page and "Medians of all samples of a replicate." in page
