"""Finds the processes that a test has caused, by a variable in their environment or by their parents."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

MARK = "LSTM_BENCH_TEST_MARK"


def marked(mark: str) -> list[int]:
    """Processes that were started with this mark in their environment, except this one; those that have ended are none."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def left(mark: str, seconds: float = 5.0) -> list[int]:
    """What is left of them after at most so many seconds."""
    until = time.monotonic() + seconds
    while (found := marked(mark)) and time.monotonic() < until:
        time.sleep(0.02)
    return found
