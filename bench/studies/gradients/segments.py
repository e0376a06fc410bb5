"""dL/dh and dL/dc through a backend, in segments of the sequence, by a twin with additional inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import impls
from bench.harness.case import Case
from bench.studies.gradients import cells as gradients_cells
from bench.studies.gradients import inits
from impls import Batch, LSTMSpec, Params, Spec
from results.record import Measurement

# A backend's backward pass over any length without underflow: in segments, from the last to the first.
#
# A fused kernel cannot be renormalised inside. So the sequence is cut into segments: forwards, each begins in the state the
# last one ended in; backwards, the gradients of a segment's first states, scaled to unit length, are the cotangents of the
# one before. A segment is short enough for its format at any decay seen here: float16 ends at 2⁻²⁴, after some 25 steps at
# the default RNN's rate, and has lost digits before. A bidirectional network cannot be cut, since its other direction runs
# against it: it goes in one piece, in double precision.

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


def backward_segments(backend: str, spec: Spec, params: Params, x: np.ndarray, readout: np.ndarray) -> Iterator[Piece]:
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


# dL/dh_t and dL/dc_t from a fused kernel that shows neither, exactly.
#
# A twin of the network has 4H more inputs, all zero, wired to the gates by the identity: their gradient is dL/dz_t, of the
# gates before their activation. From it dL/dh_{t−1} = W_hhᵀ dL/dz_t, one product for all steps. The gates themselves, and
# with them c_t, come from one product over inputs and outputs; then dL/dc_t = f_{t+1} dL/dc_{t+1} + o_t (1 − tanh² c_t)
# dL/dh_t.

W_X, W_H, B_X, B_H = (f"{kind}_l0" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))


def has_state_gradients(spec: Spec) -> bool:
    return isinstance(spec, LSTMSpec) and spec.num_layers == 1 and not spec.bidirectional and not spec.proj_size and spec.bias


def curves_of_states(backend: str, spec: Spec, params: Params, x: np.ndarray, readout: np.ndarray) -> dict[str, np.ndarray]:
    """`log_hidden`, `log_cell`: mean over sequences of ln‖dL/dh_{T−k}‖ and ln‖dL/dc_{T−k}‖ for every lag k, all paths; [T].

    Dividing dL/dz_g by i (1 − g²) would give dL/dc without the scan, but fails where gates saturate.
    """
    gates = 4 * spec.hidden_size
    wider = dataclasses.replace(spec, input_size=spec.input_size + gates)
    wired = {**params, W_X: np.concatenate([params[W_X], np.eye(gates)], 1)}
    zeros = np.zeros((*x.shape[:2], gates))
    found: dict[str, list[np.ndarray]] = {"log_hidden": [], "log_cell": []}
    for piece in backward_segments(backend, wider, wired, np.concatenate([x, zeros], 2), readout):
        for name, grads in zip(found, of_states(piece, params, spec), strict=True):
            with np.errstate(divide="ignore"):
                found[name].append(piece.log + np.log(np.linalg.norm(grads, axis=-1)))
    return {name: np.concatenate(parts[::-1])[::-1].mean(1) for name, parts in found.items()}


def of_states(piece: Piece, params: Params, spec: Spec) -> tuple[np.ndarray, np.ndarray]:
    """dL/dh and dL/dc after every step of a segment of the twin, [T, B, H] each."""
    steps, batch, hidden = piece.y.shape
    h0, c0 = (piece.start[name][0] if piece.start else np.zeros((batch, hidden)) for name in ("h", "c"))
    before = np.concatenate([h0[None], piece.y[:-1]])
    z = piece.x[..., : spec.input_size] @ params[W_X].T + before @ params[W_H].T + params[B_X] + params[B_H]
    i, f, g, o = np.split(z, 4, axis=-1)
    i, f, o, g = _sigmoid(i), _sigmoid(f), _sigmoid(o), np.tanh(g)
    cells = np.empty_like(f)
    for t in range(steps):
        cells[t] = f[t] * (cells[t - 1] if t else c0) + i[t] * g[t]

    of_z = piece.gradients["x"][..., spec.input_size :]
    of_h = np.concatenate([(of_z @ params[W_H])[1:], np.zeros((1, batch, hidden))])
    of_h += 0 if piece.of_y is None else piece.of_y
    of_c = np.zeros_like(of_h)
    if piece.ends:
        of_h[-1] += piece.ends["h"][0]
        of_c[-1] = piece.ends["c"][0]
    of_c += of_h * o * (1 - np.tanh(cells) ** 2)
    for t in reversed(range(steps - 1)):
        of_c[t] += f[t + 1] * of_c[t + 1]
    return of_h, of_c


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * values))


# The same attenuation through any backend that has gradients: by lag, from its own backward pass.


def measure(backend: str, case: Case) -> Iterator[Measurement]:
    """`decay` first, as in `attenuation`, of the inputs' curve; `log_input` by seed at the kept lags, as `attenuation` has it
    from the float64 sweep over states; of an LSTM of one layer also `log_hidden` and `log_cell` (see `curves_of_states`)."""
    lags = inits.lags(case.steps)
    init, seeds = str(case.factor("init")), int(case.factor("seeds"))
    each = [(inits.inputs(case, s), inits.readout(case, s), own) for s, own in enumerate(inits.weights(case.spec, init, seeds))]
    found = [curve(backend, case.spec, params, x, readout) for x, readout, params in each]
    yield gradients_cells.measurement(
        "decay", "nat/step", [np.array([gradients_cells.decay(lags, own[lags])]) for own in found]
    )
    yield gradients_cells.measurement("log_input", "nat", [own[lags] for own in found], lags)
    yield gradients_cells.lags_measured(lags)
    if has_state_gradients(case.spec):
        states = [curves_of_states(backend, case.spec, params, x, readout) for x, readout, params in each]
        for name in states[0]:
            yield gradients_cells.measurement(name, "nat", [own[name][lags] for own in states], lags)


def curve(backend: str, spec: Spec, params: Params, x: np.ndarray, readout: np.ndarray) -> np.ndarray:
    """Mean over sequences of ln‖dL/dx_{T−k}‖ for every lag k, for a loss readout · y_T; [T]."""
    with np.errstate(divide="ignore"):
        parts = [
            piece.log + np.log(np.linalg.norm(piece.gradients["x"], axis=-1))
            for piece in backward_segments(backend, spec, params, x, readout)
        ]
    return np.concatenate(parts[::-1])[::-1].mean(1)
