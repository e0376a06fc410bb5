"""Runs on disk: `<root>/<date>/<machine>/<run>.jsonl`, append-only, one fsynced write for all outcomes of a case.

A run killed at any moment stays readable: a half-written last line is skipped with a warning, and appending
after it starts on a fresh line.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from results.record import SCHEMA, Footer, Header, InvalidRecord, Line, Record, decode, encode

ROOT = Path(__file__).parent / "runs"
COMPARISONS = Path(__file__).parent / "comparisons"
HISTORY = Path(__file__).parent / "history"
CERTIFICATES = Path(__file__).parent / "certificates"


class StoreError(RuntimeError):
    """Results cannot be written or read; the message names the path and what to do."""


class DamagedLine(UserWarning):
    """A line of a run that could not be read, and was skipped."""


class Writer:
    """Appends lines to one run's file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise StoreError(f"cannot write results to {path}: {error.strerror}; choose a folder with --out") from error
        self._end_half_written_line()

    def append(self, *lines: Line) -> None:
        """Write lines together and wait until the disk has them; on failure the file is as before."""
        text = "".join(encode(line) + "\n" for line in lines).encode()
        size = os.fstat(self._file).st_size
        try:
            while text:
                text = text[os.write(self._file, text) :]
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, size)
            raise StoreError(
                f"cannot write to {self.path}: {error.strerror}. What was measured before is safe; "
                "make room and finish with --resume"
            ) from error

    def close(self) -> None:
        os.close(self._file)

    def _end_half_written_line(self) -> None:
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            os.write(self._file, b"\n")


@dataclass(frozen=True, slots=True)
class Run:
    """A run as read back. `footer` is None where the run was interrupted or is still going."""

    path: Path
    header: Header
    records: tuple[Record, ...]
    footer: Footer | None

    @property
    def finished(self) -> bool:
        return self.footer is not None and self.footer.complete


def new_path(root: Path, header: Header) -> Path:
    return root / header.started[:10] / header.machine / f"{header.run}.jsonl"


def read(path: Path) -> Run:
    """Read a run. Damaged lines are skipped with a `DamagedLine` warning; a newer schema is read as far as it is known."""
    header, records, footer = None, {}, None
    for line in _lines(path):
        if isinstance(line, Header):
            header = header or line
        elif isinstance(line, Record):
            records[line.task] = line
        else:
            footer = line
    if header is None:
        raise StoreError(f"{path} is no run: its first line, the run header, is missing or damaged")
    if header.schema > SCHEMA:
        message = f"{path} was written with schema {header.schema}, newer than {SCHEMA} read here; unknown fields are ignored"
        warnings.warn(message, DamagedLine, stacklevel=2)
    return Run(path, header, tuple(records.values()), footer)


def read_header(path: Path) -> Header | None:
    """A run's first line alone; None where it is none, as in a file that is no run."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            line = decode(file.readline())
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    except InvalidRecord:
        return None
    return line if isinstance(line, Header) else None


def find(root: Path) -> list[Path]:
    """Every run below `root` (or `root` itself if it is a file), oldest first."""
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise StoreError(f"no results at {root}: no such folder; measure first with: lstm-bench run quick --out {root}")
    return sorted(root.rglob("*.jsonl"), key=lambda path: (path.parts[-3:-2], path.name))


def _lines(path: Path) -> Iterator[Line]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield decode(line)
        except InvalidRecord as error:
            warnings.warn(f"{path}, line {number} skipped: {error}", DamagedLine, stacklevel=3)
