"""How a dtype is stored and multiplied: the Python side of storage.cuh."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Storage:
    """`name` is the C++ type; `per_word` values share a 32-bit word of a fragment."""

    name: str
    dtype: torch.dtype
    per_word: int

    @property
    def item_bytes(self) -> int:
        return 4 // self.per_word


BFLOAT16 = Storage("Bfloat16", torch.bfloat16, 2)
FLOAT16 = Storage("Float16", torch.float16, 2)
TENSORFLOAT32 = Storage("Tensorfloat32", torch.float32, 1)
STORAGES = {storage.name: storage for storage in (BFLOAT16, FLOAT16, TENSORFLOAT32)}


def round_operand(storage: Storage, value: Tensor) -> Tensor:
    """The value as the tensor cores will read it. tf32: to nearest, ties away from zero, as cvt.rna.tf32 does."""
    value = value.to(storage.dtype)
    if storage is not TENSORFLOAT32:
        return value
    return ((value.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)
