"""Runs on disk: `<root>/<date>/<machine>/<run>.jsonl`, append-only, one fsynced write for all outcomes of a case.

A run is born whole, with its first line, under a name that nobody else has. Killed at any later moment it stays readable: a
half-written last line is skipped with a warning, and appending after it starts on a fresh line.
"""

from __future__ import annotations

import os
import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

from lstm_bench.errors import ExitCode, UserError
from results import exclusions
from results.record import SCHEMA, Footer, Header, InvalidRecord, Line, Record, decode, encode, torn

FOLDER_VARIABLE = "LSTM_BENCH_RESULTS"
# Relative to the current folder, and never beside the code, which may be installed: in a checkout's root they are its own.
FOLDER = Path(os.environ.get(FOLDER_VARIABLE) or "results")
ROOT = FOLDER / "runs"
REFERENCE = FOLDER / "reference"
COMPARISONS = FOLDER / "comparisons"
HISTORY = FOLDER / "history"
CERTIFICATES = FOLDER / "certificates"
BINARY: int = getattr(os, "O_BINARY", 0)  # without it Windows ends a line with two characters


class StoreError(UserError, RuntimeError):
    """Results cannot be written or read; the message names the path and what to do."""


class Corrupt(StoreError):
    """A file that is no run any more, or never was one."""

    exit_code = ExitCode.CORRUPT


class WriteFailed(StoreError):
    """The disk took no more of a run that had begun."""

    exit_code = ExitCode.DISK_FULL


class NameTaken(StoreError):
    """Another run has this name already."""


class DamagedLine(UserWarning):
    """A line of a run that could not be read, and was skipped."""


