"""LSTM, GRU and vanilla RNN, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from impls.frameworks.numpy import arithmetic

# One LSTM layer in one direction, forward and backward through time, in NumPy.
#
# Arrays inside are feature-major ([G·H, B]): each gate is then one contiguous block, and BLAS packs the
# weights fastest this way round. Sigmoids are computed as σ(z) = ½ + ½·tanh(½z), so that all four gates cost one
# call to tanh; the inner ½ is folded into the weights when they are loaded, which is exact in binary.
# Source of the equations: Gers, Schmidhuber & Cummins 2000; Sak et al. 2014 for the projection.

# Columns (steps × batch) of one input GEMM: wide enough for BLAS to run at full speed, narrow enough for its
# result to be still in cache when the recurrence reads it. At H = 512, B = 32 the widths 256, 512 and 2048
# gave 54.4, 53.4 and 55.8 ms.
BLOCK_COLUMNS = 512


@dataclass(slots=True)
class Saved:
    """What the backward pass reads."""

    gates: np.ndarray  # [T, 4H, B], after their nonlinearities
    cells: np.ndarray  # [T+1, H, B], cells[0] is c0 in the order of processing
    tanh_cells: np.ndarray  # [T, H, B]


class LSTMLayer:
    """Weights and buffers of one layer-direction for a fixed T and B.

    weights: `weight_ih` [4H, I], `weight_hh` [4H, R], perhaps `bias_ih` and `bias_hh` [4H], `weight_hr` [P, H].
    """

    def __init__(self, weights: dict[str, np.ndarray], steps: int, batch: int) -> None:
        self.weights = weights
        rows, self.inputs = weights["weight_ih"].shape
        dtype = weights["weight_ih"].dtype
        self.hidden, self.steps, self.batch = rows // 4, steps, batch
        self.weight_hr = weights.get("weight_hr")
        half = np.full((rows, 1), 0.5, dtype)
        half[2 * self.hidden : 3 * self.hidden] = 1.0
        self.ih_half, self.hh_half = weights["weight_ih"] * half, weights["weight_hh"] * half
        self.bias_half = (weights["bias_ih"] + weights["bias_hh"])[:, None] * half if "bias_ih" in weights else None
        self.block = max(1, min(steps, BLOCK_COLUMNS // batch))  # steps whose inputs are projected by one GEMM
        self.projected = np.empty((rows, self.block * batch), dtype)  # W_ih x + b of one block
        self.preactivation = np.empty((rows, batch), dtype)
        self.cell = np.empty((self.hidden, batch), dtype)
        self.scratch = np.empty((self.hidden, batch), dtype)
        self.h = np.empty((weights["weight_hh"].shape[1], batch), dtype)
        self.saved: Saved | None = None

    def activate(self, z: np.ndarray) -> None:
        """Turn halved preactivations [4H, B] into gates, in place."""
        hidden = self.hidden
        np.tanh(z, out=z)
        for sigmoids in (z[: 2 * hidden], z[3 * hidden :]):
            sigmoids *= 0.5
            sigmoids += 0.5
            arithmetic.move_sigmoid(sigmoids)
        arithmetic.move_tanh(z[2 * hidden : 3 * hidden])

    def advance(self, z: np.ndarray, tanh_cell: np.ndarray) -> None:
        """From halved preactivations [4H, B] to the new cell state and the new h, both in place."""
        hidden = self.hidden
        self.activate(z)
        self.cell *= z[hidden : 2 * hidden]
        np.multiply(z[:hidden], z[2 * hidden : 3 * hidden], out=self.scratch)
        self.cell += self.scratch
        np.tanh(self.cell, out=tanh_cell)
        arithmetic.move_tanh(tanh_cell)
        if self.weight_hr is None:
            np.multiply(z[3 * hidden :], tanh_cell, out=self.h)
        else:
            np.multiply(z[3 * hidden :], tanh_cell, out=self.scratch)
            np.matmul(self.weight_hr, self.scratch, out=self.h)

    def forward(self, x, h0, c0, y, *, reverse, live, save) -> tuple[np.ndarray, np.ndarray]:
        """Reads x [T, B, I], h0 [B, R], c0 [B, H], live [T, B] or None (valid steps); writes y [T, B, R].

        Returns h_n [B, R] and c_n [B, H]; with `save`, keeps what `backward` needs.
        """
        if save and self.saved is None:
            self.saved = self._saved_buffers()
        saved = self.saved if save else None
        self.h[...], self.cell[...] = h0.T, c0.T
        if saved is not None:
            saved.cells[0] = self.cell
        for n, t, projected in self._projected_inputs(x, reverse):
            z = self.preactivation if saved is None else saved.gates[n]
            np.matmul(self.hh_half, self.h, out=z)
            z += projected
            before = None if live is None else (self.h.copy(), self.cell.copy())
            self.advance(z, self.scratch if saved is None else saved.tanh_cells[n])
            y[t].T[...] = self.h
            if live is not None and before is not None:
                y[t] *= live[t][:, None]
                np.copyto(self.h, before[0], where=~live[t])
                np.copyto(self.cell, before[1], where=~live[t])
            if saved is not None:
                saved.cells[n + 1] = self.cell
        return self.h.T, self.cell.T

    def _projected_inputs(self, x: np.ndarray, reverse: bool) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yields, in the order of processing, its count n, the step t and that step's halved W_ih x + b [4H, B]."""
        times = order(self.steps, reverse)
        for start in range(0, self.steps, self.block):
            block = times[start : start + self.block]
            first = min(block)
            columns = self.projected[:, : len(block) * self.batch]
            np.matmul(self.ih_half, x[first : first + len(block)].reshape(-1, self.inputs).T, out=columns)
            if self.bias_half is not None:
                columns += self.bias_half
            by_step = columns.reshape(-1, len(block), self.batch)
            for n, t in enumerate(block, start):
                yield n, t, by_step[:, t - first]

    def backward(self, x, h0, y, grad_y, grad_h, grad_c, *, reverse, live):
        """Sends grad_y [T, B, R], grad_h [B, R], grad_c [B, H] back through the last saved forward.

        Returns grad_x [T, B, I], grad_h0, grad_c0, and the gradients of the weights under their own names.
        """
        saved, hidden = self.saved, self.hidden
        assert saved is not None, "backward before a saved forward"
        weight_hh, weight_hr = self.weights["weight_hh"], self.weight_hr
        steps, batch = self.steps, self.batch
        h_before = previous_outputs(h0, y, reverse, live)
        grad_z = np.empty((4 * hidden, steps, batch), y.dtype)
        gradients = {name: np.zeros_like(value) for name, value in self.weights.items()}
        dh, dc = grad_h.T.copy(), grad_c.T.copy()  # [R, B], [H, B]
        for n, t in reversed(list(enumerate(order(steps, reverse)))):
            keep = None if live is None else live[t]
            gates = saved.gates[n]
            i, f, g, o = (gates[k * hidden : (k + 1) * hidden] for k in range(4))
            dh_t = dh + grad_y[t].T
            dm = dh_t  # cotangent of o·tanh(c), [H, B]
            tanh_c = saved.tanh_cells[n]
            if weight_hr is not None:
                gradients["weight_hr"] += (dh_t if keep is None else dh_t * keep) @ (o * tanh_c).T
                dm = weight_hr.T @ dh_t
            dc_t = dc + dm * o * (1 - tanh_c * tanh_c)
            dz = grad_z[:, t]
            dz[:hidden] = dc_t * g * i * (1 - i)
            dz[hidden : 2 * hidden] = dc_t * saved.cells[n] * f * (1 - f)
            dz[2 * hidden : 3 * hidden] = dc_t * i * (1 - g * g)
            dz[3 * hidden :] = dm * tanh_c * o * (1 - o)
            if keep is None:
                dh, dc = weight_hh.T @ dz, dc_t * f
            else:
                dz *= keep
                dh = np.where(keep, weight_hh.T @ dz, dh)
                dc = np.where(keep, dc_t * f, dc)
        flat = grad_z.reshape(4 * hidden, steps * batch)
        gradients["weight_ih"] = flat @ x.reshape(steps * batch, -1)
        gradients["weight_hh"] = flat @ h_before.reshape(steps * batch, -1)
        if "bias_ih" in gradients:
            gradients["bias_ih"] = gradients["bias_hh"] = flat.sum(axis=1)
        grad_x = (flat.T @ self.weights["weight_ih"]).reshape(steps, batch, -1)
        return grad_x, dh.T, dc.T, gradients

    def _saved_buffers(self) -> Saved:
        steps, hidden, batch, dtype = self.steps, self.hidden, self.batch, self.cell.dtype
        return Saved(
            gates=np.empty((steps, 4 * hidden, batch), dtype),
            cells=np.empty((steps + 1, hidden, batch), dtype),
            tanh_cells=np.empty((steps, hidden, batch), dtype),
        )


