"""The parent's side of a worker: start it with threads pinned, ask, check answers, and make a typed outcome of its death."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from bench.machine import git, system
from bench.processes.code import HERE, Code
from bench.processes.response import LIMIT_BYTES, InvalidReply, Reply, WorkerFailed, parse_reply
from bench.worker import agreement, cuda_errors
from results.record import FailureKind

LAST_WORDS = 1 << 16  # bytes that are kept of what a worker says on standard error; CUDA's errors are looked for in them
LAST_WORDS_SECONDS = 1.0
END_SECONDS = 10.0  # in which a worker that was told to end, or seems to have, does
POLL_SECONDS = 0.2  # how often a worker's end is looked for where the system cannot tell
SUPERVISOR = Path(__file__).with_name("supervisor.py")
# Where Linux counts processes that ran out of memory and were killed: of this container (cgroup v2), or of the whole machine.
KILL_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))


class WorkerProcess:
    """A running worker for one backend, of this code or another. Its frameworks see the processors `cpus` and no others."""

    def __init__(self, backend: str, cpus: Sequence[int], cache: Path, start_seconds: float = 120.0, code: Code = HERE) -> None:
        system.require_measuring()
        self.backend = backend
        self._memory_kills = memory_kills()
        temporary_folder(cache).mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [*_supervised(), code.python, "-P", "-m", "bench.worker", backend, ",".join(map(str, cpus))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(len(cpus), cache, code),
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )
        self._lines = _Lines(self._process)
        self._last_words = _LastWords(self._process)
        self._asked = time.monotonic()  # when the answer that is awaited was asked for; at first, that it is there
        self._start_seconds = start_seconds
        self._ready = self._numbered = False
        self._number = 0
        self._worker_pid: int | None = None
        self._unstarted: WorkerFailed | None = None

    @property
    def pid(self) -> int:
        """Of the worker itself, once it has started."""
        return self._process.pid if self._worker_pid is None else self._worker_pid

    @property
    def answers(self) -> IO[bytes]:
        """The pipe that replies come through."""
        assert self._process.stdout is not None
        return self._process.stdout

    def send(self, operation: str, /, **arguments: Any) -> None:
        """Ask without waiting for the answer."""
        self.await_start()
        try:
            if self._lines.begun:
                raise self._kill_for("crash", "it wrote to its parent without being asked")
        except EOFError:
            raise self._death() from None
        self._memory_kills = memory_kills()
        self._number += 1
        number = {"number": self._number} if self._numbered else {}
        assert self._process.stdin is not None
        try:
            self._process.stdin.write((json.dumps({"operation": operation, **number, **arguments}) + "\n").encode())
            self._process.stdin.flush()
            self._asked = time.monotonic()
        except BrokenPipeError:
            raise self._death() from None

    def receive(self, seconds: float) -> Reply:
        """The answer to the last `send`. Raises `WorkerFailed` if no right one came within `seconds` of it.

        A worker whose CUDA context is corrupted has given its last answer: it is killed, and the answer says `died`.
        """
        try:
            line = self._lines.next(self._asked + seconds)
            reply = parse_reply(line)
        except TimeoutError:
            raise self._kill_for("timeout", f"no answer within {seconds:.0f} s") from None
        except EOFError:
            raise self._death() from None
        except InvalidReply as error:
            raise self._kill_for("crash", f"its answer is none: {error}") from None
        if self._numbered and reply.pop("number", None) != self._number:
            raise self._kill_for("crash", "its answer is not to the last question")
        return self._retire(reply)

    def _kill_for(self, kind: FailureKind, reason: str) -> WorkerFailed:
        self.kill()
        return WorkerFailed(kind, f"{reason}; the worker was killed")

    def _retire(self, reply: Reply) -> Reply:
        if cuda_errors.CORRUPTED in reply:
            self.kill()
            reply["died"] = True
        return reply

    def request(self, operation: str, timeout: float, /, **arguments: Any) -> Reply:
        """`send`, then `receive`."""
        self.send(operation, **arguments)
        return self.receive(timeout)

    def kill(self) -> None:
        """`end`, and wait for it."""
        self.end()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:  # a supervisor that was stopped from outside
            _kill_group(self._process.pid)
            self._process.wait()

    def end(self) -> None:
        """Kill it with whatever it started, such as Inductor's compilers, and wait for nothing."""
        if self._process.returncode is not None:
            return
        if _supervised():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGTERM)
            return
        try:
            _kill_group(self._process.pid)
        except PermissionError:  # macOS says so of a group whose members have all ended and are not yet waited for
            if self._process.poll() is None:
                raise

    def close(self) -> None:
        """End the worker at once: it has nothing to save, and PyTorch takes up to two seconds to say good-bye."""
        self.kill()
        self._last_words.close()
        self._lines.close()
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # a request that a dead worker never read
                self._process.stdin.close()
        self.answers.close()

    def await_start(self) -> None:
        """Return once it can be asked. Raises `WorkerFailed`, the same one each time."""
        if self._unstarted is not None:
            raise self._unstarted
        if not self._ready:
            try:
                introduced = self.receive(self._start_seconds)
            except WorkerFailed as failure:
                self._unstarted = failure
                raise
            self._ready, self._numbered = True, bool(introduced.get("numbered"))
            self._worker_pid = introduced.get("pid")

    def _death(self) -> WorkerFailed:
        try:
            code = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return self._kill_for("crash", "it closed its pipe to its parent and went on")
        text = self._last_words.text()
        last = text[-600:]
        kind: FailureKind = "crash"
        if code < 0:
            name = signal.Signals(-code).name
            cause = f"killed by {name}"
            if name == "SIGKILL" and self._memory_kills is not None and memory_kills() != self._memory_kills:
                kind = "out_of_memory"
                cause += " while the kernel killed a process for lack of memory"
            elif name == "SIGKILL":
                cause += (
                    " from outside" if self._memory_kills is not None else " (the kernel does this for lack of memory, too)"
                )
        else:
            cause = f"exited with code {code}"
        if name := cuda_errors.named_in(text):  # PyTorch and XLA abort where they free memory of a corrupted context
            cause += f" after {name}"
        return WorkerFailed(kind, f"the worker was {cause}" + (f"; last words: {last}" if last else ""))


