"""What the system tells: its kind, processors, processes, memory limits, NVML; and numbers with units.

Read from /proc without psutil, which reads the same files: workers run on images that others built, so dependencies stay few.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lstm_bench.errors import UserError

# On which operating systems lstm-bench measures: Linux and macOS. On Windows it reads, shows and compares stored runs.

MEASURES = sys.platform != "win32"
WHAT_TO_DO = (
    "lstm-bench does not measure on Windows: use WSL2, where the same command measures; "
    "here it reads stored runs (list, show, report, claims, export, compare RUN RUN)"
)


class UnsupportedSystem(UserError, RuntimeError):
    """Measuring was asked for on an operating system on which it is not supported; the message says where it is."""

    def __init__(self, message: str = WHAT_TO_DO) -> None:
        super().__init__(message)


def require_measuring() -> None:
    """Raise `UnsupportedSystem` on Windows."""
    if not MEASURES:
        raise UnsupportedSystem


# Which processors this process may use, and how busy they are.


def usable() -> tuple[int, ...]:
    """Numbers of the processors the kernel lets us run on, in order."""
    if sys.platform == "linux":
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def load_average() -> float | None:
    """Processes that ran or waited to run, averaged over the last minute; None where nothing tells, as on Windows."""
    if sys.platform == "win32":
        return None
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


# What Linux says of a process in /proc/PID/stat (proc_pid_stat(5)).

PARENT, TIMES, STARTED = 1, slice(11, 15), 19  # utime stime cutime cstime; in clock ticks, as the moment it started


def process_fields(pid: int | str) -> list[str]:
    """The fields after the name of the program, which may hold anything. Raises `OSError` where there is no such process."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


# What memory a control group leaves to this process: a container is killed at its own limit, whatever the machine has free.

# Of the unified hierarchy and of the older one: limit, use, and the line of memory.stat that can be taken back (cgroups(7)).
UNIFIED = ("memory.max", "memory.current", "inactive_file")
OLDER = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def free_bytes(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """The least that this process's group or one above it leaves; None where no group has a limit."""
    return min((left for folder, names in _groups(root, own) if (left := _left(folder, *names)) is not None), default=None)


def _groups(root: Path, own: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """Folders of this process's groups that account for memory, and of those above them."""
    for line in own.read_text(encoding="utf-8").splitlines() if own.exists() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, names = (root / "memory", OLDER) if controllers else (root, UNIFIED)
        folder = top / path.lstrip("/")
        yield folder, names
        yield from ((above, names) for above in folder.parents if above.is_relative_to(top))


def _left(folder: Path, limit: str, used: str, reclaimable: str) -> int | None:
    try:
        allowed, taken = _text(folder / limit), int(_text(folder / used))
        stat = dict(line.split() for line in _text(folder / "memory.stat").splitlines())
    except OSError:  # the root has no such files, and a group need not account for memory
        return None
    return None if allowed == "max" else max(0, int(allowed) - taken + int(stat.get(reclaimable, 0)))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


# NVML, the driver's own account of the GPU: opened in one place, so that a machine without it is told in one sentence.


class NoNVML(RuntimeError):
    """NVML is not here or does not answer; the message says which."""


def first_gpu() -> tuple[Any, Any]:
    """The module `pynvml`, opened, and its handle of GPU 0. Raises `NoNVML`."""
    try:
        import pynvml
    except ImportError as error:
        raise NoNVML(f"the package nvidia-ml-py is missing ({error}); install it with: pip install nvidia-ml-py") from error
    try:
        pynvml.nvmlInit()
        return pynvml, pynvml.nvmlDeviceGetHandleByIndex(0)
    except pynvml.NVMLError as error:
        raise NoNVML(f"NVML does not answer: {error}") from error


# Numbers with the units that people read.
