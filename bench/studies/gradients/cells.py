"""Linearised cells: products of Jacobians along a trajectory, forwards and backwards, and the curves they give over the lag."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from impls import Params, Spec
from results.metrics import Gap
from results.record import Measurement

# From curves by seed to measurements, naming every lag at which a gradient was exactly zero or not finite.

SIGNIFICANT = 7  # digits kept of a value: a tenth of what float32 resolves, and half the file


def measurement(metric: str, unit: str, seeds: Sequence[np.ndarray], lags: Sequence[int] | np.ndarray = ()) -> Measurement:
    """`samples` holds the seeds one after the other, `blocks` how many values each has.

    With lags, a seed's curve ends before its first value that is no number: −inf (a gradient exactly zero), inf or NaN; the
    note says at which lag and for which seed, and the other seeds go on.
    """
    samples: list[float] = []
    blocks, notes = [], []
    for number, values in enumerate(seeds):
        flat = np.asarray(values, float).ravel()
        bad = np.flatnonzero(~np.isfinite(flat))
        if len(bad):
            lag = int(lags[bad[0]]) if len(lags) else None
            notes.append(Gap(metric, flat[bad[0]] == -np.inf, number, lag).note())
            flat = flat[: bad[0]]
        samples += [float(f"{value:.{SIGNIFICANT}g}") for value in flat]
        blocks.append(len(flat))
    return Measurement(metric, unit, tuple(samples), tuple(blocks), tuple(notes))


def lags_measured(lags: np.ndarray) -> Measurement:
    return Measurement("lag", "step", tuple(float(lag) for lag in lags))


def decay(lags: np.ndarray, curve: np.ndarray) -> float:
    """Slope from a tenth of the way to the last lag whose gradient is a number other than zero; NaN where none is."""
    known = np.flatnonzero(np.isfinite(curve))
    if not len(known):
        return float("nan")
    last = int(known[-1])
    tenth = int(np.searchsorted(lags, lags[last] / 10))
    return float((curve[last] - curve[tenth]) / (lags[last] - lags[tenth])) if last > tenth else 0.0


# One layer run forward for all seeds at once, and its linearisation at every step: products with J_t and with J_tᵀ.
#
# S seeds, T steps, B sequences a seed. A state is a tuple of [S, B, H] tensors: (h, c) for an LSTM, (h,) otherwise. Its
# differential carries K ≥ 0 further axes in front: [..., S, B, H]. Everything that a step needs is kept once: O(T·S·B·H).
# Equations of the full 2H-state Jacobian: docs/studies/gradients.md.

State = tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Weights:
    """Of S seeds: input [S, I, G·H] and recurrent [S, H, G·H] weights, transposed; biases [S, 1, G·H]."""

    w_x: Tensor
    w_h: Tensor
    b_x: Tensor
    b_h: Tensor

    @property
    def hidden(self) -> int:
        return self.w_h.shape[1]


def stacked(spec: Spec, each: Sequence[Params], dtype: torch.dtype = torch.float64) -> Weights:
    """The first layer's weights of all seeds, on the spec's device."""

    def together(name: str) -> Tensor:
        return torch.from_numpy(np.stack([one[name] for one in each])).to(spec.device, dtype)

    return Weights(
        together("weight_ih_l0").transpose(1, 2), together("weight_hh_l0").transpose(1, 2),
        together("bias_ih_l0")[:, None], together("bias_hh_l0")[:, None],
    )  # fmt: skip


class Path(Protocol):
    """A trajectory linearised at every step.

    Attributes:
        parts: tensors in a state.
        steps: T.
        weights: of all seeds.
        hidden: h before each step, [S, B, H] each.
        last: the state after the last step.
        back: recurrent weights as `vjp` multiplies by them, [S, G·H, H].
        w_h: recurrent weights as `jvp` multiplies by them, [S, H, G·H].
    """

    parts: int
    steps: int
    weights: Weights
    hidden: list[Tensor]
    last: State
    back: Tensor
    w_h: Tensor

    def zeros(self, batch: int) -> State:
        """A state of zeros for so many sequences a seed: tensors [S, B, H]."""
        ...

    def vjp(self, t: int, grads: State) -> tuple[Tensor, Tensor, State]:
        """One step of backpropagation, the product with J_tᵀ.

        Args:
            t: the step, from 0.
            grads: dL/d state after step t, tensors [..., S, B, H].

        Returns: dL/d of the gates' pre-activations by their part of the input and by their part of the hidden state, both
            [..., S, B, G·H], and dL/d state before step t.
        """
        ...

    def jvp(self, t: int, tangents: State) -> State:
        """The product of J_t with a tangent of the state before step t: tensors [..., S, B, H], as those returned."""
        ...


class LinearizedTrajectory:
    """What the paths share: the pass forward, which keeps the state before each step."""

    def __init__(self, weights: Weights, x: Tensor, step: Callable[[Tensor, State], State], parts: int) -> None:
        """x: [T, S, B, I]. The state before the first step is zero. step: W x + b, [S, B, G·H], and a state to the next."""
        self.weights, self.steps, self.parts = weights, len(x), parts
        self.back = weights.w_h.transpose(1, 2).contiguous()
        self.w_h = weights.w_h.contiguous()
        self.hidden: list[Tensor] = []
        state = self.zeros(x.shape[2])
        for inputs in x @ weights.w_x + weights.b_x:
            self.hidden.append(state[0])
            state = step(inputs, state)
        self.last = state

    def zeros(self, batch: int) -> State:
        seeds, hidden, _ = self.weights.w_h.shape
        zero = torch.zeros(seeds, batch, hidden, dtype=self.weights.w_h.dtype, device=self.weights.w_h.device)
        return (zero,) * self.parts


def product(values: Tensor, weights: Tensor) -> Tensor:
    """values [..., S, B, G] @ weights [S, G, F], axes in front all at once: broadcasting would copy the weights for each."""
    if values.ndim == 3:
        return values @ weights
    together = values.movedim(-3, 0)
    return (together.flatten(1, -2) @ weights).unflatten(1, together.shape[1:-1]).movedim(0, -3)


class RNNPath(LinearizedTrajectory):
    """h' = φ(W x + U h + b), φ = tanh; or rectified, for the IRNN."""

    rectified = False

    def __init__(self, weights: Weights, x: Tensor) -> None:
        self.saved: list[tuple[Tensor]] = []
        super().__init__(weights, x, self._step, parts=1)

    def _step(self, inputs: Tensor, state: State) -> State:
        z = inputs + state[0] @ self.w_h + self.weights.b_h
        h = torch.relu(z) if self.rectified else torch.tanh(z)
        self.saved.append(((z > 0).to(z.dtype) if self.rectified else 1 - h * h,))
        return (h,)

    def vjp(self, t: int, grads: State) -> tuple[Tensor, Tensor, State]:
        dz = grads[0] * self.saved[t][0]
        return dz, dz, (product(dz, self.back),)

    def jvp(self, t: int, tangents: State) -> State:
        return (self.saved[t][0] * product(tangents[0], self.w_h),)


