"""Compiled files on disk, named by the hash of all that went into them; safe under several processes.

Beside each file lies the hash of its content; a file that was cut short or changed is built again.
"""

from __future__ import annotations

import hashlib
import os
import sys
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from impls import Unavailable

VARIABLE = "LSTM_BENCH_CACHE"
Answer = TypeVar("Answer")


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
        """The file made from `inputs`: the one on disk if it is whole, else built now and moved there in one step.

        Raises `Unavailable` where the folder cannot be read or written.
        """
        digest = hashlib.sha256()
        for text in inputs:
            digest.update(len(text).to_bytes(8, "little") + text.encode())
        path = self.root / kind / (digest.hexdigest()[:32] + suffix)
        if self._on_disk(_whole, path):
            return path
        content = build()
        self._on_disk(path.parent.mkdir, parents=True, exist_ok=True)
        # The content first: a reader between the two finds no matching hash and builds for itself.
        self._on_disk(_write, path, content)
        self._on_disk(_write, _seal(path), hashlib.sha256(content).hexdigest().encode())
        return path

    def _on_disk(self, act: Callable[..., Answer], *arguments: object, **options: object) -> Answer:
        try:
            return act(*arguments, **options)
        except OSError as error:
            raise Unavailable(
                f"compiled kernels are kept in {self.root}, which cannot be used ({error.strerror or error}); "
                f"set {VARIABLE} to a folder that can be read and written"
            ) from error


def _seal(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _whole(path: Path) -> bool:
    try:
        return _seal(path).read_bytes().decode("ascii", "replace") == hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return False


def _write(path: Path, content: bytes) -> None:
    """As readable to others as the user's umask lets any new file be, so that a cache can be shared."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{uuid.uuid4().hex}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
