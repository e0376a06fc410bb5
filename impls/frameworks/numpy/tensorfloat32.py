"""Arrays of float32 whose matrix products are TF32's: each operand is rounded to 10 bits of mantissa, sums are float32.

What a tensor core does, naively: the yardstick by which answers in TF32 are judged (see `bench.worker.agreement`).
"""

from __future__ import annotations

from typing import Any

import numpy as np


def rounded(value: np.ndarray) -> np.ndarray:
    """To nearest, ties away from zero, as `cvt.rna.tf32` does (PTX manual)."""
    bits = np.ascontiguousarray(value, np.float32).view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


class TensorFloat32(np.ndarray):
    """Behaves as its float32 values do, but for `matmul`."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        plain = [value.view(np.ndarray) if isinstance(value, TensorFloat32) else value for value in inputs]
        if ufunc is np.matmul:
            plain = [rounded(value) for value in plain]
        if out is not None:
            options["out"] = tuple(value.view(np.ndarray) for value in out)
        found = getattr(ufunc, method)(*plain, **options)
        if out is not None:
            return out[0]
        return found.view(TensorFloat32) if isinstance(found, np.ndarray) else found
