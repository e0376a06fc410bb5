"""What a caller's environment holds does not lead a worker, or git, elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.machine import git
from bench.processes import process
from bench.processes.code import HERE
from tests.lstm_bench.history_repository import History

LOCAL = subprocess.run(["git", "rev-parse", "--local-env-vars"], capture_output=True, text=True, check=True).stdout.split()
REDIRECTING = {
    **dict.fromkeys(LOCAL, "/nowhere"), "GIT_EDITOR": "false", "GIT_EXEC_PATH": "/nowhere", "TMPDIR": "/nowhere",
    "LANG": "tr_TR.UTF-8",
    "LC_NUMERIC": "de_DE.UTF-8", "LC_ALL": "tr_TR", "LANGUAGE": "tr", "JAX_PLATFORMS": "tpu", "JAX_PLATFORM_NAME": "tpu",
    "JAX_DEFAULT_DEVICE": "tpu", "PYTHONSTARTUP": "/nowhere", "PYTHONOPTIMIZE": "2", "PYTHONINSPECT": "1",
    "PYTHONHASHSEED": "7",
    "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0",
    "PYTHONPYCACHEPREFIX": "/nowhere", "PYTHONFAULTHANDLER": "1", "PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1",
    "PYTHONEXECUTABLE": "/nowhere", "PYTHONCASEOK": "1", "PYTHON_GIL": "1",
    "TEMP": "/nowhere", "TMP": "/nowhere",
}  # fmt: skip


@pytest.mark.parametrize("name", REDIRECTING)
def test_no_such_variable_of_the_caller_reaches_a_worker(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(name, REDIRECTING[name])
    given = process.environment(1, tmp_path)
    assert given.get(name) != REDIRECTING[name] or name in HERE.variables
    assert given["TMPDIR"] == str(process.temporary_folder(tmp_path)) and given["LC_ALL"] == "C.UTF-8"


def test_a_worker_starts_and_answers_under_all_of_them(tmp_path: Path):
    """Python itself would not start under some of them."""
    program = (
        "import json, os, sys, tempfile\nfrom pathlib import Path\n"
        f"os.environ.update(json.loads({json.dumps(json.dumps(REDIRECTING))}))\n"
        "from bench.machine import system\nfrom bench.processes.process import WorkerProcess\n"
        "worker = WorkerProcess('numpy', system.usable()[:1], Path(sys.argv[1]))\n"
        "worker.await_start(); print('started'); worker.close()\n"
    )
    answer = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=100)
    assert answer.returncode == 0 and answer.stdout == "started\n", answer.stderr


@pytest.mark.parametrize("hook", ["post-checkout", "post-index-change", "reference-transaction"])
def test_no_hook_of_a_repository_runs_in_our_worktrees(tmp_path: Path, hook: str):
    from bench.regression.revisions import Repository

    made = History(tmp_path / "project")
    (made.folder / "a").write_text("a")
    commit = made.commit("first")
    ran = tmp_path / "ran"
    script = made.folder / ".git" / "hooks" / hook
    script.parent.mkdir(exist_ok=True)
    script.write_text(f"#!/bin/sh\ntouch {ran}\n")
    script.chmod(0o755)
    with Repository(made.folder).checkout(commit) as worktree:
        assert (worktree / "a").read_text() == "a"
    assert not ran.exists()
    made.git("worktree", "add", "--quiet", str(tmp_path / "theirs"), commit)
    assert ran.exists(), "git itself does run it"


def test_a_commits_hook_that_measures_keeps_the_index(tmp_path: Path):
    """`track` in a pre-commit hook wrote the tree of another commit into the user's index."""
    made = History(tmp_path / "project")
    for name in ("first", "second"):
        (made.folder / name).write_text(name)
        made.commit(name)
    script = made.folder / ".git" / "hooks" / "pre-commit"
    script.parent.mkdir(exist_ok=True)
    program = (
        "from pathlib import Path; from bench.regression.revisions import Repository\n"
        "r = Repository(Path.cwd())\nwith r.checkout(r.resolve('HEAD~1')) as w: assert not (w / 'second').exists()\n"
    )
    (tmp_path / "program.py").write_text(program)
    root = Path(__file__).parents[3]
    script.write_text(f"#!/bin/sh\nPYTHONPATH={root} exec {sys.executable} {tmp_path / 'program.py'}\n")
    script.chmod(0o755)
    (made.folder / "third").write_text("third")
    made.commit("third")
    assert made.git("show", "--stat=80", "--format=%s", "HEAD").splitlines()[-1].strip().startswith("1 file changed")
    assert made.git("ls-tree", "--name-only", "HEAD").split() == ["first", "second", "third"] and not made.git(
        "status", "--short"
    )


def test_git_answers_in_english_whatever_the_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LANGUAGE", "de")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert "not a git repository" in str(git.ask(tmp_path, "status", seconds=30).failure)
    assert not set(git.variables(os.environ | dict.fromkeys(git.CHOOSING, "x"))) & set(git.CHOOSING)
