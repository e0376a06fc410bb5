"""Studies that measure by themselves: a fresh worker for each case and backend, several at once where nothing is timed."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from bench.conditions import Watch
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


def measure(jobs: Sequence[tuple[Task, str]], threads: int, cache: Path, at_once: int) -> Generator[Outcome, None, None]:
    """Yields outcomes as they come. Leaving the iteration early kills what still runs."""
    live: set[WorkerProcess] = set()
    executor = ThreadPoolExecutor(at_once)
    try:
        futures = [executor.submit(_one, task, backend, threads, cache, live) for task, backend in jobs]
        for future in as_completed(futures):
            yield future.result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        for worker in list(live):
            worker.kill()
        executor.shutdown()


def _one(task: Task, backend: str, threads: int, cache: Path, live: set[WorkerProcess]) -> Outcome:
    started, clock = time.time(), time.monotonic()
    with Watch(task.case.spec.device) as conditions:
        reply = ask_once(
            backend, threads, cache, "alone", TIMEOUT_SECONDS, live, study_name=task.study, case=task.case.to_dict()
        )
    return Outcome(task, backend, reply, conditions.summary, started, time.monotonic() - clock)


def ask_once(
    backend: str, threads: int, cache: Path, operation: str, timeout: float, live: set[WorkerProcess], /, **arguments: Any
) -> Reply:
    """One request to a worker that lives for nothing else; its death is a typed outcome. It is in `live` while it runs."""
    worker = WorkerProcess(backend, threads, cache)
    live.add(worker)
    try:
        return worker.request(operation, timeout, **arguments)
    except WorkerFailed as failure:
        return {"status": "failed", "kind": failure.kind, "reason": str(failure)}
    finally:
        live.discard(worker)
        worker.close()
