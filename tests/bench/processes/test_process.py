"""Workers that raise, hang, die or chatter: each ends in a typed outcome and takes nothing with it."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.harness.case import Case
from bench.harness.suites import LEAST_ROUNDS, Pace
from bench.machine import system
from bench.processes import process, rounds
from bench.processes.code import Code
from bench.processes.process import WorkerProcess, first_to_answer
from bench.processes.response import Reply, WorkerFailed, WorkerResponse
from bench.processes.rounds import Workers
from tests.bench.conftest import SMALL, visible_backends

CPUS = system.usable()[:1]
PACE = Pace(rounds=2, turn_seconds=0.005, warm_seconds=0.01)


def outcomes(case: Case, cache: Path, *backends: str) -> dict[str, WorkerResponse]:
    with Workers(CPUS, cache) as workers:
        ready, replies = workers.get(backends)
        return replies | rounds.measure(ready, case.to_dict(), PACE, True, lambda _: None)


FAILURES = {
    "raising": ("error", "ArithmeticError: the widget came loose"),
    "segfaulting": ("crash", "killed by SIGSEGV"),
    "exhausted": ("out_of_memory", "Unable to allocate"),
    "fallen_back": ("wrong", "fell back"),
}


@pytest.fixture(scope="module")
def beside_failures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, WorkerResponse]]:
    """What numpy answers beside backends that fail, each in its way, and what became of those."""
    with visible_backends():
        yield outcomes(SMALL, tmp_path_factory.mktemp("cache"), *FAILURES, "numpy", "talkative")


@pytest.mark.parametrize("backend", FAILURES)
def test_each_failure_is_typed_and_the_others_go_on(beside_failures, backend):
    kind, reason = FAILURES[backend]
    response = beside_failures[backend]
    assert beside_failures["numpy"].status == "ok"
    assert (response.status, response.kind) == ("failed", kind) and reason in response.reason


def test_a_hanging_backend_is_killed_and_typed(misbehaving, tmp_path, case, monkeypatch):
    monkeypatch.setattr(rounds, "PREPARE_SECONDS", 2.0)
    replies = outcomes(case, tmp_path, "hanging", "numpy")
    assert replies["hanging"].kind == "timeout"
    assert "no answer within 2 s" in replies["hanging"].reason
    assert replies["numpy"].status == "ok"


def test_at_most_so_many_are_prepared_at_a_time(monkeypatch):
    """Workers that answer after a while, on a clock of their own; the second is the slowest."""
    takes, now, busy, most = {"a": 1.0, "b": 5.0, "c": 1.0, "d": 1.0}, [0.0], {}, [0]

    class Table(rounds.WorkerGroup):
        def send(self, backend: str, operation: str, /, **_: object) -> bool:
            busy[backend] = now[0] + takes[backend]
            most[0] = max(most[0], len(busy))
            return True

        def receive(self, backend: str, timeout: float) -> Reply:
            return {"status": "ok", "ended": busy.pop(backend)}

    def first(workers: dict[str, object], _: float) -> str:
        chosen = min(workers, key=busy.__getitem__)
        now[0] = busy[chosen]
        return chosen

    monkeypatch.setattr(rounds, "first_to_answer", first)
    for at_once, expected in ((1, [1, 6, 7, 8]), (2, [1, 5, 2, 3])):
        now[0], most[0] = 0.0, 0
        named = {
            name: SimpleNamespace(backend=backend)
            for name, backend in zip(takes, ("numpy", "torch", "jax", "null"), strict=True)
        }
        replies = rounds._ask_each(Table(named), list(takes), "prepare", 60, at_once)  # type: ignore[arg-type]
        assert [reply["ended"] for reply in replies.values()] == expected and most[0] == at_once


def test_a_hanging_worker_is_timed_from_its_own_question(misbehaving, tmp_path, case):
    with Workers(CPUS, tmp_path) as workers:
        ready, _ = workers.get(["hanging", "numpy"])
        for worker in ready.values():
            worker.send("prepare", case=case.to_dict(), check_answers=True)
        assert first_to_answer(ready, time.monotonic() + 60) == "numpy"
        assert ready["numpy"].receive(60)["status"] == "ok"
        asked = ready["hanging"]._asked
        with pytest.raises(WorkerFailed, match="no answer within 2 s"):
            ready["hanging"].receive(2.0)
        assert time.monotonic() - asked < 10


def test_what_a_backend_prints_is_not_taken_for_a_reply(beside_failures):
    assert beside_failures["talkative"].status == "ok"


def test_a_worker_killed_from_outside_is_a_crash(tmp_path, case):
    with Workers(CPUS, tmp_path) as workers:
        ready, _ = workers.get(["numpy"])
        os.kill(ready["numpy"].pid, signal.SIGKILL)
        ready["numpy"]._process.wait()  # dead before it is asked
        reply = rounds.measure(ready, case.to_dict(), PACE, True, lambda _: None)["numpy"]
    assert reply.kind == "crash"
    assert "killed by SIGKILL from outside" in reply.reason


@pytest.mark.parametrize("before, after, kind, said", [
    ("oom 1\noom_kill 2\n", "oom 1\noom_kill 3\n", "out_of_memory", "for lack of memory"),
    ("oom 1\noom_kill 2\n", "oom 9\noom_kill 2\n", "crash", "from outside"),
    (None, None, "crash", "the kernel does this for lack of memory, too"),
])  # fmt: skip
def test_a_kill_for_lack_of_memory_is_told_from_others(
    tmp_path, monkeypatch, before: str | None, after: str | None, kind: str, said: str
):
    counter = tmp_path / "memory.events"
    monkeypatch.setattr(process, "KILL_COUNTERS", (tmp_path / "absent", counter))
    if before is not None:
        counter.write_text(before)
    with Workers(CPUS, tmp_path) as workers:
        ready, _ = workers.get(["numpy"])
        if after is not None:
            counter.write_text(after)
        os.kill(ready["numpy"].pid, signal.SIGKILL)
        ready["numpy"]._process.wait()
        with pytest.raises(WorkerFailed, match=said) as failure:
            ready["numpy"].request("prepare", 60)
    assert failure.value.kind == kind


@pytest.mark.skipif(sys.platform != "linux", reason="parent-death signals are Linux's")
def test_no_worker_outlives_a_killed_parent(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from bench.processes.rounds import Workers\n"
        f"workers = Workers((0,), Path({str(tmp_path)!r})); ready, _ = workers.get(['numpy'])\n"
        "print(ready['numpy'].pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while _alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(worker)


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux's")
@pytest.mark.parametrize("backend", ["numpy", "torch", "jax", "onnxruntime"])
def test_every_thread_of_a_worker_is_pinned(backend, tmp_path, case):
    with Workers(CPUS, tmp_path) as workers:
        ready, _ = workers.get([backend])
        reply = ready[backend].request("prepare", 120, case=case.to_dict(), check_answers=False)
        if reply["status"] == "skipped":
            pytest.skip(reply["reason"])
        assert reply["status"] == "ok", reply
        status = [path.read_text() for path in Path(f"/proc/{ready[backend].pid}/task").glob("*/status")]
    allowed = {line.split()[1] for text in status for line in text.splitlines() if line.startswith("Cpus_allowed_list")}
    assert allowed == {str(CPUS[0])}


def test_a_worker_that_does_not_start_says_why_each_time(tmp_path):
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "worker.py").write_text("raise SystemExit('not today')")
    (tmp_path / "bench" / "__init__.py").write_text("")
    with Workers(CPUS, tmp_path, Code(tmp_path)) as workers:
        for _ in range(2):
            ready, replies = workers.get(["numpy"])
            assert not ready and "not today" in replies["numpy"].reason and replies["numpy"].kind == "crash"


@pytest.mark.skipif(sys.platform != "linux", reason="process groups as Linux has them")
def test_a_worker_is_ended_at_once_with_what_it_has_started(tmp_path):
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "worker.py").write_text(
        "import subprocess, time\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        'print(\'{"status": "ok", "pid": %d}\' % child.pid, flush=True)\n'
        "time.sleep(600)\n"
    )
    (tmp_path / "bench" / "__init__.py").write_text("")
    worker = WorkerProcess("numpy", CPUS, tmp_path, code=Code(tmp_path))
    child = worker.receive(60)["pid"]
    assert _alive(child)
    worker.close()
    deadline = time.monotonic() + 10
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(child) and not _alive(worker.pid)


def test_rounds_end_when_busy_long_enough_but_not_before_ten(monkeypatch):
    class Fake:
        def __init__(self) -> None:
            self.turns = 0

        def send(self, operation: str, **_: object) -> None:
            self.turns += operation == "turn"
            clock["now"] += 0.05 * (operation == "turn")

        def receive(self, _: float) -> Reply:
            return {"status": "ok", "finished": False, "latest": 0.05, "measurements": []}

    for busy, expected in ((2.0, 20), (0.1, LEAST_ROUNDS), (math.inf, 40)):
        clock = {"now": 0.0}
        monkeypatch.setattr(rounds.time, "monotonic", lambda clock=clock: clock["now"])
        sides = {"base": Fake(), "new": Fake()}
        rounds.measure(sides, {}, Pace(40, 0.0, 0.0, busy), False, lambda _: None)  # type: ignore[arg-type]
        assert [side.turns for side in sides.values()] == [expected, expected]


def test_samples_come_back_by_rounds(beside_failures):
    time_taken = beside_failures["numpy"].measurements[0]
    assert time_taken.metric == "time"
    assert len(time_taken.blocks) <= PACE.rounds
    assert sum(time_taken.blocks) == len(time_taken.samples)


def test_a_backend_that_works_twice_takes_twice_as_long(misbehaving, tmp_path):
    import statistics

    from impls import LSTMSpec

    case = Case(LSTMSpec(64, 64), 64, 8)
    with Workers(CPUS, tmp_path) as workers:
        ready, _ = workers.get(["numpy", "slowed"])
        replies = rounds.measure(ready, case.to_dict(), Pace(8, 0.02, 0.05), True, lambda _: None)
    numpy, slowed = (min(replies[name].measurements[0].samples) for name in ("numpy", "slowed"))
    assert 1.5 < slowed / numpy < 2.7, statistics.median(replies["slowed"].measurements[0].samples)


def test_backends_of_one_framework_are_prepared_in_turn():
    names = ("torch", "torch_loop", "jax", "flax", "numpy")
    workers = {name: SimpleNamespace(backend=name) for name in names}
    assert rounds._next(workers, ["torch_loop", "jax", "numpy"], ["torch"]) == "jax"  # type: ignore[arg-type]
    assert rounds._next(workers, ["torch_loop", "flax"], ["torch", "jax"]) is None  # type: ignore[arg-type]
    assert rounds._next(workers, ["torch_loop"], []) == "torch_loop"  # type: ignore[arg-type]
