"""Without a package that it needs, the command line says in one line what to install, and ends with exit code 2."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bench.processes.code import ROOT
from lstm_bench.__main__ import REQUIRED

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# The search of installed packages as if some were not there.
HIDE = """
import importlib.machinery, sys
usual = importlib.machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in {hidden!r} else usual(name, path, target)
importlib.machinery.PathFinder.find_spec = find_spec
sys.argv[0] = "lstm-bench"
from lstm_bench.__main__ import main
main()
"""


def without(hidden: set[str], *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", HIDE.format(hidden=hidden), *arguments]
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=100)


def test_what_is_required_is_what_an_installation_brings():
    assert sorted(REQUIRED.values()) == sorted(re.split(r"[><=]", line)[0] for line in PROJECT["dependencies"])


@pytest.mark.parametrize(
    ("hidden", "arguments", "said"),
    [
        ({"typer"}, ["--help"], "lstm-bench needs typer, which is not installed here; install with: pip install typer"),
        ({"typer", "rich", "pandas"}, ["list"], "lstm-bench needs typer, .*: pip install pandas rich typer"),
        ({"pandas"}, ["show"], "lstm-bench needs pandas, .*: pip install pandas"),
    ],
)
def test_one_line_says_what_to_install(hidden: set[str], arguments: list[str], said: str):
    run = without(hidden, *arguments)
    assert (run.returncode, run.stdout) == (2, "")
    assert re.fullmatch(f"error: {said}\n", run.stderr), run.stderr


def test_without_any_framework_everything_that_is_read_is_read():
    frameworks = {"torch", "jax", "jaxlib", "flax", "onnx", "onnxruntime", "openvino", "cuda", "asv", "otava"}
    for arguments in (["--help"], ["list"], ["list", "quick"], ["show"], ["claims"], ["report", "--help"]):
        run = without(frameworks, *arguments)
        assert run.returncode == 0, run.stderr
