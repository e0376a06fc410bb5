"""`run --fleet` on two Ray nodes of this machine, and what it says where it cannot measure."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.processes.code import ROOT
from bench.regression.revisions import Repository
from lstm_bench.commands import fleet_tasks, tracking
from lstm_bench.errors import UserError
from results import store
from tests.bench.conftest import Collector
from tests.layout import PACKAGES
from tests.lstm_bench.history_repository import History
from tests.lstm_bench.test_required import without

HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed: pip install 'lstm-bench[fleet]'")
CHEAP = ("--suite", "smoke", "--backend", "numpy", "--where", "phase=forward", "--threads", "1")
SMOKE = ("smoke", "--backend", "numpy", "--backend", "null")
MANY = ("many", "--backend", "numpy", "--where", "hidden_size<=16", "--where", "phase=forward")


@pytest.fixture
def made(tmp_path: Path) -> History:
    """A repository of this project's code with one commit."""
    history = History(tmp_path / "project").with_code()
    history.commit("first")
    return history


def command(*arguments: str) -> tuple[int, str, str]:
    line = [sys.executable, "-m", "lstm_bench", *arguments]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=280, env=os.environ | {"PYTHONPATH": str(ROOT)})
    return ended.returncode, ended.stdout, ended.stderr


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "lstm_bench", "run", *map(str, arguments)]
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)


def run(*arguments: object) -> tuple[int, str, str]:
    running = start(*arguments)
    said, told = running.communicate(timeout=150)
    return running.returncode, said, told


def importers_of(package: str, root: Path) -> set[str]:
    """Files of the packages below `root` that import a package, or anything of it."""
    found = set()
    for path in (path for name in PACKAGES for path in (root / name).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            if any(name.partition(".")[0] == package for name in names):
                found.add(path.relative_to(root).as_posix())
    return found


def test_one_module_imports_ray():
    assert importers_of("ray", ROOT) == {"bench/fleet/cluster.py"}
    assert importers_of("bench.fleet.cluster".partition(".")[0], ROOT), "the search finds imports"


def test_another_import_of_ray_would_be_found(tmp_path: Path):
    (tmp_path / "bench").mkdir()
    for number, line in enumerate(("import ray", "from ray.util import state", "def f():\n    import ray.exceptions as e")):
        (tmp_path / "bench" / f"{number}.py").write_text(line + "\n")
    (tmp_path / "bench" / "other.py").write_text("import array\nfrom . import ray\n")
    assert importers_of("ray", tmp_path) == {"bench/0.py", "bench/1.py", "bench/2.py"}


def test_without_ray_the_command_says_what_to_install(tmp_path: Path):
    ended = without({"ray"}, "run", "smoke", "--fleet", "local:2", "--out", str(tmp_path))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(r"error: --fleet needs Ray, .*: pip install 'lstm-bench\[fleet\]'\n", ended.stderr), ended.stderr
    assert not list(tmp_path.iterdir())


@needs_ray
@pytest.mark.parametrize(
    ("sides", "said"),
    [
        (("a..b", "c"), "a..b is a range, whose commits are compared each with the one before it; leave out c"),
        (("HEAD", "."), "this checkout has uncommitted changes, and a fleet measures commits"),
        (("backend:numpy", "HEAD"), "cannot compare backend:numpy with HEAD"),
        (("HEAD", "nothing"), "no revision 'nothing'"),
        (("HEAD", "HEAD"), "no comparison on a fleet below .* asked the same"),
    ],
)
def test_commits_that_a_fleet_cannot_compare_are_told(made: History, tmp_path: Path, sides: tuple[str, str], said: str):
    made.slow_down()
    (tmp_path / "out").mkdir()
    asked = fleet_tasks.Asked("smoke", ("numpy",))
    with pytest.raises(UserError, match=said):
        fleet_tasks.compare(
            "local:2", *sides, Collector(), asked, out=tmp_path / "out", resume=True, repository=made.folder
        )  # fmt: skip


@needs_ray
def test_commits_are_tracked_over_a_fleet_as_one_series(made: History, tmp_path: Path):
    commits = [made.git("rev-parse", "HEAD"), made.commit("second"), made.commit("third")]
    root = tmp_path / "history"
    code, said, told = command(
        "track", "HEAD~2..HEAD", "--fleet", "local:2", "--repository", str(made.folder), *CHEAP, "--out", str(root), "--json"
    )
    done = json.loads(said)
    assert code == 0 and [each["commit"] for each in done] == commits[1:], told
    series = tracking.read(root, Repository(made.folder)).series
    assert series and {tuple(point.commit for point in one.points) for one in series} == {tuple(commits[1:])}


@needs_ray
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("smoke", "--fleet", "local:no"), "local:no names no fleet on this machine: write local:3"),
        (("smoke", "--fleet", "127.0.0.1:9"), "no Ray cluster answers at 127.0.0.1:9"),
        (("smoke", "--fleet", "local:2", "--time-budget", "1m"), "--time-budget is of one machine"),
        (("smoke", "--fleet", "local:2", "--resume"), "no unfinished run of a fleet below"),
        (("smoke", "--fleet", "local:2", "--copy-to", "nowhere://x"), "cannot write to nowhere://x"),
        (("nothing", "--fleet", "local:2"), "suite or study"),
    ],
)
def test_what_cannot_be_asked_of_a_fleet_is_said_at_once(tmp_path: Path, arguments: tuple[str, ...], said: str):
    code, _, told = run(*arguments, "--out", tmp_path)
    assert code == 2 and said in told and "Traceback" not in told
    assert not store.find(tmp_path)


