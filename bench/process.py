"""The parent's side of a worker: start it with threads pinned, ask, and turn its death into a typed outcome."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from bench import agreement, cuda_errors, git, systems
from bench.code import HERE, Code
from results.record import FailureKind

LAST_WORDS = 1 << 16  # bytes of what a dead worker said in which CUDA's errors are looked for


class WorkerFailed(RuntimeError):
    """A worker that died or did not answer in time."""

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(reason)
        self.kind: FailureKind = kind


class WorkerProcess:
    """A running worker for one backend, of this code or another. Its frameworks see the processors `cpus` and no others."""

    def __init__(self, backend: str, cpus: Sequence[int], cache: Path, start_seconds: float = 120.0, code: Code = HERE) -> None:
        systems.require_measuring()
        self.backend = backend
        self._stderr = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [code.python, "-P", "-m", "bench.worker", backend, ",".join(map(str, cpus))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment(len(cpus), cache, code),
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )
        self._asked = time.monotonic()  # when the answer that is awaited was asked for; at first, that it is there
        self._start_seconds = start_seconds
        self._ready = False
        self._unstarted: WorkerFailed | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def answers(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def send(self, operation: str, /, **arguments: Any) -> None:
        """Ask without waiting for the answer."""
        self.await_start()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write((json.dumps({"operation": operation, **arguments}) + "\n").encode())
            self._process.stdin.flush()
            self._asked = time.monotonic()
        except BrokenPipeError:
            raise self._death() from None

    def receive(self, seconds: float) -> dict[str, Any]:
        """The answer to the last `send`. Raises `WorkerFailed` if none came within `seconds` of it.

        A worker whose CUDA context is corrupted has given its last answer: it is killed, and the answer says `died`.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(self.answers, selectors.EVENT_READ)
            if not selector.select(max(0.0, self._asked + seconds - time.monotonic())):
                self.kill()
                raise WorkerFailed("timeout", f"no answer within {seconds:.0f} s; the worker was killed")
        line = self.answers.readline()
        if not line:
            raise self._death()
        return self._retire(json.loads(line))

    def _retire(self, reply: dict[str, Any]) -> dict[str, Any]:
        if cuda_errors.CORRUPTED in reply:
            self.kill()
            reply["died"] = True
        return reply

    def request(self, operation: str, timeout: float, /, **arguments: Any) -> dict[str, Any]:
        self.send(operation, **arguments)
        return self.receive(timeout)

    def kill(self) -> None:
        self.end()
        self._process.wait()

    def end(self) -> None:
        """Kill it with whatever it started, such as Inductor's compilers, and wait for nothing: it leads a process group."""
        if self._process.returncode is None:
            try:
                _kill_group(self._process.pid)
            except PermissionError:  # macOS says so of a group whose members have all ended and are not yet waited for
                if self._process.poll() is None:
                    raise

    def close(self) -> None:
        """End the worker at once: it has nothing to save, and PyTorch takes up to two seconds to say good-bye."""
        self.kill()
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # a request that a dead worker never read
                self._process.stdin.close()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._stderr.close()

    def await_start(self) -> None:
        """Return once it can be asked. Raises `WorkerFailed`, the same one each time."""
        if self._unstarted is not None:
            raise self._unstarted
        if not self._ready:
            try:
                self.receive(self._start_seconds)
            except WorkerFailed as failure:
                self._unstarted = failure
                raise
            self._ready = True

    def _death(self) -> WorkerFailed:
        code = self._process.wait()
        self._stderr.seek(0)
        text = self._stderr.read()[-LAST_WORDS:].decode(errors="replace").strip()
        last = text[-600:]
        if code < 0:
            name = signal.Signals(-code).name
            cause = f"killed by {name}"
            if name == "SIGKILL":
                cause += " (the kernel's out-of-memory killer does this)"
        else:
            cause = f"exited with code {code}"
        if name := cuda_errors.named_in(text):  # PyTorch and XLA abort where they free memory of a corrupted context
            cause += f" after {name}"
        return WorkerFailed("crash", f"the worker was {cause}" + (f"; last words: {last}" if last else ""))


def _kill_group(leader: int) -> None:
    """Kill a process group that was started here; nothing where it is gone."""
    if sys.platform == "win32":
        raise systems.UnsupportedSystem
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def first_to_answer(workers: Mapping[str, WorkerProcess], until: float) -> str:
    """The worker whose answer, or end, is there first; where there is none `until` then (monotonic clock), the first one."""
    if len(workers) == 1:
        return next(iter(workers))
    with selectors.DefaultSelector() as selector:
        for name, worker in workers.items():
            selector.register(worker.answers, selectors.EVENT_READ, name)
        ready = selector.select(max(0.0, until - time.monotonic()))
    return ready[0][0].data if ready else next(iter(workers))


def environment(threads: int, cache: Path, code: Code = HERE) -> dict[str, str]:
    """Variables that pin every framework to the same number of threads and give it a fresh compilation cache.

    Those by which git names a repository to its hooks are left out: a backend may call git, or build by something that does.
    """
    count = str(threads)
    pins = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"), count)
    return git.variables() | pins | code.variables | {
        "PYTHONWARNINGS": "ignore",
        agreement.REFERENCES: str(cache / f"references-{hashlib.sha256(code.python_path.encode()).hexdigest()[:8]}"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "JAX_COMPILATION_CACHE_DIR": str(cache / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # Else each process compiles and starts a program to see whether what cpuinfo says of AVX is true: over a second.
        "TORCHINDUCTOR_VEC_ISA_OK": "1",
    }  # fmt: skip
