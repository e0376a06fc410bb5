"""The public Python API: what it exports, what it imports, and that it does what the commands do."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import lstm_bench
from analysis.statistics.ratios import UnknownStatistic
from bench.harness.case import InvalidFilter
from bench.harness.plan import InvalidPlan
from bench.harness.session import NothingToResume
from impls import Unavailable, UnknownName
from lstm_bench import api
from lstm_bench.commands import regression_commands
from lstm_bench.commands.app import app
from lstm_bench.commands.fleet import NotOnAFleet
from results import store
from results.store import Corrupt, StoreError


@pytest.fixture(autouse=True)
def a_lock_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    """Whoever else is measuring on this machine: the lock lies in the folder of temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("lock")))


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
    return os.environ | {"PYTHONPATH": str(ROOT)}


COMMAND = "from lstm_bench.__main__ import main; sys.argv = ['lstm-bench', *{arguments!r}]; main()"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["list"], ["list", "--json"], ["doctor", "--help"], ["run", "--help"], ["compare", "--help"]],
    ids=" ".join,
)
def test_commands_that_only_tell_import_nothing_heavy(tmp_path, arguments):
    assert imported_by(COMMAND.format(arguments=arguments), tmp_path) == set()


def test_importing_the_package_imports_nothing_heavy(tmp_path):
    assert imported_by("import lstm_bench; dir(lstm_bench); lstm_bench.__version__", tmp_path) == set()


def test_a_heavy_import_would_be_seen(tmp_path):
    assert imported_by("import numpy", tmp_path) == {"numpy"}


def test_public_names_are_all_and_hide_no_function():
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


def test_run_measures_as_the_command_does_and_load_reads_it(tmp_path, capsys):
    run = lstm_bench.run("smoke", backends="numpy", out=tmp_path, where="phase=forward", replicates=1)
    assert run.finished and run.path.is_relative_to(tmp_path)
    assert {record.backend for record in run.records if record.study == "throughput"} == {"numpy"}
    assert lstm_bench.load(out=tmp_path).records == run.records
    assert lstm_bench.load(run.path).header == run.header == store.read(run.path).header
    assert lstm_bench.load(run.path.parent) == run
    samples = lstm_bench.load(run.path, as_frame=True)
    (time,) = (
        item for record in run.records for item in record.measurements if (record.backend, item.metric) == ("numpy", "time")
    )
    of_time = samples[(samples["backend"] == "numpy") & (samples["metric"] == "time")]
    assert of_time["value"].tolist() == list(time.samples) and set(of_time["unit"]) == {"s"}
    said = capsys.readouterr()
    (case,) = {record.case for record in run.records if record.study == "throughput"}
    assert " 0 failed in " in said.err and case in said.err and said.out == ""
    again = lstm_bench.run("smoke", backends="null", out=tmp_path, where="phase=step", show=False)
    assert capsys.readouterr() == ("", "")
    with pytest.raises(StoreError, match="holds 2 runs; name one of them"):
        lstm_bench.load(tmp_path)
    assert lstm_bench.load(out=tmp_path) == again


def test_run_and_its_command_call_the_same_function(tmp_path, monkeypatch):
    heard = []

    def measured(listener, say, what, **options):
        heard.append((what, options | {name: list(options[name]) for name in ("backends", "where")}))
        raise UnknownName("suite", "nothing", [])

    monkeypatch.setattr(api, "measured_run", measured)
    given = dict(threads=2, replicates=3, scale="cpu", seed=4, corpus=tmp_path / "text", resume=True)
    with pytest.raises(UnknownName):
        lstm_bench.run("memory", backends=["numpy"], where=["batch=1"], out=str(tmp_path), time_budget=90.0, **given)
    line = ["memory", "--backend", "numpy", "--where", "batch=1", "--out", str(tmp_path), "--time-budget", "90s", "--resume"]
    line += ["--threads", "2", "--replicates", "3", "--scale", "cpu", "--seed", "4", "--corpus", str(tmp_path / "text")]
    with pytest.raises(UnknownName):
        app(["run", *line], standalone_mode=False)
    assert heard[0] == heard[1] and len(heard[0][1]) == 10


