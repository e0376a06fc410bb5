"""The commands of the tutorials work as they are written: at smoke size, and those for a GPU with --dry-run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lstm_bench.errors import ExitCode
from results import store
from tests.lstm_bench.user_project import FAST, SLOW, UserProject, installed

ROOT = Path(__file__).parent.parent
TUTORIALS = ROOT / "docs" / "tutorials"
SMALL = ("--where", "phase=forward")  # of a suite's three cases
Shown = tuple[list[str], subprocess.CompletedProcess[str]]


def blocks(page: str, language: str = "") -> list[str]:
    """The fenced blocks of a tutorial in a language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", (TUTORIALS / f"{page}.md").read_text(), re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def commands(page: str) -> list[list[str]]:
    """Every command line of lstm-bench that a tutorial shows in a block, without its name."""
    joined = "\n".join(blocks(page)).replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in joined.splitlines() if line.startswith("lstm-bench ")]
    assert lines
    return [words[1:] for words in lines]


def at_smoke_size(words: list[str]) -> list[str]:
    """The command as a test can afford it: suites and studies at the scale of smoke.

    With `--dry-run` is planned what is for a GPU, and what starts PyTorch once a pair; a comparison is measured in the gate.
    """
    if "gpu" in words or words[:2] == ["compare", "backend:torch"]:
        return words if "--dry-run" in words else [*words, "--dry-run"]
    if words[0] == "calibrate":
        return [*words, "--suite", "smoke", *SMALL, "--pairs", "5"]
    if "--suite" in words:  # by the minimum, which is exact of the backend below, however busy the machine is
        return [*words, "--suite", "smoke", *SMALL, *(["--statistic", "min"] if words[0] == "compare" else [])]
    if words[:2] == ["run", "gradients"] and "--dry-run" not in words:
        return [*words[:2], "--scale", "smoke", "--backend", "numpy", "--where", "probe=controls"]
    return words


def carry_out(page: str, folder: Path, **variables: str) -> list[Shown]:
    """All commands of a tutorial, one after the other, in a folder, their results in it too."""
    shown = []
    for words in commands(page):
        line = [sys.executable, "-m", "lstm_bench", *at_smoke_size(words)]
        values = os.environ | {"PYTHONPATH": str(ROOT), "LSTM_BENCH_RESULTS": str(folder / "results"), "TMPDIR": str(folder)}
        shown.append(
            (words, subprocess.run(line, cwd=folder, env=values | variables, capture_output=True, text=True, timeout=200))
        )
    return shown


def codes(shown: list[Shown]) -> list[tuple[str, int]]:
    return [(words[0], run.returncode) for words, run in shown]


def assert_shown(block: str, printed: str) -> None:
    """Every line of a block is among what a command printed, whichever way lines are broken."""
    flat = re.sub(r"\s+", " ", printed)
    assert [line for line in block.splitlines() if re.sub(r"\s+", " ", line.strip()) not in flat] == []


def test_two_backends_are_compared_on_a_gpu(tmp_path: Path):
    page = "compare-two-backends-on-my-gpu"
    (tmp_path / "results").mkdir()
    planned = [words for words in commands(page) if words[0] in ("compare", "run")]
    assert [words[0] for words in commands(page)] == ["compare", "compare", "calibrate", "run", "report"]
    assert all("gpu" in words for words in planned)
    for words in planned:
        run = subprocess.run(
            [sys.executable, "-m", "lstm_bench", *at_smoke_size(words)], cwd=tmp_path, capture_output=True, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=100,
        )  # fmt: skip
        assert run.returncode == 0 and "Nothing was measured." in run.stdout, run.stderr
        if words[0] == "compare":
            (block,) = blocks(page, "text")
            assert_shown(block, run.stdout)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """A folder with the backend that the tutorial shows."""
    (block,) = blocks("add-my-kernel", "python")
    (tmp_path / "backends").mkdir()
    (tmp_path / "backends/mine.py").write_text(block)
    return tmp_path


