"""`--dry-run` says what would be measured, and measures nothing: no GPU, no worker, no file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.machine import environment
from lstm_bench.errors import ExitCode
from results import store
from tests.lstm_bench.user_project import UserProject

MIDDLE = ("--where", "hidden_size=512", "--where", "batch=32", "--where", "phase=forward_backward")
BOTH = ("--backend", "cuda", "--backend", "cudnn")
GPU = pytest.mark.skipif(environment.gpu_list() != [], reason="of a machine without a GPU")


def lstm_bench(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lstm_bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | variables)


@GPU
@pytest.mark.parametrize(("command", "said"), [
    (("run", "gpu", *MIDDLE, *BOTH), ["backends: cuda, cudnn\n", "predicted: about ", "forward_backward-bfloat16-cuda-graph"]),
    (("compare", "backend:cudnn", "backend:cuda", "--suite", "gpu", *MIDDLE), ["backends: cuda, cudnn\n", "first 5 pairs"]),
    (("track", "HEAD", "--suite", "gpu"), ["runs in the history", "for 1 of 1 commits", "captured in a CUDA graph"]),
    (("gpu-check",), ["is our kernel faster than cuDNN", "ends after 8 min", "backends: cuda, cudnn\n"]),
])  # fmt: skip
def test_a_plan_for_a_gpu_is_shown_without_one(command: tuple[str, ...], said: list[str], tmp_path: Path):
    shown = lstm_bench(*command, "--dry-run", "--out", tmp_path / "out")
    assert shown.returncode == 0 and shown.stderr == "", shown.stderr
    for part in (*said, "cannot be measured here: ", "no NVIDIA GPU", "Nothing was measured."):
        assert part in shown.stdout, part
    assert list(tmp_path.iterdir()) == []


def test_the_plan_is_what_a_run_then_records(tmp_path: Path):
    """Also the reason of each backend that is excluded."""
    asked = ("run", "smoke", "--backend", "numpy", "--backend", "cudnn", "--backend", "null")
    plan = (
        "import json, sys\nfrom lstm_bench import api\nfrom lstm_bench.views import dry_run\n"
        "print(json.dumps(dry_run.values(api.planned('smoke', ['numpy', 'cudnn']))))\n"
        "assert not {'torch', 'jax'} & set(sys.modules)\n"
    )
    found = json.loads(subprocess.run([sys.executable, "-c", plan], capture_output=True, text=True, check=True).stdout)
    run = store.read(Path(lstm_bench(*asked, "--out", tmp_path).stdout.strip()))
    planned = {(case["case"], name) for case in found["cases"] for name in case["backends"]}
    assert {(one.case, one.backend) for one in run.records if one.status == "ok" and one.backend != "null"} == planned
    skipped = {(one.backend, one.reason) for one in run.records if one.status == "skipped"}
    assert {(one["backend"], one["reason"]) for one in found["excluded"]} == skipped != set()


def test_a_backend_is_planned_without_being_imported(tmp_path: Path):
    (tmp_path / "mine.py").write_text('"""Mine."""\nDEVICES = ("cpu",)\nPACKAGE = "no_such_package"\nraise RuntimeError\n')
    shown = lstm_bench("run", "smoke", "--backend", "mine", "--dry-run", LSTM_BENCH_BACKENDS=str(tmp_path))
    assert shown.returncode == 0 and "backends: mine\n" in shown.stdout
    assert "not installed here: no_such_package, which mine needs: pip install no_such_package" in shown.stdout


def test_the_commits_that_track_would_measure_are_listed(tmp_path: Path):
    project = UserProject(tmp_path / "project").with_backend()
    names = [project.commit("Add it"), project.commit("Again")]
    options = ("--repository", project.folder, "--backends-path", "backends", "--suite", "smoke", "--out", tmp_path / "out")
    found = json.loads(lstm_bench("track", "HEAD", *options, "--dry-run", "--json").stdout)
    assert [(row["commit"], row["runs"]) for row in found["commits"]] == [(names[-1], 0)]
    assert {name for case in found["cases"] for name in case["backends"]} == {"mine"} and found["obstacle"] is None
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("command", "code"), [
    (("run", "nowhere"), ExitCode.USAGE), (("run", "smoke", "--where", "batch=77"), ExitCode.USAGE),
    (("run", "smoke", "--resume"), ExitCode.USAGE), (("gpu-check", "--autotune"), ExitCode.USAGE),
    (("compare", "HEAD", "backend:numpy"), ExitCode.USAGE), (("compare", "nothing", "HEAD"), ExitCode.UNKNOWN_REVISION),
])  # fmt: skip
def test_a_plan_that_could_not_be_carried_out_is_refused(command: tuple[str, ...], code: ExitCode):
    refused = lstm_bench(*command, "--dry-run")
    assert refused.returncode == code and refused.stderr.startswith("error: ") and refused.stdout == ""
