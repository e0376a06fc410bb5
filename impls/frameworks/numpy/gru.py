"""One GRU layer in one direction, forward and backward through time, in NumPy, as PyTorch and cuDNN define it.

r = σ(W_ir x + b_ir + W_hr h + b_hr), z likewise, n = tanh(W_in x + b_in + r·(W_hn h + b_hn)), h' = (1 − z)·n + z·h.
Source: documentation of `torch.nn.GRU`; Cho et al. 2014, version 3.
"""

from __future__ import annotations

import numpy as np

from impls.frameworks.numpy import activations
from impls.frameworks.numpy.lstm import order, previous_outputs


class Layer:
    """Weights of one layer-direction: `weight_ih` [3H, I], `weight_hh` [3H, H], perhaps `bias_ih` and `bias_hh` [3H]."""

    def __init__(self, weights: dict[str, np.ndarray], steps: int, batch: int) -> None:
        self.weights = weights
        self.hidden = weights["weight_hh"].shape[1]
        self.steps, self.batch = steps, batch
        self.saved: list[tuple[np.ndarray, ...]] = []  # by step of processing: r, z, n, the h-part of n, h before

    def forward(self, x, h0, c0, y, reverse, live, save) -> tuple[np.ndarray, np.ndarray]:
        """As `lstm.Layer.forward`; a GRU has no cell state, so c0 comes back as it went in."""
        weights, hidden = self.weights, self.hidden
        projected = x @ weights["weight_ih"].T + weights.get("bias_ih", 0)
        bias_hh = weights.get("bias_hh", np.zeros(3 * hidden, x.dtype))
        self.saved = []
        h = h0
        for t in order(self.steps, reverse):
            recurrent = h @ weights["weight_hh"].T + bias_hh
            rz = 0.5 * np.tanh(0.5 * (projected[t, :, : 2 * hidden] + recurrent[:, : 2 * hidden])) + 0.5
            activations.move_sigmoid(rz)
            r, z = rz[:, :hidden], rz[:, hidden:]
            n = np.tanh(projected[t, :, 2 * hidden :] + r * recurrent[:, 2 * hidden :])
            activations.move_tanh(n)
            new = n + z * (h - n)
            if save:
                self.saved.append((r, z, n, recurrent[:, 2 * hidden :], h))
            if live is None:
                h = y[t] = new
            else:
                h = np.where(live[t][:, None], new, h)
                y[t] = new * live[t][:, None]
        return h.astype(x.dtype), c0

    def backward(self, x, h0, y, grad_y, grad_h, grad_c, reverse, live):
        """As `lstm.Layer.backward`."""
        weights, hidden = self.weights, self.hidden
        grad_input = np.empty((*x.shape[:2], 3 * hidden), x.dtype)  # cotangent of W_ih x + b_ih
        grad_recurrent = np.empty_like(grad_input)  # cotangent of W_hh h + b_hh
        dh = grad_h
        for (r, z, n, part, before), t in reversed(list(zip(self.saved, order(self.steps, reverse), strict=True))):
            total = dh + grad_y[t]
            dn = total * (1 - z) * (1 - n * n)
            dr, dz = dn * part * r * (1 - r), total * (before - n) * z * (1 - z)
            grad_input[t] = np.concatenate([dr, dz, dn], axis=1)
            grad_recurrent[t] = np.concatenate([dr, dz, dn * r], axis=1)
            if live is not None:
                grad_input[t] *= live[t][:, None]
                grad_recurrent[t] *= live[t][:, None]
            back = total * z + grad_recurrent[t] @ weights["weight_hh"]
            dh = back if live is None else np.where(live[t][:, None], back, dh)
        flat_input, flat_recurrent = grad_input.reshape(-1, 3 * hidden), grad_recurrent.reshape(-1, 3 * hidden)
        h_before = previous_outputs(h0, y, reverse, live).reshape(-1, hidden)
        gradients = {
            "weight_ih": flat_input.T @ x.reshape(len(flat_input), -1),
            "weight_hh": flat_recurrent.T @ h_before,
        }
        if "bias_ih" in weights:
            gradients |= {"bias_ih": flat_input.sum(axis=0), "bias_hh": flat_recurrent.sum(axis=0)}
        return grad_input @ weights["weight_ih"], dh, grad_c, gradients
