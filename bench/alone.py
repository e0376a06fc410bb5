"""Studies that measure by themselves: a fresh worker for each case and backend, several at once where nothing is timed."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from bench import study
from bench.code import HERE, Code
from bench.conditions import Watch
from bench.places import NOWHERE, Places
from bench.plan import Task
from bench.process import WorkerFailed, WorkerProcess
from bench.turns import Reply

TIMEOUT_SECONDS = 600.0


class Outcome(NamedTuple):
    task: Task
    backend: str
    reply: Reply
    conditions: dict[str, Any]
    started: float
    seconds: float


def measure(
    jobs: Sequence[tuple[Task, str]],
    slots: Sequence[Sequence[int]],
    cache: Path,
    code: Code = HERE,
    places: Places = NOWHERE,
) -> Generator[Outcome, None, None]:
    """Yields outcomes as they come, one job at a time in each slot, a slot being the processors its worker may use.

    Leaving the iteration early kills what still runs.
    """
    live: set[WorkerProcess] = set()
    free: SimpleQueue[Sequence[int]] = SimpleQueue()
    for cpus in slots:
        free.put(cpus)
    executor = ThreadPoolExecutor(len(slots))
    try:
        futures = [executor.submit(_one, task, backend, free, cache, live, code, places) for task, backend in jobs]
        for future in as_completed(futures):
            yield future.result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        for worker in list(live):
            worker.kill()
        executor.shutdown()


def _one(
    task: Task,
    backend: str,
    free: SimpleQueue[Sequence[int]],
    cache: Path,
    live: set[WorkerProcess],
    code: Code,
    places: Places,
) -> Outcome:
    cpus = free.get()
    started, clock = time.time(), time.monotonic()
    try:
        with Watch(task.case.spec.device) as conditions:
            arguments: dict[str, Any] = {"study_name": task.study, "case": task.case.to_dict()}
            if study.get(task.study).trains:
                arguments["places"] = places.to_dict()
            reply = ask_once(backend, cpus, cache, "alone", TIMEOUT_SECONDS, live, code=code, **arguments)
    finally:
        free.put(cpus)  # else the job after one that raised would wait for ever
    return Outcome(task, backend, reply, conditions.summary, started, time.monotonic() - clock)


def ask_once(
    backend: str,
    cpus: Sequence[int],
    cache: Path,
    operation: str,
    timeout: float,
    live: set[WorkerProcess],
    /,
    *,
    code: Code = HERE,
    **arguments: Any,
) -> Reply:
    """One request to a worker that lives for nothing else; its death is a typed outcome. It is in `live` while it runs."""
    worker = WorkerProcess(backend, cpus, cache, code=code)
    live.add(worker)
    try:
        return worker.request(operation, timeout, **arguments)
    except WorkerFailed as failure:
        return {"status": "failed", "kind": failure.kind, "reason": str(failure)}
    finally:
        live.discard(worker)
        worker.close()
