"""The same attenuation through any backend that has gradients: ‖dL/dx‖ by lag, from its own backward pass.

A fused kernel cannot be renormalised inside. So the sequence is cut into segments: forwards, each begins in the state the last
one ended in; backwards, the gradients of a segment's first states, scaled to unit length, are the cotangents of the one before.
A segment is short enough for single precision at any decay seen here. A bidirectional network cannot be cut, since its other
direction runs against it: it goes in one piece, in double precision.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

import impls
from bench.case import Case
from bench.gradients import curves, setup
from impls import Batch, Params
from results.record import Measurement

SEGMENT_STEPS = 32
States = dict[str, np.ndarray]  # h and, for an LSTM, c: [L·D, B, ·]


def measure(backend: str, case: Case) -> Iterator[Measurement]:
    """`log_input` by seed at the kept lags, as `attenuation` has it from the float64 sweep over states."""
    lags = setup.lags(case.steps)
    init, seeds = str(case.factor("init")), int(case.factor("seeds"))
    found = [
        curve(backend, case, params, setup.inputs(case, seed), setup.readout(case, seed))
        for seed, params in enumerate(setup.weights(case.spec, init, seeds))
    ]
    yield curves.measurement("log_input", "nat", [each[lags] for each in found], lags)
    yield curves.lags_measured(lags)


def curve(backend: str, case: Case, params: Params, x: np.ndarray, readout: np.ndarray) -> np.ndarray:
    """Mean over sequences of ln‖dL/dx_{T−k}‖ for every lag k, for a loss readout · y_T; [T]."""
    spec, module = case.spec, impls.get(backend)
    length = case.steps if spec.bidirectional else SEGMENT_STEPS
    segments = [x[start : start + length] for start in range(0, case.steps, length)]

    starts: list[States] = [{}]
    for segment in segments[:-1]:
        loaded = module.load(spec, params, _batch(segment, starts[-1]))
        loaded.forward()
        loaded.wait()
        starts.append({name[0]: np.asarray(value, float) for name, value in loaded.final_state().items()})

    of_y: np.ndarray | None = np.zeros((len(segments[-1]), case.batch, spec.output_size))
    of_y[-1] = readout
    ends: States = {}
    log, parts = np.zeros(case.batch), []
    for segment, start in zip(reversed(segments), reversed(starts), strict=True):
        loaded = module.load(spec, params, _batch(segment, start, of_y, ends))
        loaded.forward_backward()
        loaded.wait()
        found = {name: np.asarray(value, float) for name, value in loaded.gradients().items() if name in ("x", "h0", "c0")}
        with np.errstate(divide="ignore"):
            parts.append(log + np.log(np.linalg.norm(found.pop("x"), axis=-1)))
            size = np.sqrt(sum(np.square(value).sum((0, 2)) for value in found.values()))
            log = log + np.log(size)
        ends = {name[0]: value / np.where(size > 0, size, 1)[:, None] for name, value in found.items()}
        of_y = None
    return np.concatenate(parts[::-1])[::-1].mean(1)


def _batch(x: np.ndarray, start: States, of_y: np.ndarray | None = None, ends: States | None = None) -> Batch:
    """A cotangent of the outputs is given even where it is zero: every backend then takes the same way back."""
    batch = Batch(x=x, h0=start.get("h"), c0=start.get("c"), grad_y=of_y)
    return dataclasses.replace(batch, grad_h_n=ends.get("h"), grad_c_n=ends.get("c")) if ends else batch
