"""Inputs: drawn from the position of each value, on the host or on a device, and the batch they make."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from impls.specs.recurrent import Recurrent, Spec

# Random values that the host and any device compute alike, each from its position: what a device can draw for itself need
# not be drawn on the host and sent there, and the float64 reference computes only the values it reads.
#
# A value is the sum of three bytes of a 32-bit hash of its position (lowbias32 of https://github.com/skeeto/hash-prospector,
# with a key), shifted and scaled to mean 0 and standard deviation 1: nearly normal, never beyond ±2.99, and a multiple of
# 1/256, which float16 and all wider types hold exactly.

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


# One batch of sequences with its initial states and the cotangents to send back through it.


class InvalidBatch(ValueError):
    """Arrays or lengths that do not fit the spec; the message says which and what was expected."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs of one call, in float64 on the host; a backend casts them to the spec's dtype when it loads.

    On a GPU x and grad_y are not computed yet: the backend draws them there. The shapes of states are those of
    `spec.state_shapes`; here they stand for an LSTM.

    x         [T, B, I]       inputs
    h0        [L·D, B, R]     initial hidden state, zeros if None
    c0        [L·D, B, H]     initial cell state (LSTM only), zeros if None
    lengths   [B]             valid steps of each sequence, all T if None; outputs beyond are zero
    grad_y    [T, B, D·R]     cotangent of the outputs for the backward pass, zeros if None
    grad_h_n  [L·D, B, R]     cotangent of the final hidden state, zeros if None
    grad_c_n  [L·D, B, H]     cotangent of the final cell state (LSTM only), zeros if None
    """

    x: np.ndarray | Draw
    h0: np.ndarray | None = None
    c0: np.ndarray | None = None
    lengths: np.ndarray | None = None
    grad_y: np.ndarray | Draw | None = None
    grad_h_n: np.ndarray | None = None
    grad_c_n: np.ndarray | None = None

    @property
    def steps(self) -> int:
        return self.x.shape[0]

    @property
    def batch(self) -> int:
        return self.x.shape[1]


def filled(spec: Spec, batch: Batch) -> Batch:
    """The same batch with zeros where a state or cotangent was None (`lengths` stays as it is).

    Zeros take no memory and cannot be written to.
    """
    shapes = _shapes(spec, batch.steps, batch.batch)
    values = {name: getattr(batch, name) for name in shapes}
    zeros = {name: np.broadcast_to(np.zeros(()), shapes[name]) for name, value in values.items() if value is None}
    return Batch(lengths=batch.lengths, **(values | zeros))


def check_batch(spec: Spec, batch: Batch) -> None:
    """Raise `InvalidBatch` unless every array fits the spec and every length lies in 1…T."""
    if batch.x.ndim != 3 or 0 in batch.x.shape:
        raise InvalidBatch(f"x must be [T, B, I] with no empty axis; got shape {batch.x.shape}")
    states = spec.state_shapes(batch.batch)
    for letter, state in (("h", "hidden"), ("c", "cell")):
        given = getattr(batch, f"{letter}0") is not None or getattr(batch, f"grad_{letter}_n") is not None
        if given and letter not in states:
            raise InvalidBatch(f"a {spec.cell} has no {state} state; leave {letter}0 and grad_{letter}_n out")
    for name, shape in _shapes(spec, batch.steps, batch.batch).items():
        value = getattr(batch, name)
        if value is not None and value.shape != shape:
            raise InvalidBatch(f"{name} must have shape {shape}; got {value.shape}")
        if isinstance(value, np.ndarray) and not np.isfinite(value).all():
            raise InvalidBatch(f"{name} holds NaN or infinite values")
    if batch.lengths is not None and not isinstance(spec, Recurrent):
        raise InvalidBatch(f"a {spec.cell} takes sequences of full length; leave lengths out")
    if batch.lengths is not None:
        _check_lengths(batch.lengths, batch.steps, batch.batch)


def _check_lengths(lengths: np.ndarray, steps: int, batch: int) -> None:
    if lengths.shape != (batch,) or not np.issubdtype(lengths.dtype, np.integer):
        raise InvalidBatch(f"lengths must be {batch} whole numbers; got shape {lengths.shape}, dtype {lengths.dtype}")
    if (lengths < 1).any() or (lengths > steps).any():
        raise InvalidBatch(f"lengths must lie in 1…{steps} (the steps of x); got {int(lengths.min())}…{int(lengths.max())}")


def _shapes(spec: Spec, steps: int, batch: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"x": (steps, batch, spec.input_size), "grad_y": (steps, batch, spec.output_size)}
    for letter, shape in spec.state_shapes(batch).items():
        shapes |= {f"{letter}0": shape, f"grad_{letter}_n": shape}
    return shapes
