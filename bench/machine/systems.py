"""On which operating systems lstm-bench measures: Linux and macOS. On Windows it reads, shows and compares stored runs."""

from __future__ import annotations

import sys

MEASURES = sys.platform != "win32"
WHAT_TO_DO = (
    "lstm-bench does not measure on Windows: use WSL2, where the same command measures; "
    "here it reads stored runs (list, show, report, claims, export, compare RUN RUN)"
)


class UnsupportedSystem(RuntimeError):
    """Measuring was asked for on an operating system on which it is not supported; the message says where it is."""

    def __init__(self, message: str = WHAT_TO_DO) -> None:
        super().__init__(message)


def require_measuring() -> None:
    """Raise `UnsupportedSystem` on Windows."""
    if not MEASURES:
        raise UnsupportedSystem
