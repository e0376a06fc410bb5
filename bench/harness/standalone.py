"""Studies that measure by themselves: a fresh worker for each case and backend, several at once where nothing is timed.

A study that says `reuse_worker` has its reference's cases measured one after the other in the same worker: to start one takes
longer than most of them.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from bench.harness import study
from bench.harness.plan import Task
from bench.harness.study import NO_PATHS, RunPaths
from bench.machine.conditions import Watch
from bench.processes.code import HERE, Code
from bench.processes.process import WorkerProcess
from bench.processes.response import Observed, WorkerFailed, WorkerResponse

TIMEOUT_SECONDS = 600.0


class Outcome(NamedTuple):
    """What became of one case on one backend."""

    task: Task
    backend: str
    response: WorkerResponse
    observed: Observed


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
    paths: RunPaths = NO_PATHS,
) -> Generator[Outcome, None, None]:
    """Measure each (task, backend), one job at a time in each slot; outcomes come in the order in which they end.

    Leaving the iteration early kills what still runs.

    Args:
        jobs: what to measure.
        slots: the processors that a worker of each slot may use.
        cache: the run's folder of temporary files.
        code: what the workers run.
        paths: told to studies that train.
    """
    pool = SlotPool([Slot(cpus) for cpus in slots], cache, code, paths)
    executor = ThreadPoolExecutor(len(slots))
    try:
        futures = [executor.submit(pool.measure, task, backend) for task, backend in jobs]
        for future in as_completed(futures):
            yield future.result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        pool.kill()
        executor.shutdown()
        pool.close()


@dataclass(slots=True)
class SlotPool:
    """The slots, those of them that are free, and the workers that are asked something now."""

    slots: Sequence[Slot]
    cache: Path
    code: Code
    paths: RunPaths
    free: SimpleQueue[Slot] = field(default_factory=SimpleQueue)
    live: set[WorkerProcess] = field(default_factory=set)

    def __post_init__(self) -> None:
        for slot in self.slots:
            self.free.put(slot)

    def measure(self, task: Task, backend: str) -> Outcome:
        """In the next slot that is free."""
        slot = self.free.get()
        started, clock = time.time(), time.monotonic()
        try:
            with Watch(task.case.spec.device) as conditions:
                arguments: dict[str, Any] = {"study_name": task.study.name, "case": task.case.to_dict()}
                if task.study.trains:
                    arguments["places"] = self.paths.to_dict()
                if task.study.reuse_worker and backend == study.REFERENCE:
                    response = self._ask_kept(slot, task.study.name, arguments)
                else:
                    slot.close()  # what it holds would count against the next worker's memory
                    worker = WorkerProcess(backend, slot.cpus, self.cache, code=self.code)
                    response = ask_once(worker, "alone", TIMEOUT_SECONDS, self.live, **arguments)
        finally:
            self.free.put(slot)  # else the job after one that raised would wait for ever
        return Outcome(task, backend, response, Observed(conditions.summary, started, time.monotonic() - clock))

    def _ask_kept(self, slot: Slot, study_name: str, arguments: dict[str, Any]) -> WorkerResponse:
        """The slot's worker of this study, started where there is none; one that dies costs this case and no other."""
        worker = slot.kept
        if worker is None or slot.study != study_name:
            slot.close()
            worker = slot.kept = WorkerProcess(study.REFERENCE, slot.cpus, self.cache, code=self.code)
            slot.study = study_name
        self.live.add(worker)
        response = ask(worker, "alone", TIMEOUT_SECONDS, **arguments)
        self.live.discard(worker)
        if response.died:
            slot.close()
        return response

    def kill(self) -> None:
        """Kill the workers that are asked something now."""
        for worker in list(self.live):
            worker.kill()

    def close(self) -> None:
        for slot in self.slots:
            slot.close()


def ask(worker: WorkerProcess, operation: str, timeout: float, /, **arguments: Any) -> WorkerResponse:
    """One request; a worker that dies of it has a response too."""
    try:
        return WorkerResponse.from_reply(worker.request(operation, timeout, **arguments))
    except WorkerFailed as failure:
        return WorkerResponse.of_failure(failure)


def ask_once(
    worker: WorkerProcess, operation: str, timeout: float, live: set[WorkerProcess] | None = None, /, **arguments: Any
) -> WorkerResponse:
    """One request to a worker that lives for nothing else. It is in `live` while it runs."""
    live = set() if live is None else live
    live.add(worker)
    try:
        return ask(worker, operation, timeout, **arguments)
    finally:
        live.discard(worker)
        worker.close()
