"""Studies that measure by themselves: a fresh worker for each case and backend, several at once where nothing is timed.

A study that `shares` has its reference's cases measured one after the other in the same worker: to start one takes longer
than most of them.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from bench.harness import study
from bench.harness.plan import Task
from bench.harness.study import NO_PATHS, RunPaths
from bench.machine.conditions import Watch
from bench.processes.code import HERE, Code
from bench.processes.process import WorkerFailed, WorkerProcess
from bench.processes.turns import Reply

TIMEOUT_SECONDS = 600.0


class Outcome(NamedTuple):
    task: Task
    backend: str
    reply: Reply
    conditions: dict[str, Any]
    started: float
    seconds: float


@dataclass(slots=True)
class Slot:
    """Processors that serve one job at a time, and the worker kept on them for the next case of the study it serves."""

    cpus: Sequence[int]
    kept: WorkerProcess | None = None
    study: str = ""

    def close(self) -> None:
        if self.kept is not None:
            self.kept.close()
        self.kept = None


def measure(
    jobs: Sequence[tuple[Task, str]],
    slots: Sequence[Sequence[int]],
    cache: Path,
    code: Code = HERE,
    places: RunPaths = NO_PATHS,
) -> Generator[Outcome, None, None]:
    """Yields outcomes as they come, one job at a time in each slot, a slot being the processors its worker may use.

    Leaving the iteration early kills what still runs.
    """
    live: set[WorkerProcess] = set()
    all_slots = [Slot(cpus) for cpus in slots]
    free: SimpleQueue[Slot] = SimpleQueue()
    for slot in all_slots:
        free.put(slot)
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
        for slot in all_slots:
            slot.close()


def _one(
    task: Task,
    backend: str,
    free: SimpleQueue[Slot],
    cache: Path,
    live: set[WorkerProcess],
    code: Code,
    places: RunPaths,
) -> Outcome:
    slot, chosen = free.get(), study.get(task.study)
    started, clock = time.time(), time.monotonic()
    try:
        with Watch(task.case.spec.device) as conditions:
            arguments: dict[str, Any] = {"study_name": task.study, "case": task.case.to_dict()}
            if chosen.trains:
                arguments["places"] = places.to_dict()
            if chosen.shares and backend == study.REFERENCE:
                reply = _ask_kept(slot, task.study, cache, live, code, arguments)
            else:
                slot.close()  # what it holds would count against the next worker's room
                reply = ask_once(backend, slot.cpus, cache, "alone", TIMEOUT_SECONDS, live, code=code, **arguments)
    finally:
        free.put(slot)  # else the job after one that raised would wait for ever
    return Outcome(task, backend, reply, conditions.summary, started, time.monotonic() - clock)


def _ask_kept(
    slot: Slot, study_name: str, cache: Path, live: set[WorkerProcess], code: Code, arguments: dict[str, Any]
) -> Reply:
    """The slot's worker of this study, started where there is none; one that dies costs this case and no other."""
    worker = slot.kept
    if worker is None or slot.study != study_name:
        slot.close()
        worker = slot.kept = WorkerProcess(study.REFERENCE, slot.cpus, cache, code=code)
        slot.study = study_name
    live.add(worker)
    try:
        reply = worker.request("alone", TIMEOUT_SECONDS, **arguments)
    except WorkerFailed as failure:
        reply = {"status": "failed", "kind": failure.kind, "reason": str(failure), "died": True}
    finally:
        live.discard(worker)
    if reply.get("died"):
        slot.close()
    return reply


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
