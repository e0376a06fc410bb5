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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from results import store
from results.record import Footer, Header, Measurement, Record
from results.store import StoreError

PROTOCOL = 0  # no protocol of ours
STUDY = BACKEND = "pytest-benchmark"
HOW = "write one with: pytest --benchmark-json=FILE"

Imported = tuple[Header, tuple[Record, ...]]


def read(path: Path) -> Imported:
    """A file's benchmarks as records of one replicate: every round where the file has them, else their median.

    Raises `StoreError` for a file that is none of pytest-benchmark's, or that says nothing of its commit.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # also bytes that are no text
        raise StoreError(f"{path} is damaged or no JSON ({error}); {HOW}") from error
    try:
        return _header(values, text), tuple(map(_record, values["benchmarks"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise StoreError(f"{path} is no file of pytest-benchmark: {what}; {HOW}") from error


def find(paths: Sequence[Path]) -> list[Path]:
    """The files meant, folders such as .benchmarks searched through."""
    return [found for path in paths for found in (sorted(path.rglob("*.json")) if path.is_dir() else [path])]


def write(imported: Imported, root: Path) -> Path | None:
    """Store a run below `root`; None where the same file is there already."""
    header, records = imported
    path = store.new_path(root, header)
    if path.exists():
        return None
    half = path.with_suffix(".part")  # no run as long as it may be half written
    half.unlink(missing_ok=True)
    writer = store.Writer(half)
    try:
        writer.append(header, *records, Footer(header.started, True, 0.0, 0.0, "read from a file of pytest-benchmark"))
    finally:
        writer.close()
    return half.replace(path)


def _header(values: dict[str, Any], text: str) -> Header:
    commit, machine, cpu = values["commit_info"], values["machine_info"], values["machine_info"].get("cpu") or {}
    if not commit.get("id") or commit["id"] in ("unversioned", "unknown"):
        raise ValueError("it was written outside a repository, so its times belong to no commit")
    started = datetime.fromisoformat(values["datetime"])
    started = (started.replace(tzinfo=UTC) if started.tzinfo is None else started).astimezone(UTC)
    model = cpu.get("brand_raw") or cpu.get("brand") or machine["processor"] or machine["machine"]
    environment = {
        "cpu": {"model": model, "cores": cpu.get("count")},
        "os": f"{machine['system']} {machine['release']}",
        "python": machine["python_version"],
        "git": {"commit": commit["id"], "committed": commit.get("time"), "dirty": commit.get("dirty")},
        "node": machine["node"],
    }
    return Header(
        run=f"{started:%H%M%S}-pytest-benchmark-{hashlib.sha256(text.encode()).hexdigest()[:8]}",
        started=started.isoformat(timespec="seconds"), protocol=PROTOCOL, machine=_machine(model, cpu.get("count")),
        environment=environment, plan={"suite": STUDY, "version": values["version"]},
    )  # fmt: skip


def _machine(model: str, cores: int | None) -> str:
    """As readable as our own names, and none of them: less is known of the machine."""
    slug = re.sub(r"[^a-z0-9]+", "-", f"{model} {cores or ''}".lower()).strip("-")
    return f"{slug}-pytest-benchmark"


def _record(benchmark: dict[str, Any]) -> Record:
    name, stats = str(benchmark["fullname"]), benchmark["stats"]
    samples = tuple(_seconds(stats.get("data") or [stats["median"]], name))
    parameters = {key: value for key, value in (benchmark.get("params") or {}).items() if isinstance(value, str | int | float)}
    notes = () if stats.get("data") else (f"the median of {stats['rounds']} rounds",)
    return Record(
        study=STUDY, case=name, backend=BACKEND, replicate=0, status="ok",
        parameters=parameters,
        measurements=(Measurement("time", "s", samples, notes=notes),),
    )  # fmt: skip


def _seconds(samples: Sequence[Any], name: str) -> Iterator[float]:
    for value in samples:
        if not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} has a time of {value!r} s")
        yield float(value)
