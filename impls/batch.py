"""One batch of sequences with its initial states and the cotangents to send back through it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from impls.draw import Draw
from impls.specs.recurrent import Recurrent, Spec


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
