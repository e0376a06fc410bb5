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
BACKWARD_SLOTS = 4  # steps of gates, cells and grad_y that a block of cluster_backward.cu holds


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
class ForwardShape(_Shape):
    """A cut of cluster_forward.cu. split: warps that share one product along k."""

    split: int = 1

    def __post_init__(self) -> None:
        super(ForwardShape, self).__post_init__()
        if self.k_tiles % self.split or (self.split > 1 and self.octets > 15) or self.threads > THREAD_LIMIT:
            raise Refused(f"{self.k_tiles} k-tiles and {self.octets} octets of units cannot be split {self.split} ways")

    @property
    def k_tiles(self) -> int:
        return self.hidden // (WORDS_OF_TILE * self.storage.per_word)

    @property
    def threads(self) -> int:
        return 32 * self.octets * self.split

    @property
    def tail_bytes(self) -> int:
        """Weights of a block that are read from shared memory at every step."""
        own = self.k_tiles // self.split
        return 0 if self.resident is None else self.threads // 32 * (own - self.resident) * 2 * 32 * 16

    def kernel(self) -> Kernel:
        resident = self.k_tiles // self.split if self.resident is None else self.resident
        exchange = 2 * self.k_tiles * self.tiles * 64 * 4
        scratch = (self.split - 1) * self.octets * self.tiles * 2 * 32 * 16
        defines = (*self._defines(resident), ("SPLIT", str(self.split)))
        shared_bytes = _affordable(exchange + scratch + self.tail_bytes + 16)
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


def pack_forward(shape: ForwardShape, weight_hh: Tensor) -> Tensor:
    """W_hh [4H, H] as A-fragments [C, octets, k-tiles, 2, 32 lanes, 16 bytes].

    Tile 0 of an octet holds rows i of its 8 units above rows f, tile 1 rows g above rows o; so a lane's four sums are
    two columns of i and f, or of g and o, of one unit.
    """
    w = _padded_gates(shape, weight_hh)
    w = w.reshape(2, 2, shape.cluster, shape.octets, 8, shape.k_tiles, 2, 4, shape.storage.per_word)
    # Axes: tile, half of rows | block, octet, unit | k-tile, half of k, pair, element.
    # A lane is (unit, pair), its register (half of k, half of rows).
    return w.permute(2, 3, 5, 0, 4, 7, 6, 1, 8).contiguous()


def in_pairs(weight_hh: Tensor) -> Tensor:
    """W_hh [D, 4H, H] as cluster_backward.cu reads it, two columns at once: itself, if rows are contiguous and H is even."""
    columns = weight_hh.shape[2]
    if columns % 2 == 0 and weight_hh.is_contiguous() and weight_hh.data_ptr() % (2 * weight_hh.element_size()) == 0:
        return weight_hh
    padded = weight_hh.new_zeros(*weight_hh.shape[:2], columns + columns % 2)
    padded[..., :columns] = weight_hh
    return padded


def _padded_gates(shape: ForwardShape, weight_hh: Tensor) -> Tensor:
    """[4, padded H, padded H], rounded as operands."""
    real = weight_hh.shape[1]
    padded = weight_hh.new_zeros(4, shape.hidden, shape.hidden)
    padded[:, :real, :real] = weight_hh.reshape(4, real, real)
    return round_operand(shape.storage, padded)
