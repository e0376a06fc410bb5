"""The worker: a fresh process that prepares and times what its parent asks, one JSON line in, one out.

    python -m bench.worker BACKEND CPU,CPU,…

Whatever happens to it stays in it: the parent sees a typed reply or a dead process.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

import impls
from bench import costs
from bench.gpu_check import groups
from bench.harness import study
from bench.harness.case import Case
from bench.harness.study import RunPaths, set_paths
from bench.machine import energy
from bench.processes import code
from bench.worker import agreement, cuda_errors, memory, peaks, prepare
from bench.worker.timing import HOST_BOUND, SETTLE_SECONDS, Sampler, clock_for, is_host_bound
from impls.specs.residual import Device
from results.record import HOST_PEAK, NO_ENERGY, Measurement

if TYPE_CHECKING:
    from bench.gpu_check.device import DeviceContext

# Pinned after their import, so that two workers that start together import on two processors: they were seen to start the same
# threads either way. JAX's LLVM and Inductor size their pools by the processors they see when they are imported.
PINNED_LATE = ("torch", "torch_loop")
WORKLOAD = "workload"  # the factor of a case of a model in use
TEXT = 2000  # characters of a message that are kept
TYPED = (prepare.Skip, impls.Unavailable, prepare.Rejected, agreement.Disagreement)  # raised by the harness, with its own words
_PR_SET_PDEATHSIG = 1  # prctl(2)
# ldmxcsr [rdi]; ret — the one instruction that sets the SSE control register (Intel SDM, volume 2).
_LOAD_MXCSR = bytes([0x0F, 0xAE, 0x17, 0xC3])
_FLUSH_AND_ZERO = 0x1F80 | 0x8000 | 0x0040  # default exception masks, flush-to-zero, denormals-are-zero


class Worker:
    """One backend; at most one case loaded at a time."""

    def __init__(self, backend: str, threads: int) -> None:
        self.backend = backend
        self.settle_seconds = SETTLE_SECONDS if threads > 1 else 0.0
        # Right where time is taken; wrong where small numbers are what is measured.
        self.flushes_denormals = backend != study.REFERENCE and flush_denormals()
        self.validated: dict[str, float | None] = {}  # errors of reduced cases, by key
        self.sampler: Sampler | None = None
        self.prepared: prepare.Prepared | None = None
        self.whole_window = False  # whether energy is worth a window of its own: once a run, of a model in use
        self.device_context: DeviceContext | None = None
        self.kept: BaseException | None = (
            None  # holds what must not be freed in a corrupted context: that may abort the process
        )

    def check_support(self, case: dict[str, Any]) -> dict[str, Any]:
        """Import the backend and ask whether it supports the case; nothing is loaded or computed."""
        prepare.validate_backend(Case.from_dict(case), self.backend, check_answers=False)
        return {}

    def prepare(self, case: dict[str, Any], check_answers: bool) -> dict[str, Any]:
        """Ready for `warm_up`, once validated: in full, or by its reduced case once a process (see `bench.worker.prepare`)."""
        self.release()
        opened = Case.from_dict(case)
        in_full = check_answers and prepare.validated_in_full(opened)
        reduced = opened.reduced_for_validation().key
        by_reduced_case = check_answers and not in_full and reduced not in self.validated
        error = prepare.validate_backend(opened, self.backend, by_reduced_case)
        if by_reduced_case:
            self.validated[reduced] = error
        error = self.validated.get(reduced)
        self.prepared = prepare.verify(prepare.load(opened, self.backend), in_full, error)
        code.require_own_modules()
        meter = energy.meter(opened.spec.device)
        self.sampler = Sampler(clock_for(self.prepared), settle_seconds=self.settle_seconds, energy=meter)
        self.whole_window = check_answers and any(name == WORKLOAD for name, _ in opened.factors)
        return {
            "provenance": self.prepared.provenance | {"flushes_denormals": str(self.flushes_denormals).lower()},
            "first_call_seconds": self.prepared.first_call_seconds,
            "load_seconds": self.prepared.load_seconds,
            "error": self.prepared.error,
        }

    def warm_up(self, seconds: float) -> dict[str, Any]:
        """Until the prepared case is steady, at least so long."""
        sampler = self._sampler()
        sampler.warm_up(seconds)
        return {"calls": sampler.calls}

    def turn(self, seconds: float) -> dict[str, Any]:
        """This worker's part of one round."""
        sampler = self._sampler()
        sampler.turn(seconds)
        return {"finished": sampler.finished, "latest": sampler.samples[-1]}

    def collect(self) -> dict[str, Any]:
        """The samples of all turns so far."""
        sampler = self._sampler()
        notes = list(sampler.notes)
        measured = [Measurement("time", "s", tuple(sampler.samples), tuple(sampler.blocks))]
        host = getattr(sampler.clock, "host_seconds", [])[-len(sampler.samples) :]
        if host:
            measured.append(Measurement("host_time", "s", tuple(host)))
            if is_host_bound(host, sampler.samples):
                notes.append(HOST_BOUND)
        if self.whole_window:
            sampler.measure_energy()
        if joules := sampler.energy.samples:
            measured.append(Measurement("energy", "J", tuple(joules)))
        untold = {} if joules else {NO_ENERGY: sampler.energy.reason or "no turn was long enough"}
        measured[0] = Measurement("time", "s", measured[0].samples, measured[0].blocks, tuple(notes))
        self.release()
        return {
            "measurements": [asdict(item) for item in measured],
            "busy_seconds": sampler.busy_seconds,
            "warm_up_seconds": sampler.warm_up_seconds,
            **untold,
        }

    def measure_standalone(self, study_name: str, case: dict[str, Any], places: dict[str, str] | None = None) -> dict[str, Any]:
        """A study that measures by itself; only once in this worker's life, and first, unless the study says `reuse_worker`."""
        set_paths(RunPaths.from_dict(places or {}))
        opened, chosen = Case.from_dict(case), study.get(study_name)
        if chosen.measure is None:
            raise ValueError(f"study {study_name} is timed in rounds; it has nothing to measure by itself")
        if self.backend == study.REFERENCE:
            prepare.require_device(opened.spec.device)
        else:
            prepare.validate_backend(
                opened, self.backend, not (chosen.needs_fresh_worker and prepare.validated_in_full(opened))
            )
        measured = [asdict(item) for item in chosen.measure(self.backend, opened)]
        code.require_own_modules()
        return {"measurements": measured}

    def list_checks(self, item: str, emulated: bool) -> dict[str, Any]:
        """What a group of `gpu-check` has to measure here."""
        return {"parts": groups.list_checks(item, self._open_context(emulated))}

    def run_check(self, item: str, emulated: bool, key: str) -> dict[str, Any]:
        """One check of a group."""
        return groups.measure(item, self._open_context(emulated), key)

    def _open_context(self, emulated: bool) -> DeviceContext:
        from bench.gpu_check.device import open_context  # PyTorch, which other workers must not import

        self.device_context = self.device_context or open_context(emulated)
        return self.device_context

    def measure_peaks(self, device: Device, dtype: str) -> dict[str, Any]:
        """The machine's peaks in a data type."""
        prepare.require_device(device)
        return {"measurements": [asdict(item) for item in peaks.measure(device, dtype)]}

    def release(self) -> dict[str, Any]:
        """Let go of the case; what it held on a GPU is there for the other workers."""
        on_gpu = self.prepared is not None and self.prepared.case.spec.device == "cuda"
        self.prepared = self.sampler = None
        if on_gpu:
            memory.return_cached()
        return {}

    def _sampler(self) -> Sampler:
        if self.sampler is None:
            raise ValueError("no case is prepared")
        return self.sampler