@needs_ray
def test_a_fleet_gives_the_report_of_a_run_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # The folder for temporary files has a long name, as on macOS, and Ray's note of where the user's own cluster is.
    usual = tmp_path / "temporary files"
    note = usual / "ray" / "ray_current_cluster"
    note.parent.mkdir(parents=True)
    note.write_text("10.0.0.1:6379")
    monkeypatch.setenv("TMPDIR", str(usual))
    code, said, told = run(*SMOKE, "--fleet", "local:2", "--out", tmp_path / "fleet", "--copy-to", f"file://{tmp_path}/copy")
    assert code == 0, told
    (path,) = store.find(tmp_path / "fleet")
    assert said == f"{path}\n"
    assert note.read_text() == "10.0.0.1:6379" and set(usual.rglob("*")) == {note, note.parent}
    assert run(*SMOKE, "--out", tmp_path / "hand")[0] == 0
    (by_hand,) = store.find(tmp_path / "hand")
    fleet, hand = store.read(path), store.read(by_hand)
    assert {its.task: its.status for its in fleet.records} == {its.task: its.status for its in hand.records}
    assert fleet.finished and not fleet.damaged and fleet.header.machine == hand.header.machine
    assert {its.conditions["host"] for its in fleet.records} == {hand.header.environment["host"]}
    assert fleet.header.environment["host"] != hand.header.environment["host"], "never read together with runs by hand"
    (copy,) = store.find(tmp_path / "copy")
    assert copy.read_bytes() == path.read_bytes() and f"copied to file://{copy}\n" in told
    from analysis.report import page

    built = page.build([path], tmp_path / "report")
    text = built.html.with_suffix(".md").read_text(encoding="utf-8")
    assert "was measured by a fleet of 1 host (one machine, several nodes: they share its one measuring slot" in text


@needs_ray
def test_ctrl_c_keeps_what_there_is_and_names_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "new").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "new"))  # where Ray has never been
    running = start(*MANY, "--fleet", "local:2", "--out", tmp_path / "with a space")
    assert running.stderr is not None
    for line in running.stderr:
        if "throughput" in line:
            break
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 130 and "Traceback" not in told, told
    (path,) = store.find(tmp_path / "with a space")
    kept = store.read(path)
    assert kept.records and not kept.finished and kept.footer is not None and kept.footer.note == "interrupted"
    assert f"interrupted; {len(kept.records)} outcomes kept in {path}\n" in told
    named = re.search(r"^finish it with: lstm-bench run (.* --resume)$", told, re.MULTILINE)
    assert named is not None
    code, _, told = run(*shlex.split(named[1]))
    assert code == 0, told
    done = store.read(path)
    assert done.finished and not done.damaged and done.records[: len(kept.records)] == kept.records
    assert len({its.case for its in done.records}) == 1 + 18
