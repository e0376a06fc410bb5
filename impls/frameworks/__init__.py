"""What backends of one framework share, a folder a framework; here the profiler passes kept between the processes of a run.

A pass costs more than a call, and each finds the same kernels. What a backend says of itself otherwise (switches, versions,
counters) is read in every process. Importing this imports no framework.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Passes:
    """The passes that one look at a loaded network makes, in order: read from `path` where they lie there, else kept there."""

    path: Path | None = None
    known: list[list[str]] = field(default_factory=list)
    made: list[list[str]] = field(default_factory=list)


_current = Passes()


@contextmanager
def kept_profiles(folder: str | None, name: str) -> Iterator[None]:
    """Inside, passes are read from the folder if a process of the run has made them for `name`; else they are made and kept.

    Args:
        folder: of one run of one code; None keeps nothing.
        name: of what is looked at, the backend and its case.
    """
    global _current
    before, _current = _current, _opened(folder, name)
    try:
        yield
        _save(_current)
    finally:
        _current = before


def profiled_names(look: Callable[[], list[str]]) -> list[str]:
    """What the profiler saw: the pass that is kept, or else that of `look`."""
    number = len(_current.made)
    found = _current.known[number] if number < len(_current.known) else look()
    _current.made.append(found)
    return found


def _opened(folder: str | None, name: str) -> Passes:
    if not folder:
        return Passes()
    path = Path(folder) / f"profile-{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"
    return Passes(path, json.loads(path.read_text(encoding="utf-8")) if path.exists() else [])


def _save(passes: Passes) -> None:
    if passes.path is None or len(passes.known) >= len(passes.made):
        return
    passes.path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = passes.path.with_name(f"{os.getpid()}-{passes.path.name}")
    unfinished.write_text(json.dumps(passes.made), encoding="utf-8")
    os.replace(unfinished, passes.path)  # others see all of it or nothing
