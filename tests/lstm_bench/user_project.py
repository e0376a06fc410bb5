"""A repository of a user's own, with backends and no harness, for tests of what is measured over its revisions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.processes.code import ROOT
from tests.lstm_bench.history_repository import History

INSTALLED = ("impls", "bench", "results", "analysis", "lstm_bench")
DATA = ("__pycache__", "runs", "reference", "comparisons", "certificates", "history", "asv")
# Each call takes SECONDS by the clock, so that a slow-down of 20 % is one on every machine, however busy it is: the fastest of
# its calls takes exactly as long as it says. The results are NumPy's, so that they pass validation.
BACKEND = '''"""A user's backend."""

import time

from impls.backends import numpy as right

RUNS = ("numpy",)
DEVICES = ("cpu",)
SECONDS = {seconds}
refuses = right.refuses


class Network(right.Network):
    def forward(self):
        end = time.perf_counter() + SECONDS
        super().forward()
        while time.perf_counter() < end:
            pass


def load(spec, params, batch):
    return Network(spec, params, batch)
'''
FAST, SLOW = 0.5e-3, 0.6e-3


class UserProject(History):
    """A repository whose own `results` and `analysis` would break the harness if they were imported in its place."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.write("results/__init__.py", "raise RuntimeError('of the user')\n")
        self.write("analysis.py", "raise RuntimeError('of the user')\n")
        self.write(".gitignore", "__pycache__/\n")

    def write(self, path: str, text: str) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def with_backend(self, seconds: float = FAST, path: str = "backends/mine.py") -> UserProject:
        self.write(path, BACKEND.format(seconds=seconds))
        return self


def ten_commits(folder: Path, slow: int) -> tuple[UserProject, list[str]]:
    """Ten commits, of which number `slow` makes the backend 20 % slower; and their names, oldest first."""
    made, names = UserProject(folder), []
    for number in range(10):
        made.with_backend(SLOW if number >= slow else FAST)
        made.write("notes.txt", f"note {number}\n")
        names.append(made.commit(f"commit {number}"))
    return made, names


def installed(folder: Path) -> Path:
    """The harness as an installation has it: packages outside of any repository."""
    for package in INSTALLED:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns(*DATA))
    return folder


def command(
    harness: Path, folder: Path, *arguments: object, temporary: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """The command line of an installed lstm-bench in `folder`."""
    line = [sys.executable, "-m", "lstm_bench", *map(str, arguments)]
    values = {name: value for name, value in os.environ.items() if name != "LSTM_BENCH_BACKENDS"}
    values |= {"PYTHONPATH": str(harness), "TMPDIR": str(temporary)} | variables
    return subprocess.run(line, capture_output=True, text=True, timeout=240, env=values, cwd=folder)