def serve(backend: str, cpus: set[int], requests: Any, replies: Any) -> None:
    """Answer requests until the parent closes the pipe."""
    if backend not in PINNED_LATE:
        pin(cpus)
    worker = Worker(backend, len(cpus))
    if backend in impls.names():
        with contextlib.suppress(impls.Unavailable):  # said again, as the reason to skip, when a case is asked for
            impls.get(backend)
    pin(cpus)
    # By their names on the wire, which parents of every revision know.
    operations: dict[str, Callable[..., dict[str, Any]]] = {
        "admit": worker.check_support, "prepare": worker.prepare, "warm_up": worker.warm_up, "turn": worker.turn,
        "collect": worker.collect, "alone": worker.measure_standalone, "parts": worker.list_checks, "part": worker.run_check,
        "ceilings": worker.measure_peaks, "release": worker.release,
    }  # fmt: skip
    own = os.getpid()
    replies.write(json.dumps({"status": "ok", "pid": own, "numbered": True}) + "\n")
    highest = 0
    for line in requests:
        request = json.loads(line)
        started, number = time.perf_counter(), request.pop("number", None)
        reply, error = _answer(operations[request.pop("operation")], request)
        if os.getpid() != own:  # a backend has forked and come back twice
            os._exit(1)
        if cuda_errors.CORRUPTED in reply:
            worker.kept = error
        elif reply["status"] != "ok":
            worker.release()
        highest = max(highest, memory.host_peak())  # a study of memory sets the system's own mark back
        own_words = {"number": number, "seconds": time.perf_counter() - started, HOST_PEAK: highest}
        replies.write(json.dumps(reply | own_words) + "\n")


