"""Every class of error on the real command line: a sentence, a code of its own, and nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.machine import environment
from bench.machine.lock import device_lock
from bench.processes.code import ROOT
from lstm_bench import errors
from lstm_bench.errors import ExitCode, UserError
from results import store
from results.record import Header
from tests.lstm_bench.history_repository import History

SMOKE = ("--suite", "smoke", "--backend", "numpy", "--where", "phase=step", "--threads", "1")


def lstm_bench(folder: Path, *arguments: object, shell: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """The command, with `folder` for its temporary files; `shell` goes before it in its process."""
    command = ["sh", "-c", f'{shell}\nexec "$@"', "sh", sys.executable, "-m", "lstm_bench", *map(str, arguments)]
    values = os.environ | {"TMPDIR": str(folder)} | variables
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=values)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> History:
    """Two commits without code, then one with it."""
    made = History(tmp_path_factory.mktemp("repository") / "project")
    made.commit("first")
    made.commit("second")
    made.with_code().commit("with code")
    return made


def test_errors_end_with_the_code_of_their_class():
    assert errors.exit_code_of(UserError("sentence")) == ExitCode.USAGE
    assert errors.exit_code_of(store.Corrupt("sentence")) == ExitCode.CORRUPT == 20
    assert errors.exit_code_of(store.NameTaken("sentence")) == ExitCode.USAGE, "inherited"
    assert errors.exit_code_of(OSError(errno.ENOSPC, "full")) == ExitCode.DISK_FULL
    assert errors.exit_code_of(ZeroDivisionError()) == ExitCode.DEFECT, "what nobody foresaw is a defect"


def test_the_page_and_the_help_list_every_code(tmp_path: Path):
    page = (ROOT / "docs" / "commands.md").read_text()
    for code in list(ExitCode)[2:]:
        assert f"| {code} | {code.meaning} |" in page
    for command in ("compare", "track", "bisect"):
        printed = " ".join(lstm_bench(tmp_path, command, "--help").stdout.split())
        assert "Exit code 0" in printed
        for code in ExitCode:
            assert code <= ExitCode.UNDECIDED or f"{code} {code.meaning}" in printed


@pytest.mark.parametrize(("arguments", "code", "message"), [
    (("compare", "HEAD", "HEAD"), 10, "is not in a git repository"),
    (("track", "HEAD"), 10, "is not in a git repository"),
    (("history",), 10, "is not in a git repository"),
])  # fmt: skip
def test_outside_git(tmp_path: Path, arguments: tuple[str, ...], code: int, message: str):
    answer = lstm_bench(tmp_path, *arguments, "--repository", tmp_path, "--out", tmp_path)
    assert (answer.returncode, message in answer.stderr) == (code, True), answer.stderr
    assert "fatal" not in answer.stderr and "Traceback" not in answer.stderr and not files(tmp_path)


@pytest.mark.parametrize(("arguments", "code", "message"), [
    (("compare", "nowhere", "main"), 11, "no revision 'nowhere'"),
    (("bisect", "main", "main~1"), 13, "does not lie before"),
    (("track", "main..main"), 13, "holds no commit"),
    (("compare", "main~2", "main~1"), 14, "it has no package impls and no package bench and no package results of its own"),
    (("track", "main~1"), 14, "other code would be measured in its place"),
    (("track", "main", "--build-environments"), 15, "cannot be installed"),
])  # fmt: skip
def test_revisions_that_cannot_be_had(project: History, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str):
    out = tmp_path / "out"
    answer = lstm_bench(tmp_path, *arguments, "--repository", project.folder, *SMOKE, "--out", out)
    assert (answer.returncode, message in answer.stderr) == (code, True), answer.stderr
    assert "Traceback" not in answer.stderr and not files(out)
    assert project.git("worktree", "list").count("\n") == 0


def test_a_shallow_clone_that_lacks_it(project: History, tmp_path: Path):
    project.git("clone", "--quiet", "--depth", "1", f"file://{project.folder}", str(tmp_path / "shallow"))
    answer = lstm_bench(tmp_path, "compare", "HEAD~1", "HEAD", "--repository", tmp_path / "shallow", *SMOKE)
    assert answer.returncode == 12 and "git fetch --unshallow" in answer.stderr and "Traceback" not in answer.stderr


def test_a_disk_that_takes_no_more_leaves_nothing(tmp_path: Path):
    where = ("--backend", "numpy", "--where", "phase=step", "--out", tmp_path / "out")
    answer = lstm_bench(tmp_path, "run", "smoke", *where, shell="ulimit -f 1", PYTHONDONTWRITEBYTECODE="1")
    assert answer.returncode == 21 and "File too large" in answer.stderr and "make room" in answer.stderr, answer.stderr
    assert not files(tmp_path / "out")


def stored(root: Path, project: History, started: str) -> Path:
    """An unfinished run of this machine."""
    described = environment.describe(1)
    git = {"commit": project.git("rev-parse", "main~2"), "dirty": False}
    machine = environment.machine_name(described)
    header = Header("120000-quick", started, environment.PROTOCOL, machine, described | {"git": git}, {"suite": "quick"})
    writer = store.create(root, header)
    writer.close()
    return writer.path


def test_a_clock_that_went_backwards_stops_before_measuring(project: History, tmp_path: Path):
    path = stored(tmp_path / "history", project, "2100-01-01T00:00:00+00:00")
    where = ("--repository", project.folder, *SMOKE, "--out", tmp_path / "history")
    answer = lstm_bench(tmp_path, "track", "main", *where)
    assert answer.returncode == 22 and "2100-01-01 00:00:00 UTC; set the clock" in answer.stderr, answer.stderr
    assert files(tmp_path / "history") == [path]


def test_a_busy_device_leaves_no_trace_in_results(project: History, tmp_path: Path):
    where = ("--repository", project.folder, *SMOKE)
    root = tmp_path / "history"
    with device_lock("cpu"):
        busy = [lstm_bench(tmp_path, "track", "main", *where, "--out", root)]
        busy += [lstm_bench(tmp_path, "compare", "main", "main", *where, "--out", root)]
        assert not root.exists()
    assert [answer.returncode for answer in busy] == [23, 23] and all("process" in answer.stderr for answer in busy)
    done = lstm_bench(tmp_path, "track", "main", *where, "--out", root, "--json")
    assert done.returncode == 0, done.stderr
    ((path, result),) = [(Path(one["run"]), one["result"]) for one in json.loads(done.stdout)]
    assert result == "measured" and store.read(path).finished
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))  # as one that is still going
    before = path.read_text()
    with device_lock("cpu"):
        assert lstm_bench(tmp_path, "track", "main", *where, "--out", root).returncode == 23
    assert path.read_text() == before
    resumed = lstm_bench(tmp_path, "track", "main", *where, "--out", root, "--json")
    assert json.loads(resumed.stdout)[0]["result"] == "resumed" and store.read(path).finished


@pytest.mark.parametrize(("command", "said"), [
    ("track main", "interrupted; what was measured before is kept\ngo on with: lstm-bench track main\n"),
    ("compare main", "interrupted before anything was measured\nstart again with: lstm-bench compare main\n"),
    ("run --resume", "interrupted before anything was measured\nstart again with: lstm-bench run --resume\n"),
    ("show", "interrupted\n"),
])  # fmt: skip
def test_an_interruption_names_what_each_command_can_do(tmp_path: Path, command: str, said: str):
    """Through Typer, which would turn it into a silent exit."""
    program = (
        "import sys; from lstm_bench import __main__; from lstm_bench.commands import app, command_groups\n"
        "def stop(*_, **__): raise KeyboardInterrupt\n"
        f"command_groups.TyperGroup.invoke = stop; sys.argv = ['lstm-bench', *{command!r}.split()]; __main__.main()"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (answer.returncode, answer.stderr) == (130, said)


def test_unwritable_markdown_is_refused_before_measuring(project: History, tmp_path: Path):
    where = ("--repository", project.folder, *SMOKE, "--out", tmp_path / "out", "--markdown", tmp_path / "nowhere" / "a.md")
    answer = lstm_bench(tmp_path, "compare", "main", "main", *where)
    assert answer.returncode == 2 and "cannot write to" in answer.stderr and not (tmp_path / "out").exists()
