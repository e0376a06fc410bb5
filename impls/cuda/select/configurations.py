"""Kernel configurations: launches a step, and clusters of blocks that run the whole sequence."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from impls.cuda.runtime import Kernel, Refused, Storage, round_operand

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
        columns = COLUMN_TILE * 4 if backward else COLUMN_TILE + 4
        shared_bytes = DEPTH * (UNIT_TILE * 4 + columns) * item
        phase = "backward" if backward else "forward"
        defines = (("STORAGE", EXACT_STORAGE[self.dtype]),)
        return Kernel(f"step_{phase}.cu", f"lstm_step_{phase}", defines, UNIT_TILE * COLUMN_TILE // 4, shared_bytes)

    def grid(self, hidden: int, batch: int, directions: int, backward: bool) -> tuple[int, int, int]:
        return -(-hidden // UNIT_TILE), -(-batch // COLUMN_TILE), directions

    def pitch(self, hidden: int) -> int:
        """Elements from one column of the working h to the next."""
        return hidden

    def pack(self, weight_hh: Tensor, backward: bool) -> Tensor:
        """W_hh [4H, H] as [k, unit, gate]: k is the unit of h forward, the gate's row backward."""
        rows, hidden = weight_hh.shape
        return weight_hh.reshape(4, rows // 4, hidden).permute((1, 2, 0) if backward else (2, 1, 0)).contiguous()


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
        """Elements from one column of the working h to the next: two k-tiles are read at once."""
        return _padded(hidden, 16 * self.storage.per_word)

    def pack(self, weight_hh: Tensor, backward: bool) -> Tensor:
        """W_hh [4H, H] as A-fragments.

        Of the 16 words of two k-tiles, pair p of a lane has words 4p … 4p + 3: both halves of the first tile, then of the
        second. Any order of k is right that h follows too; this one lets a lane read its words of h in one access.
        """
        hidden, per_word = weight_hh.shape[1], self.storage.per_word
        if backward:
            depth, rows = self.pitch(hidden), _padded(hidden, 16)
            w = self._gates(weight_hh, depth, rows)
            # Axes: gate | two k-tiles, pair, tile, half of k, element | row tile, half of rows, row.
            w = w.reshape(4, depth // (16 * per_word), 4, 2, 2, per_word, rows // 16, 2, 8)
            return w.permute(6, 0, 1, 3, 8, 2, 4, 7, 5).contiguous()
        units, depth = _padded(hidden, 8), self.pitch(hidden)
        w = self._gates(weight_hh, units, depth)
        # Axes: A-tile, half of rows | octet, row | two k-tiles, pair, tile, half of k, element.
        w = w.reshape(2, 2, units // 8, 8, depth // (16 * per_word), 4, 2, 2, per_word)
        return w.permute(2, 4, 6, 0, 3, 5, 7, 1, 8).contiguous()

    def _gates(self, weight_hh: Tensor, units: int, inputs: int) -> Tensor:
        """[4, units, inputs], padded with zeros and rounded as operands."""
        hidden = weight_hh.shape[1]
        padded = weight_hh.new_zeros(4, units, inputs)
        padded[:, :hidden, :hidden] = weight_hh.reshape(4, hidden, hidden)
        return round_operand(self.storage, padded)


def _padded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


# Persistent-cluster kernels: how a layer is cut over a cluster, its kernels' constants, and its weights in fragment order.
#
# The formulas repeat those of cluster_forward.cu and cluster_backward.cu, which assert that the two agree.

WORDS_OF_TILE = 8  # depth of a k-tile in 32-bit words
SHARED_LIMIT = 227 << 10  # bytes a block may have on sm_90 and sm_100
THREAD_LIMIT = 1024
REGISTERS = 65536  # of a multiprocessor
SLOTS = 4  # steps of the input product that the forward kernel holds


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """A layer cut over a cluster of blocks.

    hidden    H, padded to a multiple of 8 · cluster and 16
    cluster   blocks that share W_hh: C ∈ {1, 2, 4, 8, 16}
    tiles     groups of 8 columns of the batch that one cluster runs
    resident  k-tiles of weights a warp keeps in registers, all if None; the rest lies in shared memory
    """

    storage: Storage
    hidden: int
    cluster: int
    tiles: int = 1
    resident: int | None = None

    def __post_init__(self) -> None:
        if self.hidden % (8 * self.cluster) or self.hidden % 16:
            raise Refused(f"hidden size {self.hidden} must be a multiple of 16 and of 8 · {self.cluster} blocks")

    @property
    def units(self) -> int:
        return self.hidden // self.cluster

    @property
    def octets(self) -> int:
        return self.units // 8

    @property
    def columns(self) -> int:
        return 8 * self.tiles

    def _defines(self, resident: int) -> tuple[tuple[str, str], ...]:
        sizes = {"HIDDEN": self.hidden, "CLUSTER": self.cluster, "TILES": self.tiles, "RESIDENT": resident}
        return (("STORAGE", self.storage.name), *((name, str(value)) for name, value in sizes.items()))


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
class BackwardShape(_Shape):
    """A cut of cluster_backward.cu. warps: over which the rows of W_hhᵀ divide evenly."""

    warps: int

    def __post_init__(self) -> None:
        super(BackwardShape, self).__post_init__()
        if self.hidden // 16 % self.warps or 32 * self.warps > THREAD_LIMIT:
            raise Refused(f"{self.hidden // 16} row tiles cannot be divided over {self.warps} warps")

    @property
    def k_tiles(self) -> int:
        return 4 * self.units // (WORDS_OF_TILE * self.storage.per_word)

    @property
    def tail_bytes(self) -> int:
        """As of the forward cut."""
        return 0 if self.resident is None else self.hidden // 16 * (self.k_tiles - self.resident) * 32 * 16

    def kernel(self) -> Kernel:
        resident = self.k_tiles if self.resident is None else self.resident
        partial = 2 * self.hidden * self.columns * 4
        operand = 2 * self.k_tiles * self.tiles * 64 * 4
        shared_bytes = _affordable(partial + operand + self.tail_bytes + 16)
        defines, threads = self._defines(resident), 32 * self.warps
        return Kernel("cluster_backward.cu", "lstm_cluster_backward", defines, threads, shared_bytes, self.cluster)


def _affordable(shared_bytes: int) -> int:
    if shared_bytes > SHARED_LIMIT:
        raise Refused(f"a block would need {shared_bytes} bytes of shared memory and can have {SHARED_LIMIT}")
    return shared_bytes


def pack_backward(shape: BackwardShape, weight_hh: Tensor) -> Tensor:
    """W_hhᵀ as A-fragments [C, warps, row tiles, k-tiles, 32 lanes, 16 bytes]: rows are all units, k the block's own gate rows.

    k runs over units, and over i, f, g, o within a unit.
    """
    warps = shape.warps
    w = _padded_gates(shape, weight_hh).reshape(4, shape.cluster, shape.units, shape.hidden).permute(1, 2, 0, 3)
    w = w.reshape(shape.cluster, shape.k_tiles, 2, 4, shape.storage.per_word, warps, shape.hidden // 16 // warps, 2, 8)
    # axes: block | k-tile, half, pair, element | warp, row tile, half, row
    return w.permute(0, 5, 6, 1, 8, 3, 2, 7, 4).contiguous()


def _padded_gates(shape: BackwardShape, weight_hh: Tensor) -> Tensor:
    """[4, padded H, padded H], rounded as operands."""
    real = weight_hh.shape[1]
    padded = weight_hh.new_zeros(4, shape.hidden, shape.hidden)
    padded[:, :real, :real] = weight_hh.reshape(4, real, real)
    return round_operand(shape.storage, padded)