def memory_kills() -> int | None:
    """How many processes the kernel has killed for lack of memory, by the first of `KILL_COUNTERS`; None where none tells."""
    for counter in KILL_COUNTERS:
        with contextlib.suppress(OSError):
            counts = dict(line.split() for line in counter.read_text(encoding="utf-8").splitlines())
            if "oom_kill" in counts:
                return int(counts["oom_kill"])
    return None


class _Lines:
    """Lines of a process's standard output, as they come, of bounded length; the end of the process is noticed beside them."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self._process, self._pipe = process, process.stdout.fileno()
        if sys.platform != "win32":  # where no worker is started
            os.set_blocking(self._pipe, False)
        self._buffer = bytearray()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe, selectors.EVENT_READ)
        # A child that the worker has left behind may hold the pipe open when the worker is gone.
        self._end = None
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # Linux before 5.3 has none
                self._end = os.pidfd_open(process.pid)
        if self._end is not None:
            self._selector.register(self._end, selectors.EVENT_READ)

    @property
    def begun(self) -> bool:
        """Whether something of a next line is here already."""
        self._fill()
        return bool(self._buffer)

    def next(self, until: float) -> bytes:
        """The next line. Raises `TimeoutError`, `EOFError`, or `InvalidReply` where it has no end or something follows it."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > LIMIT_BYTES:
                raise InvalidReply(f"over {LIMIT_BYTES >> 20} MiB without an end")
            wait = until - time.monotonic()
            ended = self._end is None and self._process.poll() is not None
            ready = self._selector.select(min(max(0.0, wait), POLL_SECONDS if self._end is None else wait))
            if not self._fill() and (ended or any(key.fd == self._end for key, _ in ready)):
                raise EOFError
            if wait <= 0 and len(self._buffer) == searched:
                raise TimeoutError
        if end + 1 < len(self._buffer):
            raise InvalidReply(f"more than a line: {bytes(self._buffer[end + 1 : end + 61])!r}")
        line = bytes(self._buffer[:end])
        self._buffer.clear()
        return line

    def _fill(self) -> bool:
        """Whether there was something to read. Raises `EOFError` at the end of what there is."""
        try:
            piece = os.read(self._pipe, 1 << 20)
        except BlockingIOError:
            return False
        if not piece:
            raise EOFError
        self._buffer += piece
        return True

    def close(self) -> None:
        self._selector.close()
        if self._end is not None:
            os.close(self._end)
            self._end = None


class _LastWords(threading.Thread):
    """Reads a process's standard error as long as it lives and keeps the end of it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__(daemon=True)
        assert process.stderr is not None
        self._pipe, self._tail = process.stderr, bytearray()
        self._wake, self._woken = os.pipe()
        self.start()

    def run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            while all(key.fd != self._wake for key, _ in selector.select()):
                piece = os.read(self._pipe.fileno(), 1 << 20)
                if not piece:
                    return
                self._tail = (self._tail + piece)[-LAST_WORDS:]

    def text(self) -> str:
        """Of a process that has ended."""
        self.join(LAST_WORDS_SECONDS)  # longer only where a child of it holds the pipe
        return bytes(self._tail).decode(errors="replace").strip()

    def close(self) -> None:
        os.close(self._woken)
        self.join()
        os.close(self._wake)
        self._pipe.close()


def _supervised() -> list[str]:
    """What a worker's command begins with where it has a supervisor."""
    if sys.platform != "linux":
        return []
    return [sys.executable, "-I", "-S", str(SUPERVISOR), str(os.getpid())]


def _kill_group(leader: int) -> None:
    """Kill a process group that was started here; nothing where it is gone."""
    if sys.platform == "win32":
        raise system.UnsupportedSystem
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


def temporary_folder(cache: Path) -> Path:
    """Where a run's workers put temporary files."""
    return cache / "temporary"


# Of the caller's environment: JAX's choice of device, its language, other names of the folder for temporary files.
UNWANTED = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME", "JAX_DEFAULT_DEVICE", "LANG", "LANGUAGE", "TEMP", "TMP")
UNWANTED_KINDS = ("GIT_", "LC_", "PYTHON")
# Of Python's, which are switches that change how a program runs: where its packages are, and whether it leaves bytecode.
WANTED = ("PYTHONHOME", "PYTHONPLATLIBDIR", "PYTHONUSERBASE", "PYTHONNOUSERSITE", "PYTHONDONTWRITEBYTECODE")


def environment(threads: int, cache: Path, code: Code = HERE) -> dict[str, str]:
    """Variables that pin every framework to the same number of threads and give it a fresh compilation cache.

    Of the caller's own those are left out that would lead a worker elsewhere: git's, Python's switches, devices,
    language. Temporary files lie in the run's folder and go with it.
    """
    count = str(threads)
    pins = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"), count)
    kept = {
        name: value
        for name, value in git.variables().items()
        if name in WANTED or not (name in UNWANTED or name.startswith(UNWANTED_KINDS))
    }
    return kept | pins | code.variables | {
        "PYTHONWARNINGS": "ignore",
        "LC_ALL": "C.UTF-8",
        "TMPDIR": str(temporary_folder(cache)),
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