def test_a_kernel_is_added_by_one_file(kernel: Path):
    shown = carry_out("add-my-kernel", kernel, LSTM_BENCH_BACKENDS=str(kernel / "backends"))
    assert codes(shown) == [("run", 0), ("show", 0), ("compare", 0), ("compare", 0), ("run", 0)], shown
    run = store.read(Path(shown[0][1].stdout.strip()))
    mine = {record.parameters["phase"]: record.status for record in run.records if record.backend == "mine"}
    assert mine == {"forward": "ok", "forward_backward": "ok", "step": "ok"}
    assert "mine" in shown[1][1].stdout
    compared, planned = shown[2][1], shown[3][1]
    assert "backends: mine, torch\n" in compared.stdout and "backends: cudnn, mine\n" in planned.stdout


def test_a_wrong_kernel_is_not_timed(kernel: Path):
    file = kernel / "backends/mine.py"
    right = file.read_text()
    file.write_text(right.replace("i, f, g, o = ", "f, i, g, o = "))
    assert file.read_text() != right
    variables = os.environ | {"LSTM_BENCH_BACKENDS": str(file.parent), "TMPDIR": str(kernel)}
    asked = ("run", "smoke", "--backend", "mine", "--where", "phase=forward", "--out", str(kernel / "out"))
    run = subprocess.run(
        [sys.executable, "-m", "lstm_bench", *asked], env=variables, capture_output=True, text=True, timeout=100
    )
    records = [record for record in store.read(Path(run.stdout.strip())).records if record.backend == "mine"]
    assert run.returncode == 1
    assert [(record.status, record.kind, record.measurements) for record in records] == [("failed", "wrong", ())]


def test_a_pull_request_that_is_slower_is_found(tmp_path: Path):
    """In a repository whose last commit makes its backend 20 % slower."""
    project = UserProject(tmp_path / "project").with_backend(FAST)
    for message in ("Add it", "Change nothing", "Slow down"):
        project.with_backend(SLOW if message == "Slow down" else FAST)
        project.commit(message)
    values = {"PYTHONPATH": str(installed(tmp_path / "harness")), "LSTM_BENCH_RESULTS": str(tmp_path / "results")}
    shown = carry_out("gate-a-pull-request", project.folder, **values, TMPDIR=str(tmp_path))
    (plan, compared, calibrated, tracked, history, again) = (run for _, run in shown)
    assert plan.returncode == 0 and "backends: mine\n" in plan.stdout and "Nothing was measured." in plan.stdout
    assert compared.returncode == ExitCode.SLOWER, compared.stdout + compared.stderr
    assert "SLOWER" in (project.folder / "comment.md").read_text()
    assert calibrated.returncode == tracked.returncode == history.returncode == again.returncode == 0, tracked.stderr
    assert tracked.stderr.count("measured") >= 2 and "mine" in history.stdout
    assert "calibration: none here" in plan.stdout and "calibration: none here" not in again.stdout


def test_the_script_of_the_gate_ends_with_the_verdict(tmp_path: Path):
    """An undecided comparison is a warning; any other code is that of the check."""
    (script,) = blocks("gate-a-pull-request", "sh")
    for code, expected in ((0, 0), (1, 1), (3, 0), (12, 12)):
        (tmp_path / "lstm-bench").write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / "lstm-bench").chmod(0o755)
        values = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "BASE": "a", "HEAD": "b"}
        run = subprocess.run(["bash", "-e", "-c", script], env=values, capture_output=True, text=True)
        assert run.returncode == expected and ("::warning::" in run.stdout) == (code == 3)


def test_the_gradient_study_is_read(tmp_path: Path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results/runs").symlink_to(ROOT / "results/runs")
    stored, report, plan, measured, claims = (
        subprocess.CompletedProcess(words, run.returncode, run.stdout, run.stderr)
        for words, run in carry_out("read-the-gradient-study", tmp_path, LSTM_BENCH_RESULTS=str(tmp_path / "own"))
        if words[0] in ("claims", "report", "run")
    )
    assert [run.returncode for run in (stored, report, plan, measured, claims)] == [0] * 5, measured.stderr
    (block,) = blocks("read-the-gradient-study", "text")
    assert_shown(block, stored.stdout)
    assert (tmp_path / "report/report.html").exists() and "Nothing was measured." in plan.stdout
    assert "probe=controls" in Path(measured.stdout.strip()).read_text() and "not measured." in claims.stdout