class RectifiedPath(RNNPath):
    rectified = True


class GRUPath(LinearizedTrajectory):
    """n = tanh(x-part + r·h-part), h' = (1 − z)·n + z·h; gates r, z, n (see `impls.GRUSpec`)."""

    def __init__(self, weights: Weights, x: Tensor) -> None:
        self.saved: list[tuple[Tensor, ...]] = []
        super().__init__(weights, x, self._step, parts=1)

    def _step(self, inputs: Tensor, state: State) -> State:
        h = state[0]
        of_h = h @ self.w_h + self.weights.b_h
        size = self.weights.hidden
        r, z = torch.sigmoid(inputs[..., : 2 * size] + of_h[..., : 2 * size]).chunk(2, -1)
        candidate = of_h[..., 2 * size :]
        n = torch.tanh(inputs[..., 2 * size :] + r * candidate)
        # slopes of h' in the three pre-activations and in h itself
        self.saved.append((candidate * r * (1 - r), (h - n) * z * (1 - z), (1 - z) * (1 - n * n), r, z))
        return ((1 - z) * n + z * h,)

    def vjp(self, t: int, grads: State) -> tuple[Tensor, Tensor, State]:
        to_r, to_z, to_n, r, z = self.saved[t]
        dn = grads[0] * to_n
        dr, dz = dn * to_r, grads[0] * to_z
        of_h = torch.cat((dr, dz, dn * r), -1)
        return torch.cat((dr, dz, dn), -1), of_h, (product(of_h, self.back) + grads[0] * z,)

    def jvp(self, t: int, tangents: State) -> State:
        to_r, to_z, to_n, r, z = self.saved[t]
        dr, dz, dn = product(tangents[0], self.w_h).chunk(3, -1)
        return (to_n * (to_r * dr + r * dn) + to_z * dz + z * tangents[0],)