class Writer:
    """Appends lines to one run's file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | BINARY, 0o644)
        except OSError as error:
            raise StoreError(f"cannot write results to {path}: {error.strerror}; choose a folder with --out") from error
        self._end_half_written_line()
        self._size = os.fstat(self._file).st_size  # as it was left

    def append(self, *lines: Line) -> None:
        """Write lines together and wait until the disk has them; on failure the file is as before.

        Raises `WriteFailed` where the disk takes no more, and where the file is no longer there or as long as it was left:
        what is written to a removed file is lost, and a file that shrank has lost what was measured.
        """
        text = "".join(encode(line) + "\n" for line in lines).encode()
        size = self._require_as_left()
        try:
            while text:
                text = text[os.write(self._file, text) :]
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, size)
            raise WriteFailed(
                f"cannot write to {self.path}: {error.strerror}. What was measured before is safe; "
                "make room and go on by the same command, with --resume where it has that"
            ) from error
        self._size = os.fstat(self._file).st_size

    def _require_as_left(self) -> int:
        """The file's size. Raises `WriteFailed` unless the one at the path is open here, and no shorter than it was left."""
        open_one = os.fstat(self._file)
        try:
            there = self.path.stat()
        except OSError as error:
            raise WriteFailed(
                f"{self.path} can no longer be found ({error.strerror}): it or its folder was removed or moved while it was "
                "written. Put it back and go on by the same command, with --resume where it has that; else measure again"
            ) from error
        if (there.st_dev, there.st_ino) != (open_one.st_dev, open_one.st_ino):
            raise WriteFailed(f"{self.path} was replaced by another file while it was written; measure again in another folder")
        if open_one.st_size < self._size:
            raise WriteFailed(
                f"{self.path} shrank from {self._size} to {open_one.st_size} bytes while it was written: what was measured is "
                "no longer in it. Restore it from a copy and go on by the same command, with --resume where it has that"
            )
        return open_one.st_size

    def close(self) -> None:
        os.close(self._file)

    def discard(self) -> None:
        """Close, and leave no trace of a run that came to nothing."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _end_half_written_line(self) -> None:
        size = os.fstat(self._file).st_size
        if not size:
            return
        os.lseek(self._file, -1, os.SEEK_END)
        if os.read(self._file, 1) != b"\n":
            os.write(self._file, b"\n")


@dataclass(frozen=True, slots=True)
class Run:
    """A run as read back. `footer` is None where the run was interrupted or is still going.

    damaged: numbers of lines that no interruption explains; what a kill left half-written is not among them.
    left_out: outcomes that are not among the records, with the reason (see `results.exclusions`).
    """

    path: Path
    header: Header
    records: tuple[Record, ...]
    footer: Footer | None
    damaged: tuple[int, ...] = ()
    left_out: Mapping[exclusions.Task, exclusions.Reason] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return self.footer is not None and self.footer.complete


def new_path(root: Path, header: Header) -> Path:
    return root / header.started[:10] / header.machine / f"{header.run}.jsonl"


def create(root: Path, header: Header, numbered: bool = True) -> Writer:
    """A new run on disk with its first line, or nothing at all.

    The header and its file get a number where the name is taken; `NameTaken` is raised instead unless `numbered`.
    """
    for number in count(1):
        named = header if number == 1 else replace(header, run=f"{header.run}-{number}")
        path = new_path(root, named)
        try:
            return _create_atomically(path, named)
        except FileExistsError:
            if not numbered:
                raise NameTaken(f"{path} is there already") from None
    raise AssertionError("numbers do not end")


def _create_atomically(path: Path, header: Header) -> Writer:
    """Held by its part's name, which only one process can have, until the first line is on disk."""
    part = path.with_suffix(".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    except FileExistsError:
        if part.parent.is_dir():
            raise
        raise StoreError(f"cannot write results to {path}: a file is in its way; choose a folder with --out") from None
    except OSError as error:
        raise StoreError(f"cannot write results to {path}: {error.strerror}; choose a folder with --out") from error
    try:
        if path.exists():
            raise FileExistsError(path)
        writer = Writer(part)
        try:
            writer.append(header)
        finally:
            writer.close()  # Windows renames no open file
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return Writer(path)


def check_writable(path: Path) -> None:
    """Before what will be written there costs time. Raises `StoreError`; leaves no file that was not there."""
    new = not path.exists()
    try:
        path.open("ab").close()
        if new:
            path.unlink()
    except OSError as error:
        raise StoreError(f"cannot write to {path}: {error.strerror}; name another file") from error


def read(path: Path) -> Run:
    """Read a run without the outcomes that `exclusions.json` beside it leaves out. Damaged lines are skipped with a
    `DamagedLine` warning; a newer schema is read as far as it is known."""
    header, footer = None, None
    records: dict[exclusions.Task, Record] = {}
    damaged: list[int] = []
    for line in _lines_once(path, damaged):
        if isinstance(line, Header):
            header = header or line
        elif isinstance(line, Record):
            records[line.task] = line
        else:
            footer = line
    if header is None:
        raise _no_run(path)
    if header.schema > SCHEMA:
        message = f"{path} was written with schema {header.schema}, newer than {SCHEMA} read here; unknown fields are ignored"
        warnings.warn(message, DamagedLine, stacklevel=2)
    try:
        kept, left_out = exclusions.split(path, records)
    except exclusions.InvalidExclusions as error:
        raise StoreError(str(error)) from error
    return Run(path, header, kept, footer, tuple(damaged), left_out)


def stream(path: Path) -> Iterator[tuple[Header, Record]]:
    """The records of a run that `read` gives, one at a time and each with the run's header: for files larger than memory.

    Raises `StoreError` as `read` does, where the file of exclusions is wrong only at the end.
    """
    header = None
    try:
        excluded = exclusions.beside(path)
        absent = set(excluded)
        for line in _lines_once(path):
            if isinstance(line, Header):
                header = header or line
            elif isinstance(line, Record) and line.task in excluded:
                exclusions.require_failed(path, line.task, line)
                absent.remove(line.task)
            elif isinstance(line, Record) and header is not None:
                yield header, line
        for task in absent:
            exclusions.require_failed(path, task, None)
    except exclusions.InvalidExclusions as error:
        raise StoreError(str(error)) from error
    if header is None:
        raise _no_run(path)


def written(path: Path) -> dict[exclusions.Task, Record]:
    """Every record of a run by task, as written, also those that `read` leaves out."""
    return {line.task: line for _, line in _lines(path) if isinstance(line, Record)}


def header_of(path: Path) -> Header:
    """A run's first line alone. Raises `Corrupt` where it is none."""
    if (header := read_header(path)) is None:
        raise _no_run(path)
    return header


def readable(paths: Sequence[Path]) -> dict[Path, Header]:
    """Those of the files that are runs, with their headers; the others are left out with a `DamagedLine` warning each.

    Raises `Corrupt`, of the first of them, where none is a run.
    """
    headers = {path: read_header(path) for path in paths}
    found = {path: header for path, header in headers.items() if header is not None}
    if headers and not found:
        raise _no_run(paths[0])
    for path in (path for path in headers if path not in found):
        warnings.warn(f"left out: {_no_run(path)}", DamagedLine, stacklevel=2)
    return found


def _no_run(path: Path) -> Corrupt:
    return Corrupt(
        f"{path} is no run: its first line, the run header, is missing or damaged; restore the file from a copy of it, "
        "or move it out of the folder"
    )


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
        if root.suffix:
            raise StoreError(f"no results at {root}: no such file; the newest run is shown by: lstm-bench show")
        out = shlex.quote(str(root))
        raise StoreError(f"no results at {root}: no such folder; measure first with: lstm-bench run quick --out {out}")
    return sorted(root.rglob("*.jsonl"), key=lambda path: (path.parts[-3:-2], path.stem))


def only(path: Path) -> Path:
    """The one run that is at `path`, its file or a folder that holds no other. Raises `StoreError` where there is not one."""
    found = at(path)
    if len(found) != 1:
        raise StoreError(f"{path} holds {len(found)} runs; name one of them")
    return found[0]


def at(path: Path) -> list[Path]:
    """The runs that a user has named: a file, or all in a folder. Raises `StoreError` where it holds none."""
    found = find(path)
    if not found:
        raise StoreError(f"no run below {path}: the folder holds no .jsonl file; name a run or measure one first")
    return found


def newest(root: Path) -> Path:
    """The latest run below `root`. Raises `StoreError` where there is none."""
    found = find(root)
    if not found:
        raise StoreError(f"no run below {root}; measure first with: lstm-bench run quick --out {shlex.quote(str(root))}")
    return found[-1]


def _lines(path: Path, damaged: list[int] | None = None) -> Iterator[tuple[int, Line]]:
    """What can be read, with its line's number; the numbers of lines that are not merely half-written go to `damaged`."""
    for number, line in _text_lines(path):
        if not line.strip():
            continue
        try:
            yield number, decode(line)
        except InvalidRecord as error:
            if number == 1:
                raise _no_run(path) from error
            if torn(line):
                _skip(path, number, "it was half-written when the run was interrupted", None)
            else:
                _skip(path, number, f"it is damaged ({error}); restore the file from a copy of it", damaged)


def _lines_once(path: Path, damaged: list[int] | None = None) -> Iterator[Line]:
    """What can be read; of two records of one task the first."""
    tasks: set[exclusions.Task] = set()
    for number, line in _lines(path, damaged):
        if isinstance(line, Record):
            if line.task in tasks:
                _skip(path, number, "it repeats an outcome; the first one counts", damaged)
                continue
            tasks.add(line.task)
        yield line


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """One at a time, so that a file of any size is read in the memory of its longest line."""
    try:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
            for number, line in enumerate(file, 1):
                yield number, line.removesuffix("\n")
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error


def _skip(path: Path, number: int, why: str, damaged: list[int] | None) -> None:
    if damaged is not None:
        damaged.append(number)
    warnings.warn(f"{path}, line {number} skipped: {why}", DamagedLine, stacklevel=4)
