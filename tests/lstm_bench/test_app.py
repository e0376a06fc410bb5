"""The command line as a person meets it: quick to answer, clear when asked for what is not there, plain in a pipe."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from bench.harness import plan, session, study
from impls import names
from lstm_bench.commands import command_groups
from lstm_bench.commands.app import app
from lstm_bench.commands.command_groups import GROUPS
from lstm_bench.views import progress, run_summary
from results import store


def lstm_bench(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lstm_bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | variables)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the NumPy backend, measured once for this file."""
    root = tmp_path_factory.mktemp("results")
    asked = ("run", "gradients", "--scale", "smoke", "--backend", "numpy", "--threads", 1)  # a backend and the reference
    run = lstm_bench(*asked, "--out", root, TMPDIR=str(root))
    assert run.returncode == 0, run.stderr
    return root


def test_help_answers_at_once():
    fastest = 9.0
    for _ in range(8):
        started = time.perf_counter()
        lstm_bench("--help")
        fastest = min(fastest, time.perf_counter() - started)
    assert fastest <= 0.3


def test_help_groups_every_command_with_an_example():
    said = lstm_bench("--help", COLUMNS="80").stdout
    assert max(map(len, said.splitlines())) <= 80
    places = [said.index(f"│ {name} ") for commands in GROUPS.values() for name in commands]
    assert places == sorted(places) and list(GROUPS["Start here"]) == ["run", "report", "compare"]
    titles = [said.index(f"─ {title} ─") for title in GROUPS]
    assert titles == sorted(titles) and said.count("Example: ") == len(places)
    grouped = {name for commands in GROUPS.values() for name in commands}
    assert grouped == set(typer.main.get_group(app).commands), "no command is in no group"


@pytest.mark.parametrize("example", [example for commands in GROUPS.values() for _, example in commands.values()])
def test_every_example_of_the_help_is_parsed(example: str):
    _, name, *arguments = shlex.split(example)
    command = typer.main.get_group(app).commands[name]
    assert command.make_context(name, list(arguments)).args == []
    if name in ("run", "list"):
        plan.make(arguments[0])


def test_the_choices_of_suites_shown_are_those_for_users():
    for arguments in (("run", "nowhere"), ("run", "memory", "--scale", "nowhere"), ("run", "--help")):
        answer = lstm_bench(*arguments)
        said = re.findall(r"[\w-]+", answer.stdout + answer.stderr)
        assert {"smoke", "quick"} <= set(said) and not {"many", "emulated", "grid"} & set(said), arguments


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("compare", "--help"), ("list",), ("list", "quick")])
def test_no_framework_is_imported_before_it_is_needed(arguments: tuple[str, ...]):
    program = (
        "import sys; sys.argv = ['lstm-bench', *sys.argv[1:]]\n"
        "from lstm_bench.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "found = {'torch', 'jax', 'flax', 'onnxruntime', 'pandas', 'matplotlib', *without} & set(sys.modules)\n"
        "assert not found, found"
    )
    program = f"without = {['numpy'] if '--help' in arguments else []}\n" + program
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True, timeout=60)


def test_list_names_suites_studies_and_backends():
    listed = json.loads(lstm_bench("list", "--json").stdout)
    assert set(listed["suites"]) == {"smoke", "quick", "cpu", "gpu"}, "internal suites are hidden"
    assert set(listed["studies"]) == set(study.names()) > {"throughput", "memory", "gradients"}
    assert set(listed["backends"]) == set(names())
    assert all(listed["backends"].values()), "a backend's file says in its first line what it is"


def test_list_shows_the_cases_that_pass_a_filter():
    found = json.loads(lstm_bench("list", "quick", "--where", "phase=step", "--json").stdout)
    assert found and all(case["phase"] == "step" for case in found)


