"""Cases measured alone: what goes wrong between them is told, and holds up nobody."""

from __future__ import annotations

import threading
import time

import pytest

from bench.harness import plan, standalone
from bench.machine import system
from bench.machine.conditions import Watch
from bench.processes.response import WorkerResponse


def jobs(count: int) -> list[tuple[plan.Task, str]]:
    (task,) = plan.make("memory", ["numpy"], scale="smoke").standalone()
    return [(task, "numpy")] * count


def test_a_worker_that_cannot_be_spawned_ends_the_run(tmp_path, monkeypatch):
    def refuses(*_: object, **__: object) -> None:
        raise OSError("no more processes")

    def late(futures):
        time.sleep(0.3)  # by then the second job has begun, and would wait for the first one's slot
        yield from futures

    monkeypatch.setattr(standalone, "WorkerProcess", refuses)
    monkeypatch.setattr(standalone, "as_completed", late)
    raised: list[BaseException] = []

    def asks() -> None:
        try:
            list(standalone.measure(jobs(5), [(0,)], tmp_path))
        except OSError as error:
            raised.append(error)

    asking = threading.Thread(target=asks, daemon=True)
    asking.start()
    asking.join(30)
    assert not asking.is_alive(), "a job waits for a slot that was never handed back"
    assert [str(error) for error in raised] == ["no more processes"]


def test_a_slot_is_free_again_after_a_watch_that_raised(tmp_path, monkeypatch):
    """The next job in the same slot is measured as if nothing had been."""
    watch, raised = standalone.Watch, []

    def fails_once(device: str) -> standalone.Watch:
        if not raised:
            raised.append(device)
            raise RuntimeError("no watch")
        return watch(device)

    monkeypatch.setattr(standalone, "Watch", fails_once)
    monkeypatch.setattr(standalone, "ask_once", lambda *_, **__: WorkerResponse("ok"))
    monkeypatch.setattr(standalone, "WorkerProcess", lambda *_, **__: None)
    pool = standalone.SlotPool([standalone.Slot((0,))], tmp_path, standalone.HERE, standalone.NO_PATHS)
    task, backend = jobs(1)[0]
    with pytest.raises(RuntimeError, match="no watch"):
        pool.measure(task, backend)
    assert pool.free.qsize() == 1
    assert pool.measure(task, backend).response == WorkerResponse("ok")


def test_a_gpu_that_cannot_be_watched_is_noted(monkeypatch):
    def without() -> None:
        raise system.NoNVML("NVML does not answer: Driver Not Loaded")

    monkeypatch.setattr(system, "first_gpu", without)
    with Watch("cuda") as conditions:
        pass
    assert conditions.summary["gpu_not_watched"] == "NVML does not answer: Driver Not Loaded" and conditions.invalid() is None
