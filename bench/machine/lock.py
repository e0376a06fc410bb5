"""One run at a time on a device: two would measure each other.

The lock is a file in one place for all users of a machine, whatever their TMPDIR.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from bench.machine import system
from lstm_bench.errors import ExitCode, UserError

HOLDER_BYTES = 200  # of the line that says who holds the lock
FOLDER_VARIABLE = "LSTM_BENCH_LOCKS"
FOLDER = "/tmp"  # which every POSIX system has and every user may write to


class DeviceBusy(UserError, RuntimeError):
    """Another run holds the device; the message names its process."""

    exit_code = ExitCode.DEVICE_BUSY


class NotOurs(UserError, RuntimeError):
    """The lock's file cannot be opened, or something else lies in its place; the message says what to do."""

    exit_code = ExitCode.DEVICE_BUSY


class StoppedWaiting(KeyboardInterrupt):
    """Ctrl-C while another run was waited for: this one has measured nothing."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What to do where a device is locked.

    Args:
        on_busy: called once with a sentence on who holds the device, which is then waited for; `DeviceBusy` is raised if None.
        on_acquired: called each time the device has become this process's.
        inner: be content if this process holds the device already, as a machine of a fleet does for all that it measures.
    """

    on_busy: Callable[[str], None] | None = None
    on_acquired: Callable[[], None] | None = None
    inner: bool = False


REFUSE = Policy()
_policy: ContextVar[Policy] = ContextVar("policy of device locks", default=REFUSE)
_held: set[Path] = set()


@contextmanager
def policy(chosen: Policy) -> Iterator[None]:
    """Let `device_lock` follow this policy while the context is open."""
    token = _policy.set(chosen)
    try:
        yield
    finally:
        _policy.reset(token)


@contextmanager
def device_lock(device: str, folder: Path | None = None, inner: bool = False) -> Iterator[None]:
    """Hold the lock of `device` (cpu or cuda); it is freed when this process ends, however it ends.

    Args:
        device: cpu or cuda.
        folder: where the lock's file is; if None, the folder named by LSTM_BENCH_LOCKS, or /tmp.
        inner: be content if this process holds it already, as what measures is inside of what made the results' file.

    Raises:
        DeviceBusy: another process holds it, and the policy is not to wait.
        NotOurs: its file is no lock of lstm-bench's, or cannot be opened.
        StoppedWaiting: Ctrl-C while it was waited for.
    """
    if sys.platform == "win32":
        raise system.UnsupportedSystem
    path = (folder or Path(os.environ.get(FOLDER_VARIABLE) or FOLDER)) / f"lstm-bench-{device}.lock"
    if (inner or _policy.get().inner) and path in _held:
        yield
        return
    handle = _open(path)
    try:
        _acquire(handle, device)
        os.ftruncate(handle, 0)
        os.pwrite(handle, _holder(), 0)
        _held.add(path)
        if acquired := _policy.get().on_acquired:
            acquired()
        yield
    finally:
        _held.discard(path)
        os.close(handle)


def _open(path: Path) -> int:
    """The lock's file, which every user of the machine may lock. Raises `NotOurs` for anything else of that name."""
    if sys.platform == "win32":
        raise system.UnsupportedSystem
    try:
        handle = _opened(path)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise NotOurs(
                f"cannot open the lock {path}: {error.strerror}; name a folder that everybody who measures on this machine "
                f"may write to by {FOLDER_VARIABLE}"
            ) from error
        raise NotOurs(f"{path} is a symbolic link and not lstm-bench's lock; remove it and measure again") from None
    found = os.fstat(handle)
    regular = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
    if not regular or not re.fullmatch(rb"(\d+[^\n]*\n?)?", os.pread(handle, HOLDER_BYTES + 1, 0)):
        os.close(handle)
        raise NotOurs(f"{path} is not lstm-bench's lock: nothing in it is touched; move it away and measure again")
    return handle


def _opened(path: Path) -> int:
    if sys.platform == "win32":
        raise system.UnsupportedSystem
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, flags)  # without O_CREAT, which Linux refuses for another user's file in a shared folder
    handle = os.open(path, flags | os.O_CREAT, 0o666)
    with contextlib.suppress(PermissionError):  # made by another user in this moment
        os.fchmod(handle, 0o666)
    return handle


def _acquire(handle: int, device: str) -> None:
    if sys.platform == "win32":
        raise system.UnsupportedSystem
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    except BlockingIOError:
        pid, _, command = os.pread(handle, HOLDER_BYTES, 0).decode(errors="replace").strip().partition(" ")
    holder = f"another run (process {pid or 'unknown'}{f': {command}' if command else ''}) is measuring on {device}"
    on_busy = _policy.get().on_busy
    if on_busy is None:
        raise DeviceBusy(
            f"{holder}; two at once would measure each other. Wait for it by the same command with --wait, or stop it"
        )
    on_busy(f"{holder}; waiting until it ends (Ctrl-C to give up)")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except KeyboardInterrupt as stop:
        raise StoppedWaiting from stop


def _holder() -> bytes:
    """This process, as a refusal or a wait names it."""
    program = Path(sys.argv[0]).name
    command = shlex.join(["lstm-bench" if program == "__main__.py" else program, *sys.argv[1:]])
    return f"{os.getpid()} {command}".encode()[: HOLDER_BYTES - 1] + b"\n"
