"""Random values that the host and any device compute alike, each from its position: what a device can draw for itself need
not be drawn on the host and sent there, and the float64 reference computes only the values it reads.

A value is the sum of three bytes of a 32-bit hash of its position (lowbias32 of https://github.com/skeeto/hash-prospector,
with a key), shifted and scaled to mean 0 and standard deviation 1: nearly normal, never beyond ±2.99, and a multiple of
1/256, which float16 and all wider types hold exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

MULTIPLIERS = (0x7FEB352D, 0x846CA68B - (1 << 32))  # as int32
MEAN, SCALE = 765, 256.0  # of twice the sum; its standard deviation is 255.998


def hashed_sum(position: Any, key: int) -> Any:
    """Twice the sum of three hashed bytes less its mean: −765 … 765.

    Args:
        position: int32 values, an array of NumPy, PyTorch or JAX, whose products wrap around.
        key: which of the independent sequences, an int32.

    Returns:
        int32 values, an array of the same library and shape.
    """
    bits = position ^ key
    bits = ((bits ^ _right(bits, 16)) * MULTIPLIERS[0]) ^ key  # again, else two keys would give one sequence in another order
    bits = (bits ^ _right(bits, 15)) * MULTIPLIERS[1]
    bits = bits ^ _right(bits, 16)
    return 2 * ((bits & 255) + (_right(bits, 8) & 255) + (_right(bits, 16) & 255)) - MEAN


def _right(bits: Any, places: int) -> Any:
    """Logical shift: the sign is not drawn in."""
    return (bits >> places) & ((1 << (32 - places)) - 1)


@dataclass(frozen=True, slots=True)
class Draw:
    """An array of random values that has not been computed yet. Reading it as a NumPy array computes it, in float64.

    Attributes:
        shape: of the array; the last axis varies fastest. At most 2³¹ values.
        key: which of the independent sequences, an int32.
    """

    shape: tuple[int, ...]
    key: int

    def __post_init__(self) -> None:
        if math.prod(self.shape) > 1 << 31:
            raise ValueError(f"at most {1 << 31} values can be drawn; got the shape {self.shape}")

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __getitem__(self, index: Any) -> np.ndarray:
        """The values there, in float64; no others are computed. `index` as that of a NumPy array."""
        axes = [np.arange(size, dtype=np.int32) for size in self.shape]
        index = index if isinstance(index, tuple) else (index,)
        chosen = [axis[one] for axis, one in zip(axes, index, strict=False)] + axes[len(index) :]
        place = np.zeros((1,) * self.ndim, np.int32)
        for axis, positions in enumerate(chosen):
            own = positions.reshape([-1 if axis == other else 1 for other in range(self.ndim)])
            place = place + own * np.int32(math.prod(self.shape[axis + 1 :]))
        return hashed_sum(place, self.key) / SCALE

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[()].astype(dtype or np.float64)

    def astype(self, dtype: Any) -> np.ndarray:
        return np.asarray(self, dtype)


def keyed(seed: int, stream: int) -> int:
    """The key of one of a seed's independent streams, an int32."""
    return int(np.random.SeedSequence([seed, stream]).generate_state(1).view(np.int32)[0])
