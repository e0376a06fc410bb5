"""The parent's side of `bench.gpu.items`: parts asked of a worker, items within their budgets, every end a typed outcome."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.code import Code
from bench.conditions import Watch
from bench.gpu.items import EMULATION, ITEMS, PROBE, STUDY
from bench.outcome import outcome
from bench.process import WorkerFailed, WorkerProcess
from bench.turns import Reply
from results.record import Record

LIST_SECONDS = 120.0
EMULATED_PATIENCE = 5
LIST = "parts"  # the key of the record that says why an item's parts are not even known


def measure(
    name: str, emulated: bool, limited: bool, cpus: Sequence[int], cache: Path, code: Code,
    finished: Callable[[str, str], bool], watch: Callable[[str], None],
) -> Iterator[Record]:  # fmt: skip
    """Records of an item's parts as they come, without those that are `finished(study, key)`.

    A worker serves many parts; one that dies or hangs costs its part alone. What the item's budget does not reach, if it is
    `limited`, is skipped with a reason that begins with "not measured".
    """
    item, study_name = ITEMS[name], STUDY + name
    backend, device = (EMULATION, "cpu") if emulated else (PROBE, "cuda")
    started, worker = time.monotonic(), None

    def at_most(seconds: float) -> float:
        """Seconds to wait: the emulation is slow, and an item on a GPU must not outlive its budget."""
        if emulated:
            return EMULATED_PATIENCE * seconds
        return min(seconds, max(1.0, started + item.budget - time.monotonic())) if limited else seconds

    marks = {"emulated": "true"} if emulated else {}
    try:
        worker = WorkerProcess(backend, cpus, cache, code=code)
        listed = _ask(worker, "parts", at_most(LIST_SECONDS), item=name, emulated=emulated)
        if listed["status"] != "ok":
            yield outcome(study_name, LIST, backend, 0, {"device": device}, {}, listed, {}, time.time(), 0.0, marks)
            return
        for part in listed["parts"]:
            key, parameters = part["key"], part["parameters"]
            if finished(study_name, key):
                continue
            began, clock, conditions = time.time(), time.monotonic(), Watch(device)
            if limited and time.monotonic() - started > item.budget:
                spent = (
                    f"not measured: the {item.budget:.0f} s of this item were spent before its turn; "
                    f"without a limit: lstm-bench gpu-check --item {name}"
                )
                reply: Reply = {"status": "skipped", "reason": spent}
            else:
                watch(f"({item.letter}) {name}  {key}")
                worker = worker or WorkerProcess(backend, cpus, cache, code=code)
                with conditions:
                    reply = _ask(worker, "part", at_most(item.part_seconds), item=name, emulated=emulated, key=key)
                if reply["status"] == "ok" and (invalid := conditions.invalid()):
                    reply = {"status": "failed", "kind": "unstable", "reason": invalid}
            if reply.get("died") and worker is not None:
                worker.close()
                worker = None
            seconds = time.monotonic() - clock
            yield outcome(study_name, key, backend, 0, parameters, {}, reply, conditions.summary, began, seconds, marks)
    finally:
        if worker is not None:
            worker.close()


def _ask(worker: WorkerProcess, operation: str, timeout: float, /, **arguments: Any) -> Reply:
    try:
        return worker.request(operation, timeout, **arguments)
    except WorkerFailed as failure:
        return {"status": "failed", "kind": failure.kind, "reason": str(failure), "died": True}
