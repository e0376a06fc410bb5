"""Measured times of kernel configurations, where there are any: µs a time step of one cluster kernel alone on an H100.

The data is `measured_h100.json` beside this file. Each row is one configuration with its times over the batches that were
measured:

    [phase, hidden, blocks a cluster, columns, split, k-tiles in registers or null for all, [µs a step, …]]

A time belongs to a kernel's source: once the source or a header of it changes, nothing is measured until it is measured again.
The selector (`plan.py`) does not rank by these times yet; it says which of a plan's times were measured.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from impls.cuda.runtime.kernels import BFLOAT16, FLOAT16, FOLDER
from impls.cuda.select.configurations import Shape

Phase = Literal["forward", "backward"]
TABLE = Path(__file__).parent / "measured_h100.json"
# The table does not say which of the two 16-bit types was measured: they share sources, registers and bytes.
STORAGES = (BFLOAT16, FLOAT16)
SOURCES: dict[Phase, str] = {"forward": "cluster_forward.cu", "backward": "cluster_backward.cu"}
HEADERS = ("device.cuh", "device_ptx.cuh", "storage.cuh")


@dataclass(frozen=True, slots=True)
class Measured:
    """A measured time of a configuration.

    microseconds: of a time step. batch: at which it was measured; it needs as many waves of clusters as what was asked.
    """

    microseconds: float
    batch: int


@dataclass(frozen=True, slots=True)
class _Table:
    sources: dict[str, str]
    batches: tuple[int, ...]
    times: dict[tuple[Any, ...], tuple[float, ...]]


def step_time(phase: Phase, shape: Shape, columns: int, resident: int) -> Measured | None:
    """The measured time of a configuration for so many columns of a batch of one direction; None where it was not measured.

    Args:
        columns: sequences of the batch.
        resident: clusters of this size that run at once, as in the model.
    """
    table = _table()
    times = table.times.get((phase, shape.hidden, shape.cluster, shape.columns, shape.split, shape.resident))
    if shape.storage not in STORAGES or times is None or table.sources[phase] != source_hash(phase):
        return None

    def waves(of: int) -> int:
        return math.ceil(math.ceil(of / shape.columns) / resident)

    for batch, microseconds in zip(table.batches, times, strict=True):
        if batch >= columns:
            return Measured(microseconds, batch) if waves(batch) == waves(columns) else None
    return None


@functools.cache
def source_hash(phase: Phase) -> str:
    """Of the kernel's source and its headers."""
    texts = [(FOLDER / name).read_bytes() for name in (SOURCES[phase], *HEADERS)]
    return hashlib.sha256(b"\0".join(texts)).hexdigest()[:16]


@functools.cache
def _table() -> _Table:
    values = json.loads(TABLE.read_text(encoding="utf-8"))
    times = {tuple(row[:-1]): tuple(row[-1]) for row in values["rows"]}
    return _Table(values["sources"], tuple(values["batches"]), times)
