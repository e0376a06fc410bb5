"""Which processors this process may use."""

from __future__ import annotations

import os


def usable() -> tuple[int, ...]:
    """Numbers of the processors the kernel lets us run on, in order."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))
