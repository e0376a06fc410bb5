"""Activations, and products as tensor cores round them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

# By how much the sigmoids and tanhs of the NumPy backend are off: not at all, but inside of `off_by`.
#
# An implementation with approximate activations, as GPU libraries have them, is the naive implementation by which float32 is
# judged: see `bench.worker.agreement`.


class Off(NamedTuple):
    """What is added to every value of a sigmoid, and of a tanh."""

    sigmoid: float
    tanh: float


_off: Off | None = None


def off() -> Off | None:
    """What holds now."""
    return _off


@contextmanager
def off_by(amounts: Off | None) -> Iterator[None]:
    """Every activation is off by these amounts inside. For one thread."""
    global _off
    before, _off = _off, amounts
    try:
        yield
    finally:
        _off = before


def move_sigmoid(values: np.ndarray) -> None:
    """Move results of a sigmoid, in place, by what holds now."""
    if _off is not None:
        values += values.dtype.type(_off.sigmoid)


def move_tanh(values: np.ndarray) -> None:
    """Move results of a tanh, in place, by what holds now."""
    if _off is not None:
        values += values.dtype.type(_off.tanh)


# Arrays of float32 whose matrix products are TF32's: each operand is rounded to 10 bits of mantissa, sums are float32.
#
# What a tensor core does, naively: the yardstick by which answers in TF32 are judged (see `bench.worker.agreement`).


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
