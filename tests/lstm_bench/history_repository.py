"""A git repository that holds this project's code, for tests that need revisions of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from bench.machine import environment
from bench.processes.code import ROOT
from bench.regression.revisions import Repository
from tests.analysis import history_synthetic

PACKAGES = (*environment.WORKER_PACKAGES, "lstm_bench")
TWICE = "\n_once = Network.forward\nNetwork.forward = lambda self: (_once(self), _once(self))[1]\n"


class History:
    """Commits on `main`, one second apart."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, 0
        folder.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "--initial-branch", "main")

    def git(self, *arguments: str) -> str:
        date = f"2026-01-01T00:{self.made // 60:02}:{self.made % 60:02}Z"
        who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER")
               for what, value in (("NAME", "A"), ("EMAIL", "a@example.org"), ("DATE", date))}  # fmt: skip
        run = subprocess.run(
            ["git", "-C", str(self.folder), *arguments], capture_output=True, text=True, check=True, env=os.environ | who
        )
        return run.stdout.strip()

    def commit(self, message: str) -> str:
        self.made += 1
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def with_code(self) -> History:
        """Copy the packages that a worker needs."""
        for package in PACKAGES:
            ignored = shutil.ignore_patterns(
                "__pycache__", "runs", "reference", "comparisons", "certificates", "history", "asv"
            )
            shutil.copytree(ROOT / package, self.folder / package, ignore=ignored)
        (self.folder / ".gitignore").write_text("__pycache__/\n")
        return self

    def slow_down(self) -> None:
        """From now on the numpy backend does its forward pass twice."""
        self.numpy_backend.write_text(self.numpy_backend.read_text() + TWICE)

    @property
    def numpy_backend(self) -> Path:
        return self.folder / "impls" / "backends" / "numpy.py"


def hundred_commits(folder: Path) -> tuple[Path, Repository]:
    """100 real commits, and the synthetic history under their names."""
    made = History(folder / "project")
    names = [made.commit(f"commit {number}") for number in range(100)]
    cases = ("flat", "drift", "dip", *history_synthetic.STEPS)
    history_synthetic.write(folder / "history", cases)
    renamed = dict(zip(history_synthetic.COMMITS, names, strict=True))
    for path in (folder / "history").rglob("*.jsonl"):
        text = path.read_text()
        old = json.loads(text.splitlines()[0])["environment"]["git"]["commit"]
        path.write_text(text.replace(old, renamed[old]))
    return folder / "history", Repository(made.folder)
