"""One vanilla RNN layer in one direction, forward and backward through time, in NumPy.

h' = tanh(W_ih x + W_hh h + b) (Elman 1990).
"""

from __future__ import annotations

import numpy as np

from impls.frameworks.numpy import activations
from impls.frameworks.numpy.lstm import order, previous_outputs


class Layer:
    """Weights of one layer-direction: `weight_ih` [H, I], `weight_hh` [H, H], perhaps `bias_ih` and `bias_hh` [H]."""

    def __init__(self, weights: dict[str, np.ndarray], steps: int, batch: int) -> None:
        self.weights = weights
        self.hidden = weights["weight_hh"].shape[1]
        self.steps, self.batch = steps, batch

    def forward(self, x, h0, c0, y, reverse, live, save) -> tuple[np.ndarray, np.ndarray]:
        """As `lstm.Layer.forward`; there is no cell state, so c0 comes back as it went in."""
        weights = self.weights
        projected = x @ weights["weight_ih"].T
        if "bias_ih" in weights:
            projected += weights["bias_ih"] + weights["bias_hh"]
        transposed = weights["weight_hh"].T
        h = h0
        for t in order(self.steps, reverse):
            np.matmul(h, transposed, out=y[t])
            y[t] += projected[t]
            np.tanh(y[t], out=y[t])
            activations.move_tanh(y[t])
            if live is None:
                h = y[t]
            else:
                h = np.where(live[t][:, None], y[t], h)
                y[t] *= live[t][:, None]
        return h.copy(), c0

    def backward(self, x, h0, y, grad_y, grad_h, grad_c, reverse, live):
        """As `lstm.Layer.backward`; what it reads of the forward pass is y alone."""
        weights, hidden = self.weights, self.hidden
        grad_z = np.empty((*x.shape[:2], hidden), x.dtype)
        dh = grad_h
        for t in reversed(order(self.steps, reverse)):
            grad_z[t] = (dh + grad_y[t]) * (1 - y[t] * y[t])
            if live is not None:
                grad_z[t] *= live[t][:, None]
            back = grad_z[t] @ weights["weight_hh"]
            dh = back if live is None else np.where(live[t][:, None], back, dh)
        flat = grad_z.reshape(-1, hidden)
        h_before = previous_outputs(h0, y, reverse, live).reshape(-1, hidden)
        gradients = {"weight_ih": flat.T @ x.reshape(len(flat), -1), "weight_hh": flat.T @ h_before}
        if "bias_ih" in weights:
            gradients["bias_ih"] = gradients["bias_hh"] = flat.sum(axis=0)
        return grad_z @ weights["weight_ih"], dh, grad_c, gradients
