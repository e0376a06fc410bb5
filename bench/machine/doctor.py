"""Which backends run here, and why the others do not."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import impls
from bench.harness.case import Case
from bench.machine import system
from bench.processes import scratch
from bench.processes.process import WorkerProcess
from bench.processes.response import WorkerFailed
from impls.specs.recurrent import CELLS, Device, DType

START_SECONDS = 180.0
MOST_AT_ONCE = 8  # workers; each holds a framework of several hundred MB
CELL_PREFERENCE = ("lstm", "gru", "rnn", "minlstm")
DTYPE_PREFERENCE: tuple[DType, ...] = ("float32", "bfloat16", "float16", "tensorfloat32")
SIZE, STEPS, BATCH = 64, 4, 8  # multiples of 8 and 64, as some kernels need
HIDDEN_PROVENANCE = ("flushes_denormals",)


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a backend runs on a device.

    Attributes:
        cell, dtype: what it was asked for, which is something that its file says it supports.
        runs: it was imported and supports the case; after a thorough examination also that its outputs are right.
        detail: versions, or what ran; else why it does not run.
        absent: the package that it needs and that is not installed; None where that is not the reason.
        failed: it crashed, did not answer or was wrong, where others are missing something.
    """

    backend: str
    device: Device
    cell: str
    dtype: str
    runs: bool
    detail: str
    absent: str | None = None
    failed: bool = False

    @property
    def install(self) -> str | None:
        """The command that installs what is absent."""
        return None if self.absent is None else impls.facts(self.backend).install_command(self.absent)


def examine(devices: tuple[Device, ...] = get_args(Device), thorough: bool = False) -> Iterator[Finding]:
    """Ask every backend, in a process of its own and several side by side, for a small network on each device it is made for.

    Where nothing is measured none is asked: each is found not to run, and why.

    Args:
        devices: those to ask for.
        thorough: also compute the network and validate its outputs, which compiles; else import the backend only.
    """
    if not system.MEASURES:
        yield from (
            _refused(name, device) for name, facts in impls.table().items() for device in devices if device in facts.devices
        )
        return
    with scratch.folder() as cache:
        cpus = system.usable()
        examined = [_Examined(name, cpus[n % len(cpus)], cache, thorough) for n, name in enumerate(impls.names())]
        asking = ThreadPoolExecutor(min(len(cpus), MOST_AT_ONCE))  # nothing is timed, so all processors may be busy
        try:
            for findings in asking.map(lambda one: one.ask_each(devices), examined):
                yield from findings
        finally:
            asking.shutdown(wait=False, cancel_futures=True)
            for one in examined:
                one.stop()
            asking.shutdown()


def _refused(backend: str, device: Device) -> Finding:
    spec = case_for(backend, device).spec
    return Finding(backend, device, spec.cell, spec.dtype, False, system.WHAT_TO_DO)


def case_for(backend: str, device: Device) -> Case:
    """A small case of a cell, a data type and a phase that the backend's file says it supports, the usual ones if it does."""
    facts = impls.facts(backend)
    cells, dtypes = facts.cells, facts.dtypes
    cell = next((name for name in CELL_PREFERENCE if name in cells), cells[0])
    usual: list[DType] = [name for name in DTYPE_PREFERENCE if name in dtypes]
    dtype = (*usual, *dtypes)[0]
    return Case(CELLS[cell](SIZE, SIZE, dtype=dtype, device=device), STEPS, BATCH, facts.phases[0])


def versions(backend: str) -> str:
    """The installed packages that a backend's file says it needs, with their versions; NumPy's for one that names none."""
    found = []
    for name in impls.facts(backend).packages or ("numpy",):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return ", ".join(dict.fromkeys(found))


class _Examined:
    """A backend and its worker, which is replaced where it dies."""

    def __init__(self, backend: str, cpu: int, cache: Path, thorough: bool) -> None:
        self.backend, self.cpu, self.cache, self.thorough = backend, cpu, cache, thorough
        self.worker: WorkerProcess | None = None
        self.stopped = False

    def ask_each(self, devices: tuple[Device, ...]) -> list[Finding]:
        try:
            return [self._ask(device) for device in devices if device in impls.facts(self.backend).devices and not self.stopped]
        finally:
            self._close()  # what it holds is free for the next one

    def stop(self) -> None:
        """End what its worker computes, from another thread; it asks for nothing more."""
        self.stopped = True
        if worker := self.worker:
            worker.end()

    def _ask(self, device: Device) -> Finding:
        case = case_for(self.backend, device)
        asked = self.backend, device, case.spec.cell, case.spec.dtype
        try:
            self.worker = self.worker or WorkerProcess(self.backend, [self.cpu], self.cache, START_SECONDS)
            operation, checks = ("prepare", {"check_answers": True}) if self.thorough else ("admit", {})
            reply = self.worker.request(operation, START_SECONDS, case=case.to_dict(), **checks)
        except WorkerFailed as failure:
            reply = {"status": "failed", "reason": str(failure), "died": True}
        if reply.get("died"):
            self._close()
        if reply["status"] != "ok":
            missing = (name for name in impls.facts(self.backend).packages if importlib.util.find_spec(name) is None)
            return Finding(*asked, False, reply["reason"], next(missing, None), reply["status"] == "failed")
        provenance = {key: value for key, value in reply.get("provenance", {}).items() if key not in HIDDEN_PROVENANCE}
        ran = ", ".join([provenance.pop("ran"), *(f"{key} {value}" for key, value in provenance.items())]) if provenance else ""
        return Finding(*asked, True, ran or versions(self.backend))

    def _close(self) -> None:
        if self.worker is not None:
            self.worker.close()
        self.worker = None
