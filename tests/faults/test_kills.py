"""Kills at random moments: nothing is lost, doubled or mistyped, no process is left, and the same command finishes the work."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from results import store
from results.record import Record, decode
from tests.faults import processes
from tests.faults.dose import dose

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="supervisors of workers are Linux's")
ROOT = Path(__file__).parents[2]
SMALLEST = ("--where", "phase=forward", "--threads", "1")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
KILLS = 100
BACKEND = """
\"\"\"Numbers of NumPy.\"\"\"
from impls.backends import numpy as honest
RUNS, CELLS, DEVICES = ("numpy",), ("lstm",), ("cpu",)
refuses, load = honest.refuses, honest.load
"""


@dataclass(frozen=True)
class Work:
    """A command, and what is added to it to go on where it was killed."""

    name: str
    arguments: tuple[str, ...]
    go_on: tuple[str, ...]
    seconds: float  # about how long it takes, within which it is killed
    adaptive: bool = False  # how many pairs it takes depends on what it finds


WORKS = (
    Work("run", ("run", "smoke", "--backend", "numpy", "--backend", "null", "--threads", "1"), ("--resume",), 5.0),
    Work(
        "compare",
        ("compare", "backend:numpy", "backend:numpy", "--suite", "smoke", *SMALLEST, "--no-memory"),
        ("--resume",),
        8.0,
        adaptive=True,
    ),
    Work("track", ("track", "HEAD~1..HEAD", "--suite", "smoke", *SMALLEST, "--backends-path", "backends"), (), 6.0),
    Work("training", ("run", "quality", "--scale", "smoke", "--threads", "1"), ("--resume",), 6.0),
)


@dataclass(frozen=True)
class Kill:
    number: int
    work: Work
    signal: signal.Signals
    after: float

    def __str__(self) -> str:
        return f"{self.number}-{self.work.name}-{self.signal.name}"


def kills() -> list[Kill]:
    """A hundred of them, the same ones each time."""
    drawn = random.Random(0)
    chosen = ((WORKS[number % len(WORKS)], SIGNALS[number // len(WORKS) % len(SIGNALS)]) for number in range(KILLS))
    return [Kill(number, work, which, 0.2 + drawn.random() * work.seconds) for number, (work, which) in enumerate(chosen)]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A repository of two commits with a backend, in which every command runs."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "backends").mkdir()

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)

    git("init", "--quiet", "--initial-branch", "main")
    git("config", "user.name", "Somebody")
    git("config", "user.email", "somebody@example.org")
    for number in range(2):
        (folder / "backends" / "mine.py").write_text(f"{BACKEND.lstrip()}# {number}\n", encoding="utf-8")
        git("add", "-A")
        git("commit", "--quiet", "-m", f"commit {number}")
    return folder


def start(project: Path, folder: Path, mark: str, arguments: Iterable[str]) -> subprocess.Popen[bytes]:
    temporary = folder / "temporary"
    temporary.mkdir(exist_ok=True)
    variables = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary), processes.MARK: mark}
    command = [sys.executable, "-P", "-m", "lstm_bench", *arguments, "--out", str(folder / "out")]
    with (folder / "said").open("ab") as said:
        return subprocess.Popen(command, cwd=project, env=variables, stdout=said, stderr=said, start_new_session=True)


def tasks(folder: Path) -> Counter[tuple[str, str, str, str, int]]:
    """How often each task is stored, by the commit, side or suite that it is of."""
    found: Counter[tuple[str, str, str, str, int]] = Counter()
    for path in store.find(folder / "out"):
        run = store.read(path)
        assert not run.damaged
        side = next((side for side in ("base", "new") if path.stem.endswith(f"-{side}")), "")
        of = f"{run.header.environment['git']['commit']} {side}"
        for line in path.read_text(encoding="utf-8").splitlines():
            if '"line":"record"' in line[:20]:
                record = decode(line)
                assert isinstance(record, Record) and record.status != "failed", record
                found[of, *record.task] += 1
    return found


@pytest.fixture(scope="module")
def whole(project, tmp_path_factory) -> Callable[[Work], set]:
    """The tasks that a command stores where nothing kills it."""
    known: dict[str, set] = {}

    def of(work: Work) -> set:
        if work.name not in known:
            folder = tmp_path_factory.mktemp(work.name)
            assert start(project, folder, uuid.uuid4().hex, work.arguments).wait(240) in (0, 1, 3), (
                folder / "said"
            ).read_text()
            known[work.name] = set(tasks(folder))
            assert known[work.name]
        return known[work.name]

    return of


@pytest.mark.parametrize("kill", dose(kills(), 8), ids=str)
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::results.store.DamagedLine")
def test_a_killed_command_is_finished_by_itself(project, whole, tmp_path, kill):
    expected = whole(kill.work)
    mark = uuid.uuid4().hex
    running = start(project, tmp_path, mark, kill.work.arguments)
    time.sleep(kill.after)
    running.send_signal(kill.signal)
    running.wait(60)
    assert processes.left(mark) == []
    if kill.signal != signal.SIGKILL:
        assert scratch(tmp_path) == [], "what it made for itself is gone"
        assert b"Traceback" not in (tmp_path / "said").read_bytes()
    begun = (tmp_path / "out").exists() and bool(store.find(tmp_path / "out"))
    unfinished = begun and not all(store.read(path).finished for path in store.find(tmp_path / "out"))
    again = start(project, tmp_path, mark, (*kill.work.arguments, *(kill.work.go_on if unfinished else ())))
    assert again.wait(240) in (0, 1, 3), (tmp_path / "said").read_text()
    found = tasks(tmp_path)
    if kill.work.adaptive:
        assert all(store.read(path).finished for path in store.find(tmp_path / "out"))
        sides = [{task[1:] for task in found if task[0].endswith(side)} for side in ("base", "new")]
        assert sides[0] == sides[1] != set()
    else:
        assert set(found) == expected
    if not begun or unfinished:
        assert max(found.values()) == 1, "nothing is stored twice"
    assert processes.left(mark) == [] and scratch(tmp_path) == []


def scratch(folder: Path) -> list[str]:
    """What is left in the folder for temporary files, but for the locks of the devices."""
    return sorted(path.name for path in (folder / "temporary").iterdir() if path.suffix != ".lock")
