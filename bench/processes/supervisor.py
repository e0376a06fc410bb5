"""Starts a worker and outlives it: when the worker or its parent ends, whatever the worker has started ends too (Linux).

    python -I -S bench/processes/supervisor.py PARENT COMMAND...

A file on its own, of the standard library alone, so that it costs little and serves workers of every revision. It adopts every
orphan below it (PR_SET_CHILD_SUBREAPER), so a daemon that left the worker's session is still found. It ends as the worker did.
"""

# pyright: reportAttributeAccessIssue=false
# What is checked as on Windows and macOS, too, has less in `os` and `signal`; this runs on Linux alone.

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # prctl(2)


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    watched = {signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGCHLD}
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # Held back from here on and fetched by `sigwait`; the worker starts without.
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    if os.getppid() != parent:  # it ended before it could be told
        sys.exit(1)
    worker = os.posix_spawn(command[0], command, os.environ, setsigmask=())
    _let_go_of_pipes()
    status = None
    while status is None and signal.sigwait(watched) == signal.SIGCHLD:
        status = _reaped().get(worker)
    while below := _below():
        for number in (signal.SIGSTOP, signal.SIGKILL):  # one that is stopped starts nothing meanwhile
            for process in below:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, number)
        status = _reaped(wait=True).get(worker, status)
    _end_as(status if status is not None else signal.SIGKILL)


def _let_go_of_pipes() -> None:
    """Else the parent would wait for the end of a pipe that is held here."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)


def _reaped(wait: bool = False) -> dict[int, int]:
    """How children have ended, by their number. wait: for the first one."""
    ended: dict[int, int] = {}
    while True:
        try:
            child, status = os.waitpid(-1, 0 if wait and not ended else os.WNOHANG)
        except ChildProcessError:
            return ended
        if not child:
            return ended
        ended[child] = status


def _below() -> list[int]:
    """The processes below this one that have not been waited for."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with (
            contextlib.suppress(FileNotFoundError, ProcessLookupError),
            open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file,
        ):
            parent = int(file.read().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(name))
    found = list(children.get(os.getpid(), ()))
    for process in found:
        found += children.get(process, ())
    return found


def _end_as(status: int) -> None:
    if os.WIFSIGNALED(status):
        import resource  # Windows, which reads this file and does not run it, has none

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the worker has left one, if it was to
        number = os.WTERMSIG(status)
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, set(signal.valid_signals()))
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


if __name__ == "__main__":
    main()
