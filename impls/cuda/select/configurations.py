"""Kernel configurations: launches a step, and clusters of blocks that run the whole sequence."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from impls.cuda.runtime import BFLOAT16, FLOAT16, TENSORFLOAT32, Kernel, Refused, Storage

# W_hh in the order of a kernel that cannot read it where the framework keeps it: pack.cu, one launch for both directions.

Step = tuple[int, int, int]  # gates, units and inputs that one step along an axis moves through W_hh [4, H, H]
PACKING_AXES, PACKING_THREADS = 7, 256  # of pack.cu


def _step(*, gates: int = 0, units: int = 0, inputs: int = 0) -> Step:
    return gates, units, inputs


@dataclass(frozen=True, slots=True)
class Packing:
    """An array of 16-byte pieces.

    axes    of pieces, each with its size, outermost first; what lies beyond H is zero
    inner   the three axes of the values in a piece: 2, 2, and the values of a 32-bit word
    """

    storage: Storage
    axes: tuple[tuple[int, Step], ...]
    inner: tuple[Step, Step, Step]

    @property
    def pieces(self) -> int:
        return math.prod(size for size, _ in self.axes)

    def kernel(self) -> Kernel:
        return Kernel("pack.cu", "lstm_pack", (("STORAGE", self.storage.name),), PACKING_THREADS, 0)


def _rows(storage: Storage, hidden: int, pitch: int) -> Packing | None:
    """Rows of `pitch` elements, whole pieces; None where they have as many."""
    if pitch == hidden:
        return None
    word = storage.per_word
    axes = ((4, _step(gates=1)), (hidden, _step(units=1)), (pitch // (4 * word), _step(inputs=4 * word)))
    return Packing(storage, axes, (_step(inputs=2 * word), _step(inputs=word), _step(inputs=1)))


# Per-step kernels: one launch a time step, multiplied exactly or on tensor cores. Its kernels, grids, weights and workspace.

EXACT_STORAGE = {
    torch.float32: "Float32", torch.float64: "Float64", torch.bfloat16: "Short<Bfloat16>", torch.float16: "Short<Float16>",
}  # fmt: skip
UNIT_TILE, COLUMN_TILE, DEPTH = 16, 32, 16  # of step_forward.cu and step_backward.cu
SPLIT = 8  # warps that share a product of the tensor kernels


@dataclass(frozen=True, slots=True)
class ExactSteps:
    """step_forward.cu and step_backward.cu: any dtype, computed in float32 or float64."""

    dtype: torch.dtype

    def kernel(self, backward: bool) -> Kernel:
        item = 8 if self.dtype == torch.float64 else 4
        # As the sources say: each tile has a pitch that keeps threads in different banks.
        units, columns = (UNIT_TILE, COLUMN_TILE * 4) if backward else (UNIT_TILE + 1, COLUMN_TILE + 4)
        shared_bytes = DEPTH * (units * 4 + columns) * item
        phase = "backward" if backward else "forward"
        defines = (("STORAGE", EXACT_STORAGE[self.dtype]),)
        return Kernel(f"step_{phase}.cu", f"lstm_step_{phase}", defines, UNIT_TILE * COLUMN_TILE // 4, shared_bytes)

    def grid(self, hidden: int, batch: int, directions: int, backward: bool) -> tuple[int, int, int]:
        return -(-hidden // UNIT_TILE), -(-batch // COLUMN_TILE), directions

    def pitch(self, hidden: int) -> int:
        """Elements from one row of W_hh, or column of h, to the next."""
        return hidden

    def packing(self, hidden: int, backward: bool) -> Packing | None:
        """None: its kernels read W_hh where it is."""
        return None


@dataclass(frozen=True, slots=True)
class TensorSteps:
    """tensor_step_forward.cu and tensor_step_backward.cu: blocks of `tiles` · 8 columns."""

    storage: Storage
    tiles: int

    def kernel(self, backward: bool) -> Kernel:
        phase, sums = ("backward", 1) if backward else ("forward", 2)
        defines = (("STORAGE", self.storage.name), ("TILES", str(self.tiles)), ("SPLIT", str(SPLIT)))
        shared_bytes = SPLIT * self.tiles * sums * 32 * 16
        return Kernel(f"tensor_step_{phase}.cu", f"lstm_tensor_step_{phase}", defines, 32 * SPLIT, shared_bytes)

    def grid(self, hidden: int, batch: int, directions: int, backward: bool) -> tuple[int, int, int]:
        return -(-hidden // (16 if backward else 8)), -(-batch // (8 * self.tiles)), directions

    def pitch(self, hidden: int) -> int:
        """Elements from one row of W_hh, or column of h, to the next: whole reads of 16 bytes."""
        return _padded(hidden, 4 * self.storage.per_word)

    def packing(self, hidden: int, backward: bool) -> Packing | None:
        """Forward: rows of whole 16 bytes; None where they are. Backward: W_hhᵀ as A-fragments.

        Of the 16 words of two k-tiles, pair p of a lane has words 4p … 4p + 3: both halves of the first tile, then of the
        second. Any order of k is right that h follows too; this one lets a lane read its words of h in one access.
        """
        word = self.storage.per_word
        if backward:
            # Row tile, gate, two k-tiles, k-tile, row, pair.
            axes = (
                (-(-hidden // 16), _step(inputs=16)), (4, _step(gates=1)), (-(-hidden // (16 * word)), _step(units=16 * word)),
                (2, _step(units=2 * word)), (8, _step(inputs=1)), (4, _step(units=4 * word)),
            )  # fmt: skip
            return Packing(self.storage, axes, (_step(units=word), _step(inputs=8), _step(units=1)))
        return _rows(self.storage, hidden, self.pitch(hidden))


def _padded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


# Persistent-cluster kernels: how a layer is cut over a cluster, its kernels' constants, and its weights in fragment order.
#
# The formulas repeat those of cluster_forward.cu and cluster_backward.cu, which assert that the two agree.

WORDS_OF_TILE = 8  # depth of a k-tile in 32-bit words
SHARED_LIMIT = 227 << 10  # bytes a block may have on sm_90 and sm_100
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

    def packing(self) -> None:
        """None: the kernel reads W_hh where it is."""

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
        shared_bytes = _affordable(exchange + sums + ring + self.tail_bytes + places + 16 * self.stages)
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
        return _padded(hidden, 4 * self.storage.per_word) if hidden % 2 else hidden

    def packing(self, hidden: int) -> Packing | None:
        """None where W_hh is read where it lies."""
        return _rows(self.storage, hidden, self.pitch(hidden))

    def kernel(self) -> Kernel:
        threads, item = 32 * self.warps, self.storage.item_bytes
        partial = 2 * self.tiles * self.hidden // 16 * 8 * self.pairs * 16
        operands = 2 * self.groups * 512
        ring = BACKWARD_SLOTS * self.room * (self.units * (5 * item + 4) + 16)
        items = -(-2 * self.units * self.pairs // threads)
        states = self.tiles * items * threads * 16 if self.tiles > 1 else 0
        shared_bytes = _affordable(partial + operands + ring + states + self.tail_bytes + 16 * self.tiles)
        resident = self.fragments if self.resident is None else self.resident
        sizes = {
            "HIDDEN": self.hidden, "CLUSTER": self.cluster, "TILES": self.tiles, "PAIRS": self.pairs, "RESIDENT": resident,
        }  # fmt: skip
        defines = (("STORAGE", self.storage.name), *((name, str(value)) for name, value in sizes.items()))
        return Kernel("cluster_backward.cu", "lstm_cluster_backward", defines, threads, shared_bytes, self.cluster)


def _affordable(shared_bytes: int) -> int:
    if shared_bytes > SHARED_LIMIT:
        raise Refused(f"a block would need {shared_bytes} bytes of shared memory and can have {SHARED_LIMIT}")
    return shared_bytes


# Persistent-grid kernels: how a layer is cut over all multiprocessors. The formulas repeat those of grid_forward.cu and
# grid_backward.cu, which assert that the two agree.

GROUP_WORDS = 16  # of k: what a lane reads and multiplies at once


@dataclass(frozen=True, slots=True)
class Spread:
    """A batch and a hidden size over the blocks of one launch.

    blocks     of one direction
    rounds     parts of the batch that run one after the other
    columns    of the batch that a block runs in one phase
    exchanged  shape of the buffers through which the blocks exchange, of 32-bit words
    """

    blocks: int
    rounds: int
    columns: int
    exchanged: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GridShape:
    """A cut of grid_forward.cu, or of grid_backward.cu.

    groups    of 16 words of k that one warp multiplies by; with `warps` they limit the hidden size (`hidden`)
    units     of h that a block computes: a multiple of 4 forward, of 16 backward
    tiles     groups of 8 columns of the batch in one phase of a block
    phases    parts of a block's columns that take turns, so that one part's exchange hides behind another's products
    copies    groups of blocks, each with all of W_hh and a part of the batch; no constant of the kernel
    warps     that share k
    resident  groups of weights a warp keeps in registers, all if None; the rest lies in shared memory
    at_once   groups of h a warp reads at once, all if None
    buffers   for partial sums: with 1 a phase needs a second barrier
    """

    storage: Storage
    groups: int
    units: int
    tiles: int = 1
    phases: int = 1
    copies: int = 1
    warps: int = 8
    resident: int | None = None
    at_once: int | None = None
    buffers: int = 2
    backward: bool = False

    def __post_init__(self) -> None:
        multiple, at_once = 16 if self.backward else 4, self.at_once or self.groups
        if self.units % multiple or self.groups % at_once or self.buffers not in (1, 2):
            raise Refused(f"{self.units} units and {self.groups} groups cannot be cut so: {self.words()}")

    @property
    def hidden(self) -> int:
        """The largest hidden size."""
        return self.warps * self.groups * GROUP_WORDS * self.storage.per_word // (4 if self.backward else 1)

    @property
    def columns(self) -> int:
        """Of the batch, in one round of a launch."""
        return 8 * self.tiles * self.phases * self.copies

    def blocks(self, hidden: int) -> int:
        """Of one direction; all have to be resident at once."""
        return -(-hidden // self.units) * self.copies

    def spread(self, hidden: int, batch: int) -> Spread:
        rounds = -(-batch // self.columns)
        columns = -(-batch // (rounds * self.copies * self.phases))
        words = self.warps * self.groups, 8 * self.tiles, GROUP_WORDS
        return Spread(self.blocks(hidden), rounds, columns, (rounds, 2, self.copies, self.phases, *words))

    def kernel(self) -> Kernel:
        phase = "backward" if self.backward else "forward"
        rows = self.units // (16 if self.backward else 4)  # tiles of 16 rows of weights
        resident = self.groups if self.resident is None else self.resident
        tail = self.warps * (self.groups - resident) * rows * 1024
        sums = rows * self.tiles * 512  # of a warp
        state = 2048 if self.backward else 256  # of a row tile and 8 columns
        shared_bytes = _affordable(tail + self.buffers * self.warps * sums + self.phases * rows * self.tiles * state)
        sizes = {
            "DEPTH": self.groups, "WARPS": self.warps, "UNITS": self.units, "TILES": self.tiles, "PHASES": self.phases,
            "RESIDENT": resident, "AT_ONCE": self.at_once or self.groups, "BUFFERS": self.buffers,
        }  # fmt: skip
        defines = (("STORAGE", self.storage.name), *((name, str(value)) for name, value in sizes.items()))
        return Kernel(f"grid_{phase}.cu", f"lstm_grid_{phase}", defines, 32 * self.warps, shared_bytes, cooperative=True)

    def words(self) -> str:
        """As in the plan's provenance: hidden, units a block, columns, copies, phases."""
        return f"{self.storage.name} H{self.hidden} U{self.units} N{8 * self.tiles} G{self.copies} P{self.phases}"