class LSTMPath(LinearizedTrajectory):
    """c' = f·c + i·g, h' = o·tanh(c'); gates i, f, g, o. Also keeps f, which the carousel needs."""

    def __init__(self, weights: Weights, x: Tensor) -> None:
        self.saved: list[tuple[Tensor, ...]] = []
        super().__init__(weights, x, self._step, parts=2)

    def _step(self, inputs: Tensor, state: State) -> State:
        h, c = state
        i, f, g, o = (inputs + h @ self.w_h + self.weights.b_h).chunk(4, -1)
        i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
        new = f * c + i * g
        squashed = torch.tanh(new)
        # slopes of c' in the pre-activations of i, f, g; of h' in that of o; of h' in c'
        slopes = (g * i * (1 - i), c * f * (1 - f), i * (1 - g * g), squashed * o * (1 - o), o * (1 - squashed * squashed))
        self.saved.append((*slopes, f))
        return o * squashed, new

    def total_cell(self, t: int, grads: State) -> Tensor:
        """dL/dc_t in all: what reaches the cell directly and what comes through h_t."""
        return grads[1] + grads[0] * self.saved[t][4]

    def vjp(self, t: int, grads: State) -> tuple[Tensor, Tensor, State]:
        to_i, to_f, to_g, to_o, _, f = self.saved[t]
        cell = self.total_cell(t, grads)
        dz = torch.cat((cell * to_i, cell * to_f, cell * to_g, grads[0] * to_o), -1)
        return dz, dz, (product(dz, self.back), cell * f)

    def jvp(self, t: int, tangents: State) -> State:
        to_i, to_f, to_g, to_o, to_h, f = self.saved[t]
        di, df, dg, do = product(tangents[0], self.w_h).chunk(4, -1)
        cell = f * tangents[1] + to_i * di + to_f * df + to_g * dg
        return to_o * do + to_h * cell, cell

    def forget(self, t: int) -> Tensor:
        return self.saved[t][5]


Kind = Callable[[Weights, Tensor], Path]
PATHS: dict[str, Kind] = {"lstm": LSTMPath, "gru": GRUPath, "rnn": RNNPath}


def kind(spec: Spec, init: str) -> Kind:
    """The path of a cell; `irnn` has rectified units."""
    return RectifiedPath if init == "irnn" else PATHS[spec.cell]


def run(spec: Spec, init: str, each: Sequence[Params], x: Tensor) -> Path:
    """The trajectory of all seeds on x [T, S, B, I]."""
    return kind(spec, init)(stacked(spec, each, x.dtype), x)


# A cotangent kept at unit length, so that nothing underflows at any lag.


@dataclass(slots=True)
class Scaled:
    """A cotangent at unit length for each sequence, and the logarithm of what it was divided by, [..., B]."""

    parts: State
    log: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.log = torch.zeros(self.parts[0].shape[:-1], dtype=self.parts[0].dtype, device=self.parts[0].device)
        self.rescale(self.parts)

    def rescale(self, parts: State) -> None:
        size = torch.sqrt(sum((part.square().sum(-1) for part in parts), start=torch.zeros_like(self.log)))
        self.log = self.log + torch.log(size)
        # A gradient that is exactly zero stays so; its logarithm, −inf, says it.
        safe = torch.where(size > 0, size, torch.ones_like(size))[..., None]
        self.parts = tuple(part / safe for part in parts)
