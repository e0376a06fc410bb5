"""By how much the sigmoids and tanhs of the NumPy backend are off: not at all, but inside of `off_by`.

An implementation with approximate activations, as GPU libraries have them, is the naive implementation by which float32 is
judged: see `bench.worker.agreement`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np


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
