"""Times measured on one's own GPU by `lstm-bench gpu-check --autotune`, which the selector takes before its models.

A table a device lies in the cache folder (`$LSTM_BENCH_CACHE`), as JSON. It belongs to the sources of the kernels: once one of
them changes the table is not used, and a plan's reason says so.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from impls import Unavailable
from impls.cuda.runtime import FOLDER
from impls.cuda.runtime.compile import VARIABLE, folder


@dataclass(frozen=True, slots=True)
class Time:
    """Microseconds of a time step of one recurrence with this configuration (as `describe` writes it)."""

    phase: str
    dtype: str
    hidden: int
    batch: int
    directions: int
    configuration: str
    microseconds: float

    @property
    def layer(self) -> tuple[str, str, int, int, int]:
        """What the configuration was measured for."""
        return self.phase, self.dtype, self.hidden, self.batch, self.directions


@dataclass(frozen=True, slots=True)
class Table:
    """times: by layer and configuration. note: why there are none, where a table was found and cannot be used."""

    times: Mapping[tuple[str, str, int, int, int], Mapping[str, float]] = field(default_factory=dict)
    note: str = ""


def describe(shape: Any) -> str:
    """A configuration by its design and every constant but the data type."""
    values = {each.name: getattr(shape, each.name) for each in dataclasses.fields(shape) if each.name != "storage"}
    return " ".join([shape.design, *(f"{name}={value}" for name, value in values.items())])


def path_of(device: str) -> Path:
    """Where the table of a device lies; device: its name, as PyTorch gives it."""
    return folder() / "autotuned" / (re.sub(r"[^A-Za-z0-9]+", "-", device).strip("-") + ".json")


@functools.cache
def sources() -> str:
    """A hash of all kernels' sources."""
    digest = hashlib.sha256()
    for path in sorted(FOLDER.glob("*.cu*")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def read(device: str) -> Table:
    """The device's table; an empty one where there is none, with a note where it is damaged or of other sources."""
    path = path_of(device)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        rows = [Time(**row) for row in stored["times"]]
    except FileNotFoundError:
        return Table()
    except (OSError, ValueError, TypeError, KeyError) as error:
        return Table(note=f"the autotuned table {path} cannot be read ({type(error).__name__}); make it anew with --autotune")
    if stored.get("sources") != sources():
        return Table(note=f"the autotuned table {path} is of other kernel sources; make it anew with --autotune")
    found: dict[tuple[str, str, int, int, int], dict[str, float]] = {}
    for row in rows:
        found.setdefault(row.layer, {})[row.configuration] = row.microseconds
    return Table(found)


def write(device: str, times: Sequence[Time]) -> Path:
    """Add the times to the device's table; earlier ones of the same layers, and of other sources, are dropped.

    Raises `Unavailable` where the cache folder cannot be written.
    """
    path, layers = path_of(device), {time.layer for time in times}
    kept = [
        Time(*layer, configuration, microseconds)
        for layer, configurations in read(device).times.items()
        if layer not in layers
        for configuration, microseconds in configurations.items()
    ]
    rows = [dataclasses.asdict(time) for time in (*kept, *times)]
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps({"device": device, "sources": sources(), "times": rows}, indent=1), encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        raise Unavailable(
            f"the autotuned table cannot be written to {path} ({error.strerror or error}); set {VARIABLE} to a folder that can"
        ) from error
    return path
