"""Persistent-cluster kernels: how a layer is cut over a cluster of blocks, the kernels' constants, and the shipped cuts.

The formulas repeat those of cluster_forward.cu and cluster_backward.cu, which assert that the two agree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from impls.cuda.runtime import BFLOAT16, FLOAT16, TENSORFLOAT32, Kernel, Refused, Storage
from impls.cuda.select.model import Estimate, data_scale, estimate
from impls.cuda.select.steps import Packing, affordable, packed_rows, padded

THREAD_LIMIT = 1024
BACKWARD_SLOTS = 4  # steps of gates, cells and grad_y that a block of cluster_backward.cu holds
REGISTERS = 65536  # of a multiprocessor
SLOTS = 4  # steps of the input product that the forward kernel holds


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardShape:
    """A cut of cluster_forward.cu.

    hidden     H, padded to a multiple of 8 · cluster and of the depth of `split` · `stages` products
    cluster    blocks that share W_hh: C ∈ {1, 2, 4, 8, 16}
    row_tiles  tiles of 16 gate rows that one warp multiplies
    split      warps that share one product along k
    stages     parts of h that a block waits for one after the other
    resident   fragments (a row tile of two k-tiles) a warp keeps in registers, all if None; the rest lies in shared memory
    columns    of the batch that one cluster runs, 1 … 8; an argument of the launch
    """

    design: ClassVar = "cluster"
    backward: ClassVar = False
    storage: Storage
    hidden: int
    cluster: int
    row_tiles: int = 1
    split: int = 1
    stages: int = 1
    resident: int | None = None
    columns: int = 8

    def __post_init__(self) -> None:
        depth = 16 * self.storage.per_word
        if self.hidden % (8 * self.cluster) or self.hidden % depth:
            raise Refused(f"hidden size {self.hidden} must be a multiple of {depth} and of 8 · {self.cluster} blocks")
        groups, tiles = self.hidden // depth, self.units // 4
        if self.threads > THREAD_LIMIT:
            raise Refused(f"a block would need {self.threads} threads and can have {THREAD_LIMIT}")
        whole = not (groups % (self.split * self.stages) or self.cluster % self.stages or tiles % self.row_tiles)
        if not whole or groups // self.stages * 4 % self.pieces:
            raise Refused(
                f"{groups} pairs of k-tiles cannot be split {self.split} ways in {self.stages} stages, or {tiles} row tiles be "
                f"divided over warps of {self.row_tiles}"
            )
        if not 1 <= self.columns <= 8:
            raise Refused(f"a cluster runs 1 to 8 columns of the batch, not {self.columns}")

    @property
    def units(self) -> int:
        return self.hidden // self.cluster

    @property
    def pieces(self) -> int:
        """16 bytes of h each, of one block and column."""
        return self.units // (4 * self.storage.per_word)

    @property
    def threads(self) -> int:
        return 32 * (self.units // 4 // self.row_tiles) * self.split

    @property
    def fragments(self) -> int:
        """Of one warp: a row tile of two k-tiles, 8 registers a lane."""
        return self.hidden // (16 * self.storage.per_word) // self.split * self.row_tiles

    @property
    def tail_bytes(self) -> int:
        """Weights of a block that are read from shared memory at every step."""
        return 0 if self.resident is None else self.threads // 32 * (self.fragments - self.resident) * 1024

    def spread(self, batch: int, clusters: int) -> ForwardShape:
        """This cut with as few columns a cluster as run the batch in the same number of waves, `clusters` at once."""
        waves = -(-batch // (8 * clusters))
        return replace(self, columns=-(-batch // (waves * clusters)))

    def packing(self, hidden: int) -> None:
        """None: the kernel reads W_hh where it is."""

    def words(self) -> str:
        """As in the plan's provenance: hidden, blocks a cluster, columns."""
        return f"{self.storage.name} H{self.hidden} C{self.cluster} N{self.columns}"

    def estimate(self, clusters: int, resident: int) -> Estimate:
        """Of a step of so many clusters, of which `resident` run at once."""
        return _estimate("cluster_forward", self, clusters, resident)

    def kernel(self) -> Kernel:
        """The kernel, the same for any number of columns. Raises `Refused` where a block would need too much memory."""
        resident = self.fragments if self.resident is None else self.resident
        sizes = {
            "HIDDEN": self.hidden, "CLUSTER": self.cluster, "ROW_TILES": self.row_tiles, "SPLIT": self.split,
            "STAGES": self.stages, "RESIDENT": resident,
        }  # fmt: skip
        exchange = 2 * self.hidden // (4 * self.storage.per_word) * 128
        sums = 2 * self.split * self.units // 4 * 512
        row = self.units * self.storage.item_bytes
        ring = SLOTS * 4 * 8 * (row if row % 128 else row + 64)
        short_of_registers = resident < self.fragments or 8 * resident + 104 > REGISTERS // self.threads
        sends = -(-self.cluster // (4 * self.storage.per_word))
        places = -(-self.units * 8 // self.threads) * (1 + -(-sends // 2)) * self.threads * 16 if short_of_registers else 0
        shared_bytes = affordable(exchange + sums + ring + self.tail_bytes + places + 16 * self.stages)
        defines = (("STORAGE", self.storage.name), *((name, str(value)) for name, value in sizes.items()))
        return Kernel("cluster_forward.cu", "lstm_cluster_forward", defines, self.threads, shared_bytes, self.cluster)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackwardShape:
    """A cut of cluster_backward.cu.

    hidden    H, padded to a multiple of 16 · cluster
    cluster   blocks that share W_hh: C ∈ {1, 2, 4, 8, 16}
    warps     of a block: a multiple of C that divides the units of a block, or a divisor of C
    tiles     groups of columns that one cluster multiplies one after the other
    pairs     of columns a tile has room for, 1 … 4
    resident  fragments (16 units of dh by two k-tiles) a warp keeps in registers, all if None; the rest lies in shared memory
    columns   of the batch that one cluster runs, as many as it has room for if 0; an argument of the launch
    """

    design: ClassVar = "cluster"
    backward: ClassVar = True
    storage: Storage
    hidden: int
    cluster: int
    warps: int = 8
    tiles: int = 1
    pairs: int = 4
    resident: int | None = None
    columns: int = 0

    def __post_init__(self) -> None:
        if self.hidden % (16 * self.cluster):
            raise Refused(f"hidden size {self.hidden} must be a multiple of 16 · {self.cluster} blocks")
        sharers, rest = divmod(self.warps, self.cluster) if self.warps > self.cluster else (1, self.cluster % self.warps)
        if rest or self.units // 16 % sharers or 32 * self.warps > THREAD_LIMIT:
            raise Refused(f"{self.units} units of each of {self.cluster} blocks cannot be divided over {self.warps} warps")
        if not 1 <= self.pairs <= 4 or not 0 <= (self.resident or 0) <= self.fragments:
            raise Refused(f"a tile has 1 to 4 pairs of columns, a warp {self.fragments} fragments; not {self}")
        if not self.columns:
            object.__setattr__(self, "columns", self.room)
        if not 1 <= self.columns <= self.room:
            raise Refused(f"{self.columns} columns, where a cluster has room for {self.room}")

    @property
    def units(self) -> int:
        """Of one block."""
        return self.hidden // self.cluster

    @property
    def room(self) -> int:
        """Columns that a cluster has memory for."""
        return 2 * self.pairs * self.tiles

    @property
    def groups(self) -> int:
        """Of two k-tiles: units of a block with their four gates."""
        return self.units // (4 * self.storage.per_word)

    @property
    def fragments(self) -> int:
        """Of one warp."""
        return self.hidden // 16 * self.groups // self.warps

    @property
    def tail_bytes(self) -> int:
        """Weights of a block that are read from shared memory at every step."""
        return 0 if self.resident is None else self.warps * (self.fragments - self.resident) * 1024

    def spread(self, batch: int, clusters: int) -> BackwardShape:
        """This cut with as few columns a cluster as run the batch in the same number of waves, `clusters` at once."""
        waves = -(-batch // (self.room * clusters))
        return replace(self, columns=-(-batch // (waves * clusters)))

    def pitch(self, hidden: int) -> int:
        """Elements from one row of W_hh to the next: the kernel reads two at once, so an odd H is padded."""
        return padded(hidden, 4 * self.storage.per_word) if hidden % 2 else hidden

    def words(self) -> str:
        """As in the plan's provenance: hidden, blocks a cluster, columns."""
        return f"{self.storage.name} H{self.hidden} C{self.cluster} N{self.columns}"

    def estimate(self, clusters: int, resident: int) -> Estimate:
        """Of a step of so many clusters, of which `resident` run at once."""
        return _estimate("cluster_backward", self, clusters, resident)

    def packing(self, hidden: int) -> Packing | None:
        """None where W_hh is read where it lies."""
        return packed_rows(self.storage, hidden, self.pitch(hidden))

    def kernel(self) -> Kernel:
        threads, item = 32 * self.warps, self.storage.item_bytes
        partial = 2 * self.tiles * self.hidden // 16 * 8 * self.pairs * 16
        operands = 2 * self.groups * 512
        ring = BACKWARD_SLOTS * self.room * (self.units * (5 * item + 4) + 16)
        items = -(-2 * self.units * self.pairs // threads)
        states = self.tiles * items * threads * 16 if self.tiles > 1 else 0
        shared_bytes = affordable(partial + operands + ring + states + self.tail_bytes + 16 * self.tiles)
        resident = self.fragments if self.resident is None else self.resident
        sizes = {
            "HIDDEN": self.hidden, "CLUSTER": self.cluster, "TILES": self.tiles, "PAIRS": self.pairs, "RESIDENT": resident,
        }  # fmt: skip
        defines = (("STORAGE", self.storage.name), *((name, str(value)) for name, value in sizes.items()))
        return Kernel("cluster_backward.cu", "lstm_cluster_backward", defines, threads, shared_bytes, self.cluster)


def _estimate(family: str, shape: ForwardShape | BackwardShape, clusters: int, resident: int) -> Estimate:
    """Several tiles of a cluster follow one another, as waves do."""
    tiles = shape.tiles if isinstance(shape, BackwardShape) else 1
    sizes = {"hidden": shape.hidden, "cluster": shape.cluster, "columns": -(-shape.columns // tiles)}
    of_tile = estimate(family, scale=data_scale(shape.storage), **sizes, tail_bytes=shape.tail_bytes)
    return of_tile.times(tiles * -(-clusters // resident))


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
