"""Compiled files on disk, named by the hash of all that went into them; safe under several processes.

Beside each file lies the hash of its content; a file that was cut short or changed is built again.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

VARIABLE = "LSTM_BENCH_CACHE"


def folder() -> Path:
    """$LSTM_BENCH_CACHE, else the platform's cache folder."""
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "lstm-bench"


@dataclass(frozen=True, slots=True)
class Artifacts:
    root: Path = field(default_factory=folder)

    def get(self, kind: str, inputs: Iterable[str], suffix: str, build: Callable[[], bytes]) -> Path:
        """The file made from `inputs`: the one on disk if it is whole, else built now and moved there in one step."""
        digest = hashlib.sha256()
        for text in inputs:
            digest.update(len(text).to_bytes(8, "little") + text.encode())
        path = self.root / kind / (digest.hexdigest()[:32] + suffix)
        if not _whole(path):
            content = build()
            path.parent.mkdir(parents=True, exist_ok=True)
            # The content first: a reader between the two finds no matching hash and builds for itself.
            _write(path, content)
            _write(_seal(path), hashlib.sha256(content).hexdigest().encode())
        return path


def _seal(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _whole(path: Path) -> bool:
    try:
        return _seal(path).read_bytes().decode("ascii", "replace") == hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return False


def _write(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
