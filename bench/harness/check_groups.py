"""The parent's side of `bench.gpu_check.items`: parts asked of a worker within budgets, every end a typed outcome."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.gpu_check.groups import EMULATION, GROUPS, PROBE, STUDY
from bench.machine.conditions import Watch
from bench.processes.code import Code
from bench.processes.process import WorkerFailed, WorkerProcess
from bench.processes.turns import Reply, outcome
from results.record import Record

START_SECONDS = 120.0
LIST_SECONDS = 120.0
EMULATED_PATIENCE = 5
LIST = "parts"  # the key of the record that says why an item's parts are not even known


def reserved(names: Sequence[str]) -> float:
    """Seconds that the items measured after the grid are predicted to take; where they take longer, the last give way."""
    return sum(GROUPS[name].predicted for name in names if not GROUPS[name].first)


@dataclass(slots=True)
class Items:
    """Measures items, one after the other, in one worker, which is replaced where it dies or its CUDA context is corrupted.

    ends: monotonic time by which everything must be over, and within it each item has its own budget; None for no limit at
    all. finished: whether a part (study, key) is on disk already. watch: hears what is measured now.
    """

    emulated: bool
    ends: float | None
    cpus: Sequence[int]
    cache: Path
    code: Code
    finished: Callable[[str, str], bool]
    watch: Callable[[str], None]
    _worker: WorkerProcess | None = field(default=None, init=False)
    _item_ends: float = field(default=math.inf, init=False)

    def measure(self, names: Sequence[str]) -> Generator[Record]:
        """Records of the items' parts as they come, without those that are finished.

        A part that fails, dies or hangs costs itself alone. What a budget does not reach is skipped with a reason that begins
        with "not measured".
        """
        try:
            for name in names:
                self._item_ends = math.inf if self.ends is None else min(time.monotonic() + GROUPS[name].budget, self.ends)
                yield from self._item(name)
        finally:
            self._drop_worker()

    def _item(self, name: str) -> Iterator[Record]:
        item, study_name = GROUPS[name], STUDY + name
        backend, device = self._place
        marks = {"emulated": "true"} if self.emulated else {}
        began, clock = time.time(), time.monotonic()
        listed = self._ask("parts", LIST_SECONDS, item=name) if self._left() > 0 else self._unreached(name)
        if listed["status"] != "ok":
            seconds = time.monotonic() - clock
            yield outcome(study_name, LIST, backend, 0, {"device": device}, {}, listed, {}, began, seconds, marks)
            return
        for part in listed["parts"]:
            key, parameters = part["key"], part["parameters"]
            if self.finished(study_name, key):
                continue
            began, clock, conditions = time.time(), time.monotonic(), Watch(device)
            if self._left() <= 0:
                reply = self._unreached(name)
            else:
                self.watch(f"{name}  {key}")
                with conditions:
                    reply = self._ask("part", item.check_seconds, item=name, key=key)
                if reply["status"] == "ok" and (invalid := conditions.invalid()):
                    reply = {"status": "failed", "kind": "unstable", "reason": invalid}
            seconds = time.monotonic() - clock
            yield outcome(study_name, key, backend, 0, parameters, {}, reply, conditions.summary, began, seconds, marks)

    @property
    def _place(self) -> tuple[str, str]:
        return (EMULATION, "cpu") if self.emulated else (PROBE, "cuda")

    def _left(self) -> float:
        return self._item_ends - time.monotonic()

    def _at_most(self, seconds: float) -> float:
        """Seconds to wait: the emulation is slow, and nothing on a GPU may outlive its item's budget."""
        return EMULATED_PATIENCE * seconds if self.emulated else min(seconds, max(1.0, self._left()))

    def _ask(self, operation: str, seconds: float, /, **arguments: Any) -> Reply:
        if self._worker is None:
            backend, _ = self._place
            self._worker = WorkerProcess(backend, self.cpus, self.cache, self._at_most(START_SECONDS), self.code)
        try:
            self._worker.await_start()
            reply = self._worker.request(operation, self._at_most(seconds), emulated=self.emulated, **arguments)
        except WorkerFailed as failure:
            reply = {"status": "failed", "kind": failure.kind, "reason": str(failure), "died": True}
        if reply.get("died"):
            self._drop_worker()
        return reply

    def _drop_worker(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker = None

    def _unreached(self, name: str) -> Reply:
        spent = (
            f"not measured: the {GROUPS[name].budget:.0f} s of this item, or those of the whole check, were spent before its "
            f"turn; without a limit: lstm-bench gpu-check --item {name}"
        )
        return {"status": "skipped", "reason": spent}