def order(steps: int, reverse: bool) -> range:
    return range(steps - 1, -1, -1) if reverse else range(steps)


def previous_outputs(h0: np.ndarray, y: np.ndarray, reverse: bool, live: np.ndarray | None) -> np.ndarray:
    """The h that entered each step, [T, B, R]; where a sequence had not begun or has ended, h0 stands in (its dz is zero)."""
    before = np.empty_like(y)
    if reverse:
        before[:-1], before[-1] = y[1:], h0
        if live is not None:
            # In reverse a sequence starts at its own last valid step, where h is still h0.
            before[:-1] = np.where(live[1:, :, None], y[1:], h0)
    else:
        before[1:], before[0] = y[:-1], h0
    return before


# One GRU layer in one direction, forward and backward through time, in NumPy, as PyTorch and cuDNN define it.
#
# r = σ(W_ir x + b_ir + W_hr h + b_hr), z likewise, n = tanh(W_in x + b_in + r·(W_hn h + b_hn)), h' = (1 − z)·n + z·h.
# Source: documentation of `torch.nn.GRU`; Cho et al. 2014, version 3.


class GRULayer:
    """Weights of one layer-direction: `weight_ih` [3H, I], `weight_hh` [3H, H], perhaps `bias_ih` and `bias_hh` [3H]."""

    def __init__(self, weights: dict[str, np.ndarray], steps: int, batch: int) -> None:
        self.weights = weights
        self.hidden = weights["weight_hh"].shape[1]
        self.steps, self.batch = steps, batch
        self.saved: list[tuple[np.ndarray, ...]] = []  # by step of processing: r, z, n, the h-part of n, h before

    def forward(self, x, h0, c0, y, *, reverse, live, save) -> tuple[np.ndarray, np.ndarray]:
        """As `lstm.Layer.forward`; a GRU has no cell state, so c0 comes back as it went in."""
        weights, hidden = self.weights, self.hidden
        projected = x @ weights["weight_ih"].T + weights.get("bias_ih", 0)
        bias_hh = weights.get("bias_hh", np.zeros(3 * hidden, x.dtype))
        self.saved = []
        h = h0
        for t in order(self.steps, reverse):
            recurrent = h @ weights["weight_hh"].T + bias_hh
            rz = 0.5 * np.tanh(0.5 * (projected[t, :, : 2 * hidden] + recurrent[:, : 2 * hidden])) + 0.5
            arithmetic.move_sigmoid(rz)
            r, z = rz[:, :hidden], rz[:, hidden:]
            n = np.tanh(projected[t, :, 2 * hidden :] + r * recurrent[:, 2 * hidden :])
            arithmetic.move_tanh(n)
            new = n + z * (h - n)
            if save:
                self.saved.append((r, z, n, recurrent[:, 2 * hidden :], h))
            if live is None:
                h = y[t] = new
            else:
                h = np.where(live[t][:, None], new, h)
                y[t] = new * live[t][:, None]
        return h.astype(x.dtype), c0

    def backward(self, x, h0, y, grad_y, grad_h, grad_c, *, reverse, live):
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


# One vanilla RNN layer in one direction, forward and backward through time, in NumPy.
#
# h' = tanh(W_ih x + W_hh h + b) (Elman 1990).


class RNNLayer:
    """Weights of one layer-direction: `weight_ih` [H, I], `weight_hh` [H, H], perhaps `bias_ih` and `bias_hh` [H]."""

    def __init__(self, weights: dict[str, np.ndarray], steps: int, batch: int) -> None:
        self.weights = weights
        self.hidden = weights["weight_hh"].shape[1]
        self.steps, self.batch = steps, batch

    def forward(self, x, h0, c0, y, *, reverse, live, save) -> tuple[np.ndarray, np.ndarray]:
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
            arithmetic.move_tanh(y[t])
            if live is None:
                h = y[t]
            else:
                h = np.where(live[t][:, None], y[t], h)
                y[t] *= live[t][:, None]
        return h.copy(), c0

    def backward(self, x, h0, y, grad_y, grad_h, grad_c, *, reverse, live):
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