# The cuts of the persistent-grid kernels that are compiled and checked for spills, the smaller hidden sizes first.

GridRow = tuple[int, int, int, int, int, int, int, int]


def _grid_shapes(storage: Storage, backward: bool, *rows: GridRow) -> tuple[GridShape, ...]:
    """Of rows (groups, units, tiles, phases, copies, groups in registers, groups at once, buffers)."""
    names = ("groups", "units", "tiles", "phases", "copies", "resident", "at_once", "buffers")
    return tuple(GridShape(storage=storage, backward=backward, **dict(zip(names, row, strict=True))) for row in rows)


GRID_16_BIT: tuple[GridRow, ...] = (
    (2, 8, 1, 1, 2, 2, 2, 2),
    (2, 16, 1, 1, 4, 2, 2, 2),
    (2, 16, 4, 1, 4, 2, 1, 2),
    (3, 8, 1, 1, 1, 3, 3, 2),
    (3, 12, 1, 1, 2, 3, 3, 2),
    (3, 12, 4, 1, 2, 3, 1, 2),
    (4, 8, 1, 1, 1, 4, 4, 2),
    (4, 16, 1, 1, 2, 4, 4, 2),
    (4, 32, 1, 1, 4, 2, 2, 2),
    (4, 16, 4, 1, 2, 2, 1, 1),
    (5, 12, 1, 1, 1, 5, 5, 2),
    (5, 20, 1, 1, 2, 4, 1, 1),
    (6, 12, 1, 1, 1, 6, 6, 2),
    (6, 16, 1, 1, 1, 4, 6, 2),
    (6, 12, 2, 1, 1, 5, 3, 2),
    (7, 16, 1, 1, 1, 4, 7, 2),
    (8, 16, 1, 1, 1, 4, 8, 2),
    (8, 16, 1, 2, 1, 3, 4, 1),
    (8, 20, 1, 1, 1, 3, 4, 1),
)
GRID_BACKWARD_16_BIT: tuple[GridRow, ...] = (
    (8, 16, 1, 1, 4, 8, 8, 2),
    (8, 16, 2, 1, 4, 8, 4, 2),
    (12, 16, 1, 1, 2, 12, 6, 2),
    (12, 16, 2, 1, 2, 8, 3, 2),
    (16, 16, 1, 1, 2, 10, 16, 2),
    (16, 16, 2, 1, 2, 8, 4, 2),
    (24, 16, 1, 1, 1, 8, 12, 2),
    (24, 16, 2, 1, 1, 8, 2, 2),
    (32, 16, 1, 1, 1, 8, 4, 2),
    (32, 16, 2, 1, 1, 8, 2, 2),
)
GRID_TENSORFLOAT32: tuple[GridRow, ...] = (
    (4, 8, 1, 1, 2, 4, 4, 2),
    (4, 16, 1, 1, 4, 4, 4, 2),
    (6, 12, 1, 1, 2, 5, 6, 2),
    (8, 8, 1, 1, 1, 8, 8, 2),
    (8, 16, 1, 1, 2, 4, 4, 2),
    (12, 12, 1, 1, 1, 5, 4, 1),
)
GRID_BACKWARD_TENSORFLOAT32: tuple[GridRow, ...] = (
    (16, 16, 1, 1, 4, 10, 8, 2),
    (24, 16, 1, 1, 2, 8, 8, 2),
    (32, 16, 1, 1, 2, 8, 8, 2),
)
GRID = {
    BFLOAT16: _grid_shapes(BFLOAT16, False, *GRID_16_BIT),
    FLOAT16: _grid_shapes(FLOAT16, False, *GRID_16_BIT),
    TENSORFLOAT32: _grid_shapes(TENSORFLOAT32, False, *GRID_TENSORFLOAT32),
}
GRID_BACKWARD = {
    BFLOAT16: _grid_shapes(BFLOAT16, True, *GRID_BACKWARD_16_BIT),
    FLOAT16: _grid_shapes(FLOAT16, True, *GRID_BACKWARD_16_BIT),
    TENSORFLOAT32: _grid_shapes(TENSORFLOAT32, True, *GRID_BACKWARD_TENSORFLOAT32),
}
