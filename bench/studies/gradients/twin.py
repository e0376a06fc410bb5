"""dL/dh_t and dL/dc_t from a fused kernel that shows neither, exactly.

A twin of the network has 4H more inputs, all zero, wired to the gates by the identity: their gradient is dL/dz_t, of the gates
before their activation. From it dL/dh_{t−1} = W_hhᵀ dL/dz_t, one product for all steps. The gates themselves, and with them
c_t, come from one product over inputs and outputs; then dL/dc_t = f_{t+1} dL/dc_{t+1} + o_t (1 − tanh² c_t) dL/dh_t.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from bench.studies.gradients.pieces import Piece, walked_back
from impls import LSTMSpec, Params, Spec

W_X, W_H, B_X, B_H = (f"{kind}_l0" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))


def has_one(spec: Spec) -> bool:
    return isinstance(spec, LSTMSpec) and spec.num_layers == 1 and not spec.bidirectional and not spec.proj_size and spec.bias


def curves_of_states(backend: str, spec: Spec, params: Params, x: np.ndarray, readout: np.ndarray) -> dict[str, np.ndarray]:
    """`log_hidden`, `log_cell`: mean over sequences of ln‖dL/dh_{T−k}‖ and ln‖dL/dc_{T−k}‖ for every lag k, all paths; [T]."""
    gates = 4 * spec.hidden_size
    wider = dataclasses.replace(spec, input_size=spec.input_size + gates)
    wired = {**params, W_X: np.concatenate([params[W_X], np.eye(gates)], 1)}
    zeros = np.zeros((*x.shape[:2], gates))
    found: dict[str, list[np.ndarray]] = {"log_hidden": [], "log_cell": []}
    for piece in walked_back(backend, wider, wired, np.concatenate([x, zeros], 2), readout):
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
