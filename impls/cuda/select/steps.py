"""Design C: one launch a time step, multiplied exactly or on tensor cores. Its kernels, grids, weights and workspace."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from impls.cuda.runtime.kernels import Kernel, Storage, round_operand

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
            units, rows = _padded(hidden, 4 * per_word), _padded(hidden, 16)
            w = self._gates(weight_hh, units, rows).permute(1, 0, 2)
            # Axes: two k-tiles, pair, tile, half of k, element | row tile, half of rows, row.
            w = w.reshape(units // (4 * per_word), 4, 2, 2, per_word, rows // 16, 2, 8)
            return w.permute(5, 0, 2, 7, 1, 3, 6, 4).contiguous()
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
