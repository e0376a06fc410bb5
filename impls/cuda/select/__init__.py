"""Which kernels run a layer, and why: measured times, modelled times, the selector.

A plan is chosen by modelled time. The constants of the model were assumed before a GPU was seen; an H100 answered them
(docs/kernel-log.md), and they are as they were until the model is fitted anew. Where the very configuration was measured, the
plan's reason says so with the time; the ranking does not use it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from impls.cuda.runtime import BFLOAT16, FLOAT16, FOLDER, TENSORFLOAT32, Kernel, Refused, Storage
from impls.cuda.select.configurations import (
    GRID,
    GRID_BACKWARD,
    SHARED_LIMIT,
    BackwardShape,
    ExactSteps,
    ForwardShape,
    GridShape,
    TensorSteps,
)

# Measured times of kernel configurations, where there are any: µs a time step of one cluster kernel alone on an H100.
#
# The data is `measured_h100.json` beside this file. Each row is one configuration with its times over the batches that were
# measured:
#
#     [phase, hidden, blocks a cluster, columns, split (backward: warps), k-tiles in registers or null for all, [µs a step, …]]
#
# A time belongs to a kernel's source: once the source or a header of it changes, nothing is measured until it is measured
# again.

Phase = Literal["forward", "backward"]
TABLE = Path(__file__).parent / "measured_h100.json"
# The table does not say which of the two 16-bit types was measured: they share sources, registers and bytes.
STORAGES = (BFLOAT16, FLOAT16)
SOURCES: dict[Phase, str] = {"forward": "cluster_forward.cu", "backward": "cluster_backward.cu"}
HEADERS = ("device.cuh", "device_ptx.cuh", "lstm_pointwise.cuh", "storage.cuh")


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


def step_time(shape: ForwardShape | BackwardShape, columns: int, resident: int) -> Measured | None:
    """The measured time of a configuration for so many columns of a batch of one direction; None where it was not measured.

    Args:
        columns: sequences of the batch.
        resident: clusters of this size that run at once, as in the model.
    """
    table = _table()
    phase, cut = _phase(shape), shape.warps if isinstance(shape, BackwardShape) else shape.split
    times = table.times.get((phase, shape.hidden, shape.cluster, shape.columns, cut, shape.resident))
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


# Plans.

Design = Literal["auto", "cluster", "grid", "tensor_step", "step"]
Memory = Literal["saved", "rebuilt"]
DESIGNS: tuple[Design, ...] = ("auto", "cluster", "grid", "tensor_step", "step")
MEMORIES: tuple[Memory, ...] = ("saved", "rebuilt")

Resident = Callable[[Kernel], int]
CLUSTER_CAPABILITY = (9, 0)
NO_GRID_BACKWARD = (12, 0)  # there NVRTC 13 spills registers of every cut of grid_backward.cu
MEASURED_CAPABILITY = (9, 0)  # of the GPU of `measured_h100.json`
# Used only where no GPU can be asked. Clusters of each size that are resident at once on 132 SMs: fewer than 132 / C,
# since a cluster must fit in one GPC. `gpu-check` asks; the run of 2026-11-26 did not reach that question.
# 120 SMs for C = 8 were seen on an H100 (accel-sim, pull request 87); 16 is extrapolated from that.
RESIDENT_CLUSTERS = {1: 132, 2: 66, 4: 32, 8: 15, 16: 7}
# Cycles and bytes a cycle of one SM, assumed: the rate of mma.sync, what distributed shared memory delivers, its
# latency, and the pointwise part of a step. An H100 gave 5336 FLOP, 12.7 bytes and 233 cycles; see docs/kernel-log.md.
FLOPS_PER_CYCLE, INGRESS_BYTES, EXCHANGE_CYCLES, POINTWISE_CYCLES = 2560, 16, 260, 150
SHARED_BYTES_PER_CYCLE = 128
NO_TIME = "; its time is neither measured nor modelled"  # of the configuration: there is one for each size


# The cuts that are compiled and checked for spills, by storage, the smaller hidden sizes first.


def _forward(storage: Storage, *rows: tuple[int, int, int, int, int, int | None]) -> tuple[ForwardShape, ...]:
    """Of rows (hidden, blocks a cluster, row tiles a warp, split, stages, fragments in registers)."""
    return tuple(
        ForwardShape(
            storage=storage, hidden=hidden, cluster=cluster, row_tiles=row_tiles, split=split, stages=stages, resident=resident
        )
        for hidden, cluster, row_tiles, split, stages, resident in rows
    )


def _backward(storage: Storage, *rows: tuple[int, int, int, int, int, int | None]) -> tuple[BackwardShape, ...]:
    """Of rows (hidden, blocks a cluster, warps, tiles, pairs of columns a tile, fragments in registers)."""
    return tuple(
        BackwardShape(storage=storage, hidden=hidden, cluster=cluster, warps=warps, tiles=tiles, pairs=pairs, resident=resident)
        for hidden, cluster, warps, tiles, pairs, resident in rows
    )


FORWARD_16_BIT = (
    (64, 1, 2, 1, 1, None),
    (64, 2, 1, 1, 1, None),
    (128, 1, 2, 1, 1, None),
    (128, 2, 2, 1, 1, None),
    (128, 4, 1, 1, 1, None),
    (256, 4, 2, 1, 1, None),
    (256, 8, 2, 2, 1, None),
    (256, 16, 1, 2, 1, None),
    (384, 8, 2, 2, 1, None),
    (384, 16, 1, 2, 1, None),
    (512, 8, 4, 2, 1, 24),
    (512, 16, 2, 2, 1, None),
    (768, 16, 3, 2, 4, 24),
)
BACKWARD_16_BIT = (
    (64, 1, 4, 1, 4, None),
    (64, 4, 4, 1, 4, None),
    (128, 2, 8, 1, 4, None),
    (128, 4, 8, 1, 4, None),
    (128, 8, 8, 1, 4, None),
    (256, 4, 8, 1, 4, None),
    (256, 8, 8, 1, 4, None),
    (256, 8, 8, 2, 4, None),
    (256, 8, 8, 3, 4, None),
    (256, 16, 8, 1, 4, None),
    (384, 8, 8, 1, 4, None),
    (512, 8, 8, 1, 2, 19),
    (512, 16, 8, 1, 4, None),
    (512, 16, 8, 2, 4, None),
    (512, 16, 8, 3, 4, None),
    (768, 16, 8, 1, 2, 18),
    (768, 16, 8, 1, 3, 17),
)
FORWARD_TENSORFLOAT32 = (
    (64, 1, 2, 1, 1, None),
    (128, 2, 2, 1, 1, None),
    (128, 4, 2, 2, 1, None),
    (256, 8, 2, 2, 1, None),
    (256, 16, 1, 2, 1, None),
    (384, 16, 1, 2, 1, None),
    (512, 16, 2, 2, 2, 23),
)
BACKWARD_TENSORFLOAT32 = (
    (64, 2, 4, 1, 4, None),
    (64, 4, 4, 1, 4, None),
    (128, 4, 8, 1, 4, None),
    (128, 8, 8, 1, 4, None),
    (256, 8, 8, 1, 4, None),
    (256, 8, 8, 2, 4, None),
    (256, 16, 8, 1, 4, None),
    (384, 8, 8, 1, 2, 18),
    (512, 16, 8, 1, 4, 18),
)
FORWARD = {
    BFLOAT16: _forward(BFLOAT16, *FORWARD_16_BIT),
    FLOAT16: _forward(FLOAT16, *FORWARD_16_BIT),
    TENSORFLOAT32: _forward(TENSORFLOAT32, *FORWARD_TENSORFLOAT32),
}
BACKWARD = {
    BFLOAT16: _backward(BFLOAT16, *BACKWARD_16_BIT),
    FLOAT16: _backward(FLOAT16, *BACKWARD_16_BIT),
    TENSORFLOAT32: _backward(TENSORFLOAT32, *BACKWARD_TENSORFLOAT32),
}
TENSOR_STEP_TILES = (1, 4)


@dataclass(frozen=True, slots=True)
class Plan:
    """How one layer runs, and why.

    `forward` and `backward` belong to the design `cluster`, `tiles` to `tensor_step`; a `grid` plan without `grid_backward`
    goes backward as `tensor_step` does. `apart`: its two directions run one after the other.
    """

    design: Literal["cluster", "grid", "tensor_step", "step"]
    dtype: torch.dtype
    memory: Memory
    reason: str
    forward: ForwardShape | None = None
    backward: BackwardShape | None = None
    tiles: int = 1
    grid_forward: GridShape | None = None
    grid_backward: GridShape | None = None
    apart: bool = False

    def steps(self) -> ExactSteps | TensorSteps:
        """The kernels of a plan that launches one a step."""
        return ExactSteps(self.dtype) if self.design == "step" else TensorSteps(_storage(self.dtype), self.tiles)

    def words(self) -> str:
        """The plan in one line, for the provenance."""
        if self.grid_forward is not None:
            backward = f"tensor_step N{8 * self.tiles}" if self.grid_backward is None else self.grid_backward.words()
            apart = ", directions one after the other" if self.apart else ""
            return f"grid, {self.memory}: forward {self.grid_forward.words()}, backward {backward}{apart}"
        if self.forward is None or self.backward is None:
            return f"{self.design}, {self.memory}" + (f": N{8 * self.tiles}" if self.design == "tensor_step" else "")
        parts = [f"{s.storage.name} H{s.hidden} C{s.cluster} N{s.columns}" for s in (self.forward, self.backward)]
        return f"cluster, {self.memory}: forward {parts[0]}, backward {parts[1]}"


def choose(
    hidden: int,
    batch: int,
    directions: int,
    dtype: torch.dtype,
    capability: tuple[int, int],
    *,
    tf32: bool = False,
    design: Design = "auto",
    memory: Memory = "saved",
    resident: Resident | None = None,
    shared_limit: int = SHARED_LIMIT,
) -> Plan:
    """The plan for one layer. Raises `Refused` where `design` asks for what cannot be done.

    `resident` says how many clusters like a kernel's run at once; without it the table of an assumed H100 does.
    `shared_limit` is how many bytes of shared memory a block may have.
    """
    if design not in DESIGNS or memory not in MEMORIES:
        raise Refused(
            f"no design {design!r} with memory {memory!r}; choose from {', '.join(DESIGNS)} and {', '.join(MEMORIES)}"
        )
    if dtype not in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        raise Refused(f"computes in float32, float64, bfloat16 and float16, not in {dtype}")
    exact = _no_tensor_cores(dtype, tf32)
    obstacle = exact or _no_cluster(hidden, dtype, capability)
    if design == "step" or (design == "auto" and exact):
        return Plan("step", dtype, memory, ("asked for" if design == "step" else str(exact)) + NO_TIME)
    if exact or (design == "cluster" and obstacle):
        raise Refused(f"the design {design} cannot run this: {exact or obstacle}; ask for auto or step")
    if design == "grid":
        sizes = hidden, batch, directions
        return _grid(sizes, _storage(dtype), memory, capability, resident=resident, shared_limit=shared_limit)
    if design == "tensor_step" or obstacle:
        return Plan("tensor_step", dtype, memory, (obstacle or "asked for") + NO_TIME, tiles=_tiles(batch))
    storage = _storage(dtype)
    columns = batch * directions
    chosen: list[Any] = []
    for shapes in (FORWARD[storage], BACKWARD[storage]):
        least = min(shape.hidden for shape in shapes if shape.hidden >= hidden)
        shapes = [shape for shape in shapes if shape.hidden == least and shape.kernel().shared_bytes <= shared_limit]
        obstacle = None
        if not shapes:
            obstacle = f"a block has {shared_limit} bytes of shared memory here, too few for hidden size {hidden} in a cluster"
        # One kernel stands for all of its cluster's size: each block takes an SM of its own.
        counts = {shape.cluster: _resident(shape.kernel(), resident) for shape in shapes}
        shapes = [shape for shape in shapes if counts[shape.cluster]]
        if not shapes and obstacle is None:
            obstacle = f"the GPU has no room for a cluster of {min(counts)} blocks"
        if obstacle is not None:
            if design == "cluster":
                raise Refused(f"the design cluster cannot run this: {obstacle}; ask for auto, tensor_step or step")
            return Plan("tensor_step", dtype, memory, obstacle + NO_TIME, tiles=_tiles(batch))
        shapes = [shape.spread(batch, max(1, counts[shape.cluster] // directions)) for shape in shapes]
        best = min(shapes, key=lambda shape: cost(shape, columns, counts[shape.cluster]))
        chosen += best, counts[best.cluster]
    forward, forward_resident, backward, backward_resident = chosen
    known = "resident clusters assumed" if resident is None else "resident clusters asked of the driver"
    alike = directions == 1 and memory == "saved" and capability == MEASURED_CAPABILITY
    times = (
        _time(forward, columns, forward_resident, alike and forward.hidden == hidden),
        _time(backward, columns, backward_resident, alike and backward.hidden == hidden),
    )
    reason = "; ".join(("asked for" if design == "cluster" else "least modelled time", *times, known))
    return Plan("cluster", dtype, memory, reason, forward, backward)


def _grid(
    sizes: tuple[int, int, int], storage: Storage, memory: Memory, capability: tuple[int, int], *,
    resident: Resident | None, shared_limit: int,
) -> Plan:  # fmt: skip
    """Persistent-grid kernels, as asked for. Raises `Refused` where no cut has all of its blocks resident at once."""
    hidden, batch, directions = sizes
    forward = _best_grid(GRID[storage], sizes, resident, shared_limit)
    if isinstance(forward, str):
        raise Refused(f"the design grid cannot run this: {forward}; ask for auto, tensor_step or step")
    backward = "its registers would not suffice on this GPU"
    if capability < NO_GRID_BACKWARD:
        backward = _best_grid(GRID_BACKWARD[storage], sizes, resident, shared_limit)
    known = "resident blocks assumed" if resident is None else "resident blocks asked of the driver"
    reason = f"asked for; {known}" + (f"; backward step by step: {backward}" if isinstance(backward, str) else "") + NO_TIME
    shapes = {"grid_forward": forward, "grid_backward": None if isinstance(backward, str) else backward}
    apart = any(
        shape is not None and shape.blocks(hidden) * directions > _resident_blocks(shape, resident) for shape in shapes.values()
    )
    return Plan("grid", storage.dtype, memory, reason, tiles=_tiles(batch), apart=apart, **shapes)


def _best_grid(
    shapes: Sequence[GridShape], sizes: tuple[int, int, int], resident: Resident | None, shared_limit: int
) -> GridShape | str:
    """Of the least depth that takes the hidden size, the cut of least cost that is resident as a whole, or why none is."""
    hidden, batch, directions = sizes
    shapes = [shape for shape in shapes if shape.hidden >= hidden]
    if not shapes:
        return f"no cut for hidden size {hidden}"
    least = min(shape.hidden for shape in shapes)
    shapes = [shape for shape in shapes if shape.hidden == least]
    affordable = [shape for shape in shapes if shape.kernel().shared_bytes <= shared_limit]
    if not affordable:
        return (
            f"a block has {shared_limit} bytes of shared memory here, too few for hidden size {hidden} over all multiprocessors"
        )
    room = {shape: _resident_blocks(shape, resident) for shape in affordable}
    # The number of copies is no constant of the kernel.
    room |= {replace(shape, copies=n): room[shape] for shape in affordable for n in range(1, shape.copies)}
    fitting = [shape for shape in room if shape.blocks(hidden) <= room[shape]]
    if not fitting:
        fewest = min(room, key=lambda shape: shape.blocks(hidden))
        return f"{fewest.blocks(hidden)} blocks have to be resident at once, and the GPU holds {room[fewest]}"

    def rank(shape: GridShape) -> tuple[float, int]:
        blocks = shape.blocks(hidden)
        return grid_cost(shape, hidden, batch) * (1 + (blocks * directions > room[shape])), blocks

    return min(fitting, key=rank)


def _resident_blocks(shape: GridShape, resident: Resident | None) -> int:
    kernel = shape.kernel()
    return _resident(kernel, resident) * kernel.cluster_blocks


def grid_cost(shape: GridShape, hidden: int, batch: int) -> float:
    """About microseconds a time step at H = 1024, by the H100 that ran the forward cuts of a probe; ranks cuts of one size.

    A block pays for its units and for the columns that it takes in; every phase and round pays anew.
    """
    spread = shape.spread(hidden, batch)
    per_column = 0.2 if shape.backward else 0.05
    return spread.rounds * (0.6 + 0.03 * shape.units + per_column * spread.columns * shape.phases + 0.5 * (shape.phases - 1))


def _time(shape: ForwardShape | BackwardShape, columns: int, resident: int, alike: bool) -> str:
    """What the time of a configuration rests on. alike: whether the layer is one of those that were measured."""
    found, phase = step_time(shape, columns, resident) if alike else None, _phase(shape)
    if found is None:
        return f"{phase} modelled"
    return f"{phase} measured on H100: {found.microseconds:.2f} µs a step at B = {found.batch}"


def _tiles(batch: int) -> int:
    return next(tiles for tiles in TENSOR_STEP_TILES if 8 * tiles >= batch or tiles == TENSOR_STEP_TILES[-1])


def _resident(kernel: Kernel, resident: Resident | None) -> int:
    return RESIDENT_CLUSTERS[kernel.cluster_blocks] if resident is None else resident(kernel)


def cost(shape: ForwardShape | BackwardShape, columns: int, resident: int) -> float:
    """Modelled cycles a time step for so many columns of all directions, where `resident` clusters run at once."""
    exchanged_bytes = 4 if isinstance(shape, BackwardShape) else shape.storage.item_bytes  # per unit and column
    waves = math.ceil(math.ceil(columns / shape.columns) / resident)
    rate = FLOPS_PER_CYCLE * shape.storage.per_word / 2  # tf32 at half of the 16-bit rate
    # Weights in shared memory are read while others are multiplied.
    products = max(2 * 4 * shape.hidden * shape.units * shape.columns / rate, shape.tail_bytes / SHARED_BYTES_PER_CYCLE)
    ingress = exchanged_bytes * shape.columns * shape.hidden * (shape.cluster - 1) / shape.cluster / INGRESS_BYTES
    exchange = EXCHANGE_CYCLES if shape.cluster > 1 else 0
    return waves * (products + ingress + exchange + POINTWISE_CYCLES)


def _phase(shape: ForwardShape | BackwardShape) -> Phase:
    return "backward" if isinstance(shape, BackwardShape) else "forward"


def _storage(dtype: torch.dtype) -> Storage:
    return {torch.bfloat16: BFLOAT16, torch.float16: FLOAT16, torch.float32: TENSORFLOAT32}[dtype]


def _no_tensor_cores(dtype: torch.dtype, tf32: bool) -> str | None:
    if dtype == torch.float64 or (dtype == torch.float32 and not tf32):
        return f"tensor cores do not multiply exact {str(dtype).removeprefix('torch.')}"
    return None


def _no_cluster(hidden: int, dtype: torch.dtype, capability: tuple[int, int]) -> str | None:
    if capability < CLUSTER_CAPABILITY:
        return "thread-block clusters need compute capability 9.0"
    largest = max(shape.hidden for shape in FORWARD[_storage(dtype)])
    if hidden > largest:
        return f"the weights of hidden size {hidden} do not fit into a cluster; {largest} do"
    return None
