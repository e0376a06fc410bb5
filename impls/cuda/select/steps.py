"""Per-step kernels, which launch once a time step: their configurations; and how W_hh is packed where a kernel needs that."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from impls.cuda.runtime import Kernel, Refused, Storage
from impls.cuda.select.model import Estimate, data_scale, estimate, least, side_by_side

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


def packed_rows(storage: Storage, hidden: int, pitch: int) -> Packing | None:
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

    design: ClassVar = "step"
    dtype: torch.dtype

    def words(self) -> str:
        """As in the plan's provenance."""
        return self.design

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

    design: ClassVar = "tensor_step"
    storage: Storage
    tiles: int

    def words(self) -> str:
        """As in the plan's provenance: columns a block."""
        return f"tensor_step N{8 * self.tiles}"

    def estimate(self, hidden: int, batch: int, backward: bool) -> Estimate:
        """Of a step, with what a layer does beside its recurrence; batch: sequences of all directions."""
        family = "tensor_step_backward" if backward else "tensor_step_forward"
        # Launches bound smaller layers, of which none was measured: they are taken to need as long as the smallest that was.
        taken = max(hidden, least("hidden", family))
        found = estimate(family, scale=data_scale(self.storage), hidden=taken, batch=batch)
        return found if taken == hidden else replace(found, origin="extrapolated")

    def kernel(self, backward: bool) -> Kernel:
        phase, sums = ("backward", 1) if backward else ("forward", 2)
        defines = (("STORAGE", self.storage.name), ("TILES", str(self.tiles)), ("SPLIT", str(SPLIT)))
        shared_bytes = SPLIT * self.tiles * sums * 32 * 16
        return Kernel(f"tensor_step_{phase}.cu", f"lstm_tensor_step_{phase}", defines, 32 * SPLIT, shared_bytes)

    def grid(self, hidden: int, batch: int, directions: int, backward: bool) -> tuple[int, int, int]:
        return -(-hidden // (16 if backward else 8)), -(-batch // (8 * self.tiles)), directions

    def pitch(self, hidden: int) -> int:
        """Elements from one row of W_hh, or column of h, to the next: whole reads of 16 bytes."""
        return padded(hidden, 4 * self.storage.per_word)

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
        return packed_rows(self.storage, hidden, self.pitch(hidden))


POINTWISE_THREADS = 128
PART_ROWS = 64  # of a part at least: what a GEMM of fewer rows takes hardly depends on how many they are


@dataclass(frozen=True, slots=True)
class GemmSteps:
    """A GEMM a step and gemm_step_forward.cu or gemm_step_backward.cu.

    parts   of the batch, that run side by side
    rows    of the input product (steps · B) that are made at once [assumed]: few enough that no such GEMM holds all
            multiprocessors for long, while steps that wait for nothing could run
    """

    design: ClassVar = "gemm_step"
    storage: Storage
    parts: int = 1
    rows: int = 1024

    def words(self) -> str:
        """As in the plan's provenance: parts of the batch."""
        return f"gemm_step P{self.parts}"

    def estimate(self, hidden: int, batch: int, directions: int, backward: bool) -> Estimate:
        """Of a step, with what a layer does beside its recurrence: as long as cuDNN's, which does the same.

        In parts it is ranked as if half of the gain came of it: nothing that was measured says how well they run side by side.
        """
        family, scale = "gemm_step_backward" if backward else "gemm_step_forward", data_scale(self.storage)
        whole = side_by_side(family, directions, scale=scale, hidden=hidden, batch=batch)
        if self.parts == 1:
            return whole
        found = side_by_side(family, directions * self.parts, scale=scale, hidden=hidden, batch=-(-batch // self.parts))
        return replace(found, upper=(found.upper + whole.upper) / 2)

    def width(self, hidden: int) -> int:
        """Units that a thread takes of a row: 16 bytes of each gate, or one where H is no multiple of them."""
        values = 4 * self.storage.per_word
        return 1 if hidden % values else values

    def kernel(self, hidden: int, backward: bool) -> Kernel:
        phase = "backward" if backward else "forward"
        defines = (("STORAGE", self.storage.name), ("WIDTH", str(self.width(hidden))))
        return Kernel(f"gemm_step_{phase}.cu", f"lstm_gemm_step_{phase}", defines, POINTWISE_THREADS, 0)

    def grid(self, hidden: int, rows: int) -> tuple[int, int, int]:
        """Of a launch for so many rows of the batch."""
        return -(-rows * hidden // self.width(hidden) // POINTWISE_THREADS), 1, 1


def padded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


SHARED_LIMIT = 227 << 10  # bytes a block may have on sm_90 and sm_100


def affordable(shared_bytes: int) -> int:
    if shared_bytes > SHARED_LIMIT:
        raise Refused(f"a block would need {shared_bytes} bytes of shared memory and can have {SHARED_LIMIT}")
    return shared_bytes
