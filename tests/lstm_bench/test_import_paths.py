"""A user's files named as our packages are do not stand in for them, in the command or in its workers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.processes.code import ROOT
from results import store

THEIRS = ("impls.py", "bench.py", "analysis.py", "results/__init__.py")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A current folder with a file for each of our names, which ends whatever imports it."""
    made = tmp_path / "mine"
    for name in THEIRS:
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("raise SystemExit('the file of the user was imported')\n", encoding="utf-8")
    return made


def run(folder: Path, python_path: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"PYTHONPATH": python_path, "TMPDIR": str(folder.parent)}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=variables, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("python_path", [str(ROOT), f".{os.pathsep}{ROOT}"], ids=["current folder", "and on PYTHONPATH"])
@pytest.mark.parametrize("start", [
    ("-m", "lstm_bench"), ("-c", "import sys; from lstm_bench.__main__ import main; sys.exit(main())"),
], ids=["module", "console script"])  # fmt: skip
def test_our_packages_win_over_the_files_of_a_user(folder: Path, python_path: str, start: tuple[str, ...]):
    for arguments in (
        ("run", "throughput", "--scale", "smoke", "--where", "phase=step", "--backend", "numpy", "--out", "out"),
        ("show", "--out", "out"),
    ):
        answer = run(folder, python_path, *start, *arguments)
        assert answer.returncode == 0, answer.stderr
    (path,) = store.find(folder / "out")
    records = [record for record in store.read(path).records if record.backend == "numpy"]
    assert [record.status for record in records] == ["ok"], "the worker was safe too"


@pytest.mark.parametrize("name", ["impls", "bench", "analysis", "results"])
def test_a_package_from_elsewhere_is_refused_with_both_paths(folder: Path, name: str):
    """As where something imported it before, or finds modules before Python's path does."""
    place = folder / "elsewhere" / f"{name}.py"
    program = (
        "import sys, types; import lstm_bench\n"
        f"theirs = types.ModuleType({name!r}); theirs.__file__ = {str(place)!r}; sys.modules[{name!r}] = theirs\n"
        "from lstm_bench.__main__ import main\n"
        "sys.argv = ['lstm-bench', 'list']; main()"
    )
    answer = run(folder, str(ROOT), "-c", program)
    assert answer.returncode == 2 and "Traceback" not in answer.stderr
    assert str(place) in answer.stderr and str(ROOT / name) in answer.stderr
