"""The public Python API: what it exports, what it imports, and that it does what the commands do."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import lstm_bench
from impls import Unavailable, UnknownName
from lstm_bench import api
from results import store
from results.store import StoreError

HEAVY = ("numpy", "pandas", "torch", "jax", "matplotlib", "scipy", "seaborn", "pyarrow")
ROOT = Path(__file__).parents[2]


def imported_by(program: str, folder: Path) -> set[str]:
    """The heavy packages in sys.modules after a program, in a process of its own."""
    ended = (
        f"import atexit, json, sys; atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr)); {program}"
    )
    answer = subprocess.run(
        [sys.executable, "-c", ended], cwd=folder, capture_output=True, text=True, env=_environment(), timeout=120
    )
    assert answer.returncode == 0, answer.stderr
    return set(HEAVY) & set(json.loads(answer.stderr.splitlines()[-1]))


def _environment() -> dict[str, str]:
    import os

    return os.environ | {"PYTHONPATH": str(ROOT)}


COMMAND = "from lstm_bench.__main__ import main; sys.argv = ['lstm-bench', *{arguments!r}]; main()"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["list"], ["run", "--help"], ["list", "--json"]], ids=" ".join
)
def test_commands_that_only_tell_import_nothing_heavy(tmp_path, arguments):
    assert imported_by(COMMAND.format(arguments=arguments), tmp_path) == set()


def test_importing_the_package_imports_nothing_heavy(tmp_path):
    assert imported_by("import lstm_bench; dir(lstm_bench); lstm_bench.__version__", tmp_path) == set()


def test_a_heavy_import_would_be_seen(tmp_path):
    assert imported_by("import numpy", tmp_path) == {"numpy"}


def test_names_are_those_of_all_and_no_module_stands_in_for_a_function():
    for module in pkgutil.walk_packages(lstm_bench.__path__, "lstm_bench."):
        if module.name != "lstm_bench.__main__":
            importlib.import_module(module.name)
    assert lstm_bench.compare is api.compare and lstm_bench.run is api.run and lstm_bench.load is api.load
    assert lstm_bench.measure.__module__ == "lstm_bench.measuring"
    assert isinstance(lstm_bench.__version__, str)
    assert set(lstm_bench.__all__) <= set(dir(lstm_bench))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lstm_bench.nothing  # noqa: B018
    for name in lstm_bench.__all__:
        value = getattr(lstm_bench, name)
        assert isinstance(value, str) or value.__doc__


def test_a_star_import_brings_the_names():
    names: dict[str, object] = {}
    exec("from lstm_bench import *", names)
    assert set(lstm_bench.__all__) <= names.keys()


def test_run_measures_as_the_command_does_and_load_reads_it(tmp_path):
    run = lstm_bench.run("smoke", backends=["numpy"], out=tmp_path, where=["phase=forward"], replicates=1)
    assert run.finished and run.path.is_relative_to(tmp_path)
    assert {record.backend for record in run.records if record.study == "throughput"} == {"numpy"}
    assert lstm_bench.load(out=tmp_path).records == run.records
    assert lstm_bench.load(run.path).header == run.header == store.read(run.path).header


@pytest.mark.parametrize(("call", "error", "said"), [
    (lambda out: lstm_bench.run("nothing", out=out), UnknownName, "nothing"),
    (lambda out: lstm_bench.run("gpu", out=out), Unavailable, "GPU"),
    (lambda out: lstm_bench.load(out=out / "nowhere"), StoreError, "nowhere"),
    (lambda out: lstm_bench.load(out / "no.jsonl"), StoreError, "no.jsonl"),
    (lambda out: lstm_bench.compare("backend:numpy", "main", out=out), ValueError, "cannot compare"),
])  # fmt: skip
def test_wrong_arguments_raise_what_the_command_line_tells(tmp_path, call, error, said):
    with pytest.raises(error, match=said):
        call(tmp_path)
    assert not list(tmp_path.iterdir())


def test_compare_decides_as_the_command_does():
    """Two stored runs, so that nothing is measured."""
    folder = next(path for path in sorted(store.COMPARISONS.iterdir()) if path.name == "slow-down")
    base, new = (str(path) for path in sorted(folder.rglob("*.jsonl"))[:2])
    outcome = lstm_bench.compare(base, new)
    command = [sys.executable, "-m", "lstm_bench", "compare", base, new, "--json"]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert said.returncode == outcome.exit_code
    assert len(json.loads(said.stdout)["rows"]) == len(outcome.rows) > 0


def test_files_of_the_current_folder_that_stand_in_for_ours_are_named(tmp_path):
    """Where they were imported first: later ones are not found before ours."""
    (tmp_path / "results.py").write_text("mine = 1\n")
    program = "import sys, results; sys.path.append(sys.argv[1]); import lstm_bench; lstm_bench.run('smoke')"
    answer = subprocess.run(
        [sys.executable, "-c", program, str(ROOT)], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 1 and "ForeignPackage" in answer.stderr
    assert str(tmp_path / "results.py") in answer.stderr and str(ROOT / "results") in answer.stderr
