"""W_hh in the order of each kernel by PyTorch's own operations: what pack.cu has to give."""

from __future__ import annotations

import torch
from torch import Tensor

from impls.cuda.runtime import TENSORFLOAT32, Storage
from impls.cuda.select.cluster import BackwardShape
from impls.cuda.select.steps import TensorSteps


def round_operand(storage: Storage, value: Tensor) -> Tensor:
    """The value as the tensor cores will read it. tf32: to nearest, ties away from zero, as cvt.rna.tf32 does."""
    value = value.to(storage.dtype)
    if storage is not TENSORFLOAT32:
        return value
    return ((value.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def gates(storage: Storage, weight_hh: Tensor, units: int, inputs: int) -> Tensor:
    """[4, units, inputs], padded with zeros and rounded as operands."""
    hidden = weight_hh.shape[1]
    padded = weight_hh.new_zeros(4, units, inputs)
    padded[:, :hidden, :hidden] = weight_hh.reshape(4, hidden, hidden)
    return round_operand(storage, padded)


def cluster_backward(shape: BackwardShape, weight_hh: Tensor) -> Tensor:
    hidden = weight_hh.shape[1]
    return gates(shape.storage, weight_hh, hidden, shape.pitch(hidden))


def tensor_step(design: TensorSteps, weight_hh: Tensor, backward: bool) -> Tensor:
    hidden, word = weight_hh.shape[1], design.storage.per_word
    if not backward:
        return gates(design.storage, weight_hh, hidden, design.pitch(hidden))
    depth, rows = -(-hidden // (16 * word)) * 16 * word, -(-hidden // 16) * 16
    w = gates(design.storage, weight_hh, depth, rows)
    # Axes: gate | two k-tiles, pair, tile, half of k, element | row tile, half of rows, row.
    w = w.reshape(4, depth // (16 * word), 4, 2, 2, word, rows // 16, 2, 8)
    return w.permute(6, 0, 1, 3, 8, 2, 4, 7, 5).contiguous()
