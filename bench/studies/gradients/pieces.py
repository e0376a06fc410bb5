"""A backend's backward pass over any length without underflow: in segments, from the last to the first.

A fused kernel cannot be renormalised inside. So the sequence is cut into segments: forwards, each begins in the state the last
one ended in; backwards, the gradients of a segment's first states, scaled to unit length, are the cotangents of the one before.
A segment is short enough for its format at any decay seen here: float16 ends at 2⁻²⁴, after some 25 steps at the default
RNN's rate, and has lost digits before. A bidirectional network cannot be cut, since its other
direction runs against it: it goes in one piece, in double precision.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import impls
from impls import Batch, Params, Spec

SEGMENT_STEPS, SHORT_SEGMENT_STEPS = 32, 8  # the short one in float16
States = dict[str, np.ndarray]  # h and, for an LSTM, c: [L·D, B, ·]


@dataclass(frozen=True, slots=True)
class Piece:
    """One segment after its backward pass, float64.

    x, y       inputs and outputs     start  states before it, empty for zeros
    of_y, ends cotangents sent in: of the outputs (None for none), and of the last states (empty for none)
    gradients  `x`, `h0`, `c0`        log    ln of what its cotangents were divided by, [B]
    """

    x: np.ndarray
    y: np.ndarray
    start: States
    of_y: np.ndarray | None
    ends: States
    gradients: States
    log: np.ndarray


def walked_back(backend: str, spec: Spec, params: Params, x: np.ndarray, readout: np.ndarray) -> Iterator[Piece]:
    """The segments of x [T, B, I], last first, for a loss readout · y_T."""
    module, (steps, batch, _) = impls.get(backend), x.shape
    length = steps if spec.bidirectional else segment_steps(spec)
    segments = [x[start : start + length] for start in range(0, steps, length)]

    starts: list[States] = [{}]
    for segment in segments[:-1]:
        loaded = module.load(spec, params, _batch(segment, starts[-1]))
        loaded.forward()
        loaded.wait()
        starts.append({name[0]: np.asarray(value, float) for name, value in loaded.final_state().items()})

    of_y: np.ndarray | None = np.zeros((len(segments[-1]), batch, spec.output_size))
    of_y[-1] = readout
    ends: States = {}
    log = np.zeros(batch)
    for segment, start in zip(reversed(segments), reversed(starts), strict=True):
        loaded = module.load(spec, params, _batch(segment, start, of_y, ends))
        loaded.forward_backward()
        loaded.wait()
        found = {name: np.asarray(value, float) for name, value in loaded.gradients().items() if name in ("x", "h0", "c0")}
        yield Piece(segment, np.asarray(loaded.outputs(), float), start, of_y, ends, found, log)
        states = {name: value for name, value in found.items() if name != "x"}
        size = np.sqrt(sum(np.square(value).sum((0, 2)) for value in states.values()))
        with np.errstate(divide="ignore"):
            log = log + np.log(size)
        ends = {name[0]: value / np.where(size > 0, size, 1)[:, None] for name, value in states.items()}
        of_y = None


def segment_steps(spec: Spec) -> int:
    return SHORT_SEGMENT_STEPS if spec.dtype == "float16" else SEGMENT_STEPS


def _batch(x: np.ndarray, start: States, of_y: np.ndarray | None = None, ends: States | None = None) -> Batch:
    """A cotangent of the outputs is given even where it is zero: every backend then takes the same way back."""
    batch = Batch(x=x, h0=start.get("h"), c0=start.get("c"), grad_y=of_y)
    return dataclasses.replace(batch, grad_h_n=ends.get("h"), grad_c_n=ends.get("c")) if ends else batch
