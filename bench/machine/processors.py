"""Which processors this process may use, and how busy they are."""

from __future__ import annotations

import os
import sys


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
