"""The live workers of one replicate."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.processes.code import HERE, Code
from bench.processes.process import WorkerFailed, WorkerProcess
from bench.processes.turns import Reply


class Workers:
    """The live workers of a replicate, by backend. A dead one is replaced when it is next needed."""

    def __init__(self, cpus: Sequence[int], cache: Path, code: Code = HERE) -> None:
        self.cpus, self.cache, self.code = cpus, cache, code
        self.live: dict[str, WorkerProcess] = {}

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.live.values():
            worker.end()  # all of them before any is waited for
        for backend in list(self.live):
            self.drop(backend)

    def start(self, backends: Iterable[str]) -> None:
        for backend in sorted(backends):
            self.live[backend] = WorkerProcess(backend, self.cpus, self.cache, code=self.code)

    def get(self, backends: Sequence[str]) -> tuple[dict[str, WorkerProcess], dict[str, Reply]]:
        """Live workers, and a typed outcome for each backend whose worker would not start.

        Returns once every worker has started: none of them imports while another is timed.
        """
        ready: dict[str, WorkerProcess] = {}
        replies: dict[str, Reply] = {}
        self.start(set(backends) - self.live.keys())
        for worker in self.live.values():
            with contextlib.suppress(WorkerFailed):  # said again below, if it is one of those wanted
                worker.await_start()
        for backend in backends:
            try:
                self.live[backend].await_start()
                ready[backend] = self.live[backend]
            except WorkerFailed as failure:
                replies[backend] = {"status": "failed", "kind": failure.kind, "reason": str(failure), "died": True}
        return ready, replies

    def drop(self, backend: str) -> None:
        self.live.pop(backend).close()