def _answer(operation: Callable[..., dict[str, Any]], request: dict[str, Any]) -> tuple[dict[str, Any], BaseException | None]:
    """The typed reply, and the exception it was made from. CUDA work of this request has ended, with its errors, before it."""
    raised: BaseException | None = None
    try:
        reply = {"status": "ok"} | operation(**request)
    except Exception as error:
        # The boundary of isolation: whatever a backend raises becomes a typed outcome, never a lost case.
        raised = _readable(error)
        reply = _failure(raised)
    foreign = raised if not isinstance(raised, TYPED) else raised.__cause__ or raised.__context__
    if name := cuda_errors.corrupted(foreign):
        reply = _corrupted(name, reply.get("reason", "found when the GPU was synchronised afterwards"))
    return reply, raised


def _failure(error: Exception) -> dict[str, Any]:
    if isinstance(error, prepare.Skip | impls.Unavailable):
        unsupported = isinstance(error, impls.Unsupported)
        kind = error.kind if isinstance(error, prepare.Skip) else "unsupported" if unsupported else "unavailable"
        return {"status": "skipped", "skip": kind, "reason": str(error)[:TEXT]}
    if isinstance(error, prepare.Rejected | agreement.Disagreement):
        return {"status": "failed", "kind": "wrong", "reason": str(error)[:TEXT]}
    kind = "out_of_memory" if costs.ran_out(error) else "error"
    return {"status": "failed", "kind": kind, "reason": f"{type(error).__name__}: {str(error)[:TEXT]}"}


def _readable(error: Exception) -> Exception:
    """The error, or one that can be asked for its message: a backend's own may raise there."""
    try:
        str(error)
    except Exception as another:
        return RuntimeError(f"{type(error).__name__}, whose message cannot be read ({type(another).__name__})")
    return error


def _corrupted(name: str, reason: str) -> dict[str, Any]:
    sentence = reason if name in reason else f"{name}: {reason}"
    return {"status": "failed", "kind": "crash", "reason": sentence, cuda_errors.CORRUPTED: name}


def pin(cpus: set[int]) -> None:
    """Put every thread of this process, and all that they will start, on these processors."""
    if sys.platform == "linux":
        for thread in os.listdir("/proc/self/task"):
            with contextlib.suppress(ProcessLookupError):  # one that ended meanwhile
                os.sched_setaffinity(int(thread), cpus)


def flush_denormals() -> bool:
    """Flush denormal numbers to zero on this thread and every thread it starts, for every framework alike.

    Returns: whether they really are flushed now, found out by trying.
    """
    if sys.platform == "linux" and platform.machine() == "x86_64":
        with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
            page.write(_LOAD_MXCSR)
            view = ctypes.c_char.from_buffer(page)
            control = ctypes.c_uint32(_FLUSH_AND_ZERO)
            ctypes.CFUNCTYPE(None, ctypes.c_void_p)(ctypes.addressof(view))(ctypes.addressof(control))
            del view
    smallest = np.array([1e-40], np.float32)
    return float((smallest * np.float32(0.5))[0]) == 0.0


def main() -> None:
    backend, numbers = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # never outlive a killed parent
    # Replies go to a private copy of stdout, so that a backend's prints cannot be taken for one.
    replies = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    serve(backend, {int(cpu) for cpu in numbers.split(",")}, sys.stdin, replies)


if __name__ == "__main__":
    main()
