"""Temporary folders of a run, each with a note of whose it is: those that a killed run has left are removed by the next."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.machine import system

PREFIX = "lstm-bench-"
NOTE = "owner.json"


@contextmanager
def folder(purpose: str = "") -> Iterator[Path]:
    """A temporary folder, removed at the end. purpose: a part of its name."""
    with tempfile.TemporaryDirectory(prefix=PREFIX + (f"{purpose}-" if purpose else ""), ignore_cleanup_errors=True) as name:
        (Path(name) / NOTE).write_text(json.dumps({"pid": os.getpid(), "started": _started(os.getpid())}), encoding="utf-8")
        yield Path(name)


def sweep() -> list[Path]:
    """Remove the folders of processes that are gone; returns them. Only this user's, and only those with a note."""
    removed: list[Path] = []
    if sys.platform == "win32":  # nothing is measured there
        return removed
    for place in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if place.is_symlink() or place.stat().st_uid != os.getuid():
                continue
            owner = json.loads((place / NOTE).read_text(encoding="utf-8"))
            if _is_gone(int(owner["pid"]), owner["started"]):
                shutil.rmtree(place)
                removed.append(place)
    return removed


def _is_gone(pid: int, started: str | None) -> bool:
    """Numbers of processes are used again; the moment at which one started tells two apart where the system says it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # somebody else's, so not the owner
        return True
    return _started(pid) != started


def _started(pid: int) -> str | None:
    """When a process started, in clock ticks after the system did; None where the system does not say."""
    if sys.platform != "linux":
        return None
    return system.process_fields(pid)[system.STARTED]
