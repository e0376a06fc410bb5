"""pytest-benchmark's JSON files read as runs, so that a project's history is not lost when it comes here.

A number in them was taken by another clock and protocol, so every run read here carries protocol 0 and the benchmark's own
name: it never shares a line or a verdict with ours.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from results import output, store
from results.fields import is_amount
from results.record import Footer, Header, Measurement, Record, decode, encode
from results.store import StoreError

PROTOCOL = 0  # no protocol of ours
STUDY = BACKEND = "pytest-benchmark"
HOW_MANY_ZEROS = "{} rounds of 0 s left out: shorter than the clock can tell"
HOW = "write one with: pytest --benchmark-json=FILE"


@dataclass(frozen=True, slots=True)
class Imported:
    """A file as a run. left_out: its benchmarks that could not be used, each with its reason."""

    header: Header
    records: tuple[Record, ...]
    left_out: tuple[str, ...] = ()


def parsed(path: Path) -> tuple[Any, str]:
    """A file's JSON, and its text. Raises `StoreError` where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        return json.loads(text), text
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # also bytes that are no text
        raise StoreError(f"{path} is damaged or no JSON ({error}); {HOW}") from error


def read(path: Path) -> Imported:
    """As `of_values`, of a file."""
    return of_values(path, *parsed(path))


def of_values(path: Path, values: Any, text: str) -> Imported:
    """A file's benchmarks as records of one replicate: every round where the file has them, else their median.

    A benchmark that cannot be used is left out and named. Raises `StoreError` for a file that is none of pytest-benchmark's,
    that says nothing of its commit, or of which nothing can be used.
    """
    try:
        header, benchmarks = _header(values, text), list(values["benchmarks"])
        decode(encode(header))  # what would be written can be read
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{path} is no file of pytest-benchmark: {reason_of(error)}; {HOW}") from error
    records: dict[str, Record] = {}
    left_out: list[str] = []
    for place, benchmark in enumerate(benchmarks, 1):
        try:
            record = _record(benchmark)
            decode(encode(record))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            left_out.append(f"benchmark {place} of {path}: {reason_of(error)}")
            continue
        while record.case in records:  # two of one name are two benchmarks
            record = replace(record, case=_next_name(record.case))
        records[record.case] = record
    if not records:
        why = left_out[0] if left_out else "it holds no benchmark, as with --benchmark-disable"
        raise StoreError(f"nothing in {path} can be used: {why}; {HOW}")
    return Imported(header, tuple(records.values()), tuple(left_out))


def reason_of(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _next_name(name: str) -> str:
    """`name #2` after `name`, `name #3` after that."""
    bare, _, number = name.rpartition(" #")
    return f"{bare} #{int(number) + 1}" if bare and number.isdecimal() else f"{name} #2"


def find(paths: Sequence[Path]) -> list[Path]:
    """The files meant, folders such as .benchmarks searched through."""
    return [found for path in paths for found in (sorted(path.rglob("*.json")) if path.is_dir() else [path])]


def write(imported: Imported, root: Path) -> Path | None:
    """Store a run below `root`; None where the same file is there already."""
    header = imported.header
    path = store.new_path(root, header)
    if path.exists():
        return None
    with output.replacing(path) as part:  # no run as long as it may be half written
        writer = store.Writer(part)
        try:
            note = f"read from a file of {header.plan['suite']}"
            writer.append(header, *imported.records, Footer(header.started, True, 0.0, 0.0, note))
        finally:
            writer.close()
    return path


def _header(values: dict[str, Any], text: str) -> Header:
    commit, machine = values["commit_info"], values.get("machine_info") or {}  # which its users may replace
    if not isinstance(machine, dict):
        raise TypeError("machine_info is no table")
    cpu = machine["cpu"] if isinstance(machine.get("cpu"), dict) else {}
    if not commit.get("id") or commit["id"] in ("unversioned", "unknown"):
        raise ValueError("it was written outside a repository, so its times belong to no commit")
    started = datetime.fromisoformat(values["datetime"])
    started = (started.replace(tzinfo=UTC) if started.tzinfo is None else started).astimezone(UTC)
    named = (cpu.get("brand_raw"), cpu.get("brand"), machine.get("processor"), machine.get("machine"))
    model = str(next(filter(None, named), "unknown"))
    environment = {
        "cpu": {"model": model, "cores": cpu.get("count")},
        "os": f"{machine.get('system', 'unknown')} {machine.get('release', '')}".strip(),
        "python": machine.get("python_version"),
        "git": {"commit": commit["id"], "committed": commit.get("time"), "dirty": commit.get("dirty")},
        "node": machine.get("node"),
    }
    return Header(
        run=f"{started:%H%M%S}-pytest-benchmark-{hashlib.sha256(text.encode()).hexdigest()[:8]}",
        started=started.isoformat(timespec="seconds"), protocol=PROTOCOL, machine=_machine(model, cpu.get("count")),
        environment=environment, plan={"suite": STUDY, "version": values.get("version")},
    )  # fmt: skip


def _machine(model: str, cores: int | None) -> str:
    """As readable as our own names, and none of them: less is known of the machine."""
    return slug(f"{model} {cores or ''}") + "-pytest-benchmark"


def slug(name: str) -> str:
    """A name in small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _record(benchmark: dict[str, Any]) -> Record:
    name, stats = str(benchmark["fullname"]), benchmark["stats"]
    samples = tuple(_seconds(stats.get("data") or [stats["median"]], name))
    usable = tuple(value for value in samples if value)
    if not usable:
        raise ValueError(f"{name} has no time above 0 s")
    notes = [] if stats.get("data") else [f"the median of {stats.get('rounds', 'unknown')} rounds"]
    if coarse := len(samples) - len(usable):
        notes.append(HOW_MANY_ZEROS.format(coarse))
    return Record(
        study=STUDY, case=name, backend=BACKEND, replicate=0, status="ok",
        parameters=dict(_parameters(benchmark.get("params") or {})),
        measurements=(Measurement("time", "s", usable, notes=tuple(notes)),),
    )  # fmt: skip


def _parameters(given: dict[str, Any]) -> Iterator[tuple[str, str | int | float]]:
    for key, value in given.items():
        if isinstance(value, float) and not math.isfinite(value):
            yield key, str(value)  # JSON has no such numbers
        elif isinstance(value, str | int | float):
            yield key, value


def _seconds(samples: Sequence[Any], name: str) -> Iterator[float]:
    for value in samples:
        if not is_amount(value):
            raise ValueError(f"{name} has a time of {value!r} s")
        yield float(value)