def test_compare_and_its_command_take_the_same_options(monkeypatch):
    """Whatever the command can be told, the function can; but for what it prints."""
    spelled = {"backend": "backends"}
    command = {spelled.get(name, name) for name in inspect.signature(regression_commands.compare).parameters}
    assert command - {"markdown", "as_json", "dry_run", "on_fleet"} == inspect.signature(api.compare).parameters.keys() - {
        "show"
    }
    heard = []
    monkeypatch.setattr(regression_commands, "compared", lambda *sides, **options: heard.append((sides[:2], options)) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        lstm_bench.compare("main", Path("there"), backends="numpy", where=["batch=1"], statistic="min", seed=3, memory=False)
    (sides, options), *_ = heard
    assert sides == ("main", "there") and options["backend"] == ["numpy"] and options["where"] == ["batch=1"]
    assert (options["statistic"], options["seed"], options["memory"]) == ("min", 3, False)


@pytest.mark.parametrize(("call", "error", "said"), [
    (lambda out: lstm_bench.run("nothing", out=out), UnknownName, "nothing"),
    (lambda out: lstm_bench.run("gpu", out=out), Unavailable, "GPU"),
    (lambda out: lstm_bench.run("smoke", out=out, backends="trch"), UnknownName, "did you mean 'torch'"),
    (lambda out: lstm_bench.run("smoke", out=out, where="hidden_size=wide"), InvalidFilter, "hidden_size is a number"),
    (lambda out: lstm_bench.run("memory", out=out, scale="nowhere"), UnknownName, "no suite 'nowhere'"),
    (lambda out: lstm_bench.run("smoke", out=out, threads=0), InvalidPlan, "threads must be .* at least 1; got 0"),
    (lambda out: lstm_bench.run("smoke", out=out, replicates=-1), InvalidPlan, "replicates must be .* at least 1; got -1"),
    (lambda out: lstm_bench.run("smoke", out=out, replicates=1.5), InvalidPlan, "got 1.5"),
    (lambda out: lstm_bench.run("smoke", out=out, time_budget=0), InvalidPlan, "of more than 0; got 0"),
    (lambda out: lstm_bench.run("smoke", out=out, time_budget="10m"), InvalidPlan, "of seconds of more than 0; got '10m'"),
    (lambda out: lstm_bench.run(resume=True, out=out), NothingToResume, "no unfinished run"),
    (lambda out: lstm_bench.load(out), StoreError, "holds no .jsonl file"),
    (lambda out: lstm_bench.load(ROOT / "README.md"), Corrupt, "README.md is no run"),
    (lambda out: lstm_bench.compare("backend:numpy", "backend:trch", out=out), UnknownName, "did you mean 'torch'"),
    (lambda out: lstm_bench.compare("HEAD", out=out, statistic="mean"), UnknownStatistic, "no statistic 'mean'"),
    (lambda out: lstm_bench.compare("HEAD", out=out, threads=0), InvalidPlan, "threads"),
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
    outcome = lstm_bench.compare(Path(base), new)
    command = [sys.executable, "-m", "lstm_bench", "compare", base, new, "--json"]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert said.returncode == outcome.exit_code
    assert len(json.loads(said.stdout)["rows"]) == len(outcome.rows) > 0


@pytest.mark.parametrize("theirs", ["results/__init__.py", "analysis.py"])
@pytest.mark.parametrize("imported", [False, True], ids=["not imported", "imported before"])
@pytest.mark.parametrize("call", ["run('smoke')", "load()", "compare('HEAD')", "measure({'f': int})", "LSTM(1, 1)"])
def test_foreign_packages_are_named_with_both_paths(tmp_path, theirs, imported, call):
    """As in a script of the user's beside a `results` of their own, whose folder Python searches first."""
    (tmp_path / theirs).parent.mkdir(exist_ok=True)
    (tmp_path / theirs).write_text("mine = 1\n")
    name = Path(theirs).parts[0].removesuffix(".py")
    answer = in_folder(tmp_path, f"import {name}\n" * imported + f"import lstm_bench; lstm_bench.{call}")
    assert answer.returncode == 1, answer.stderr
    said = answer.stderr.splitlines()[-1]
    assert said.startswith("lstm_bench.import_paths.ForeignPackage: "), answer.stderr
    assert str(tmp_path / theirs) in said and str(ROOT / name) in said


def test_the_api_does_not_change_pythons_path(tmp_path):
    program = (
        "import sys; before = list(sys.path); import lstm_bench\n"
        "lstm_bench.measure; lstm_bench.compare\n"
        "try: lstm_bench.load('nowhere')\n"
        "except RuntimeError: pass\n"
        "assert sys.path == before, sys.path"
    )
    answer = in_folder(tmp_path, program)
    assert answer.returncode == 0, answer.stderr


def in_folder(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """A program of a user's, run as a file of that folder."""
    (folder / "program.py").write_text(program + "\n")
    command = [sys.executable, "program.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=_environment(), timeout=60)


WITHOUT_TORCH = (
    "import importlib.machinery as machinery\n"
    "usual = machinery.PathFinder.find_spec\n"
    "def find_spec(name, path=None, target=None):\n"
    "    return None if name.partition('.')[0] == 'torch' else usual(name, path, target)\n"
    "machinery.PathFinder.find_spec = find_spec\n"
)


def test_without_pytorch_only_lstm_is_missing_with_a_remedy(tmp_path):
    program = (
        "from lstm_bench import *\n"
        "import lstm_bench\n"
        "print(sorted(name for name in ('run', 'load', 'compare', 'measure', '__version__', 'LSTM') if name in globals()))\n"
        "lstm_bench.LSTM"
    )
    answer = in_folder(tmp_path, WITHOUT_TORCH + program)
    assert answer.stdout == "['__version__', 'compare', 'load', 'measure', 'run']\n"
    assert answer.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: lstm_bench.LSTM needs PyTorch, which is not installed here; install it with: pip install torch"
    )
    with_torch = in_folder(tmp_path, "from lstm_bench import *; print(LSTM)")
    assert with_torch.stdout == "<class 'impls.cuda.torch.module.LSTM'>\n", with_torch.stderr


def test_a_fleet_is_asked_as_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: dict[str, object] = {}

    def run(address: str, what: str, listener: object, say: object, **options: object) -> list[object]:
        asked.update(options, address=address, what=what)
        return []

    monkeypatch.setattr("lstm_bench.commands.fleet.run", run)
    assert lstm_bench.run("smoke", backends="numpy", out=tmp_path, fleet="local:2", show=False) == []
    assert asked["address"] == "local:2" and asked["backends"] == ["numpy"] and asked["out"] == tmp_path
    with pytest.raises(NotOnAFleet, match="leave out fleet"):
        lstm_bench.run("smoke", fleet="local:2", time_budget=1.0)  # type: ignore[call-overload]