@pytest.mark.parametrize(("arguments", "message"), [
    (("run", "quik"), "no suite or study 'quik' (did you mean 'quick'?)"),
    (("run", "quick", "--backend", "trch"), "no backend 'trch' (did you mean 'torch'?)"),
    (("run", "quick", "--where", "hidden_size=wide"), "hidden_size is a number, and 'wide' is not"),
    (("run", "quick", "--time-budget", "soon"), "cannot read 'soon' as a length of time; write it as 90s, 10m or 1h30m"),
    (("run", "smoke", "--out", "/proc/nowhere"), "choose a folder with --out"),
    (("show", "/nowhere"), "no results at /nowhere"),
    (("run", "--resume", "--out", "/nowhere"), "no results at /nowhere"),
])  # fmt: skip
def test_mistakes_are_answered_in_one_sentence_and_exit_code_two(arguments: tuple[str, ...], message: str, tmp_path: Path):
    answer = lstm_bench(*arguments, TMPDIR=str(tmp_path))
    assert answer.returncode == 2
    assert message in answer.stderr
    assert "Traceback" not in answer.stderr


def test_unmatched_sizes_are_an_error_without_traceback():
    """Cases are built, and matched, while a study is imported."""
    program = (
        "import sys; sys.argv = ['lstm-bench', 'list', 'scaling']\n"
        "from bench.studies import matching\n"
        "matching.by_parameters.__defaults__ = (1e-9,)\n"
        "from lstm_bench.__main__ import main\n"
        "main()"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert answer.returncode == 2 and "Traceback" not in answer.stderr
    assert re.match(r"error: no \w+ has \d+ parameters within 0.0%: the nearest, of width \d+, has \d+", answer.stderr)


def test_a_run_prints_only_its_file_on_standard_output(tmp_path):
    run = lstm_bench("run", "smoke", "--backend", "numpy", "--where", "phase=step", "--out", tmp_path, TMPDIR=str(tmp_path))
    assert Path(run.stdout.strip()).is_file()
    assert "\x1b" not in run.stdout + run.stderr, "no colours in a pipe"
    assert "\nlargest host memory of a worker: 0." in run.stderr
    assert "throughput lstm-I32-H32-T8-B1-step-float32-cpu #1  numpy" in run.stderr


def test_a_run_with_failures_exits_with_one(tmp_path):
    doubles = Path(__file__).parent.parent / "backends"
    run = lstm_bench(
        "run", "smoke", "--backend", "raising", "--where", "phase=forward", "--out", tmp_path,
        TMPDIR=str(tmp_path), LSTM_BENCH_BACKENDS=str(doubles),
    )  # fmt: skip
    assert run.returncode == 1
    assert "raising failed (error): ArithmeticError: the widget came loose" in run.stderr


@pytest.mark.parametrize(("name", "where"), [("quality", "size=small"), ("scaling", "sweep=single")])
def test_a_gpu_scale_without_a_gpu_skips_with_the_reason(
    name: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As where NVML lists a GPU that CUDA cannot see: one study trained by its own code, one by a backend, and ceilings."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    chosen = plan.make(name, where=[where, "cell=lstm_stack"], scale="gpu", replicates=1)
    path, footer = session.start(chosen, tmp_path, progress.PlainDisplay())
    last = list(run_summary.lines(store.read(path), footer))[-1]
    assert last.startswith("no case was measured: "), last
    assert "orch finds no CUDA device here; run on a machine with an NVIDIA GPU" in last
    records = [record for record in store.read(path).records if record.study != "overhead"]
    assert {record.status for record in records} == {"skipped"} and {record.study for record in records} >= {name}


@pytest.mark.parametrize("arguments", [
    ("run", "gpu"), ("run", "quality", "--scale", "gpu"), ("calibrate", "--suite", "gpu"),
    ("compare", "backend:torch", "backend:cudnn", "--suite", "gpu"),
])  # fmt: skip
def test_gpu_commands_are_refused_before_torch_is_imported(arguments: tuple[str, ...], tmp_path: Path):
    program = (
        "import sys; sys.argv = ['lstm-bench', *sys.argv[1:]]\n"
        "from bench.machine import environment; environment.gpu_list = lambda: []\n"
        "from lstm_bench.__main__ import main\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", program, *arguments, "--out", str(tmp_path / "out")]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | {"TMPDIR": str(tmp_path)})
    assert (answer.returncode, answer.stdout) == (2, "False\n"), answer.stderr
    assert len(answer.stderr.splitlines()) == 1 and "lstm-bench run quick" in answer.stderr
    assert not (tmp_path / "out").exists()


def test_smoke_is_the_quickest_suite():
    smoke, *others = (plan.make(name) for name in plan.offered())
    for other in (one for one in others if one.device == "cpu"):
        assert set(smoke.study_names) <= set(other.study_names) and smoke.replicates < other.replicates
        assert sum(map(len, map(smoke.cases, smoke.studies))) < sum(map(len, map(other.cases, other.studies)))
        assert smoke.pace.rounds < other.pace.rounds


def test_show_report_and_export_read_the_newest_run(results: Path, tmp_path: Path):
    shown = json.loads(lstm_bench("show", "--out", results, "--json").stdout)
    assert {row["backend"] for row in shown} == {"numpy", "reference"}, "what needs no backend is under the reference"
    page = Path(lstm_bench("report", "--out", results, "--to", tmp_path / "report").stdout.strip())
    assert "numpy" in page.read_text()
    for name in ("samples.parquet", "samples.csv"):
        assert Path(lstm_bench("export", tmp_path / name, "--out", results).stdout.strip()).stat().st_size > 0


def test_a_report_is_opened_in_the_browser(results: Path, tmp_path: Path):
    opened, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {opened}\n')
    browser.chmod(0o755)
    answer = lstm_bench("report", "--out", results, "--to", tmp_path / "report", "--open", BROWSER=f"{browser} %s")
    assert answer.returncode == 0 and opened.read_text().strip() == Path(answer.stdout.strip()).resolve().as_uri()
    answer = lstm_bench("report", "--out", results, "--to", tmp_path / "report", "--open", BROWSER="no-such-browser", PATH="")
    assert answer.returncode == 0 and "no web browser could be opened; open " in answer.stderr


def test_an_unknown_statistic_or_format_names_the_choices(results: Path, tmp_path: Path):
    answer = lstm_bench("report", "--out", results, "--to", tmp_path, "--statistic", "mean")
    assert answer.returncode == 2 and "median, p25, min" in answer.stderr
    answer = lstm_bench("export", tmp_path / "samples.xlsx", "--out", results)
    assert answer.returncode == 2 and "parquet, csv" in answer.stderr


def test_doctor_says_for_every_backend_what_runs_or_why_not():
    found = json.loads(lstm_bench("doctor", "--json").stdout)
    assert {row["backend"] for row in found["backends"]} == set(names()) - {"null"}
    assert all(row["detail"] for row in found["backends"])
    assert any(row["runs"] for row in found["backends"] if row["backend"] == "numpy")
    assert found["noise"]["median_over_fastest"] >= 1 and found["noise"]["level"] in ("quiet", "somewhat noisy", "noisy")
    assert set(found) == {"machine", "thorough", "backends", "noise", "certificate"} and found["thorough"] is False


def test_old_names_are_accepted_with_a_warning(results: Path, tmp_path: Path):
    answer = lstm_bench("report", "--out", results, "--to", tmp_path, "--location=minimum")
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == "warning: --location is now --statistic; the old name goes with version 0.3\n"


def test_renamed_words_are_replaced_where_they_are_names():
    replaced, warnings = command_groups.current_names(["certify", "--out", "certify", "--certificates", "x", "--", "--item"])
    assert replaced == ["calibrate", "--out", "certify", "--calibrations", "x", "--", "--item"]
    assert [sentence.split(";")[0] for sentence in warnings] == [
        "certify is now calibrate",
        "--certificates is now --calibrations",
    ]
    assert command_groups.current_names(["run", "quick"]) == (["run", "quick"], [])
    commands = {name: command for name, command in typer.main.get_command(app).commands.items()}
    options = {option for command in commands.values() for parameter in command.params for option in parameter.opts}
    for old, new in command_groups.RENAMED_OPTIONS.items():
        assert new in options and old not in options
    for old, new in command_groups.RENAMED_COMMANDS.items():
        assert new in commands and old not in commands
