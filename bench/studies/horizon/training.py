"""Many networks trained as one batch, by our own backward pass.

`torch.func` has no batching rule for the fused `nn.LSTM`, and over a loop of cells autograd records five nodes a gate; the
closed-form backward pass is tested against autograd and `torch.optim.Adam`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bench.studies.gradients import cells, inits
from bench.studies.gradients.cells import Weights
from bench.studies.horizon.tasks import Task
from impls import Spec

# Backpropagation through time, for training: S networks as one batch, memory taken once and used for every update.


class BPTT(Protocol):
    """Backpropagation through time of S networks at once."""

    def forward(self, weights: Weights, x: Tensor) -> Tensor:
        """Inputs [T, S, B, I] to the hidden states [T + 1, S, B, H], the zero one before the first step included."""
        ...

    def backward(self, of_outputs: Tensor, depth: int) -> tuple[Tensor, Tensor]:
        """Back over the last `depth` steps of the sequence that `forward` had.

        Args:
            of_outputs: the loss's gradients of the last A outputs, [A, S, B, H].
            depth: steps to go back.

        Returns: gradients of the gates' pre-activations: the part that comes from the input and the part that comes from the
            state, both [depth, S, B, G·H] in the order of time.
        """
        ...


def bptt_for(spec: Spec, init: str) -> BPTT:
    return LSTMBPTT() if spec.cell == "lstm" else PathBPTT(cells.kind(spec, init))


class PathBPTT:
    """By the trajectories of the gradient studies."""

    def __init__(self, kind: cells.Kind) -> None:
        self.kind = kind

    def forward(self, weights: Weights, x: Tensor) -> Tensor:
        self.path = self.kind(weights, x)
        return torch.stack([*self.path.hidden, self.path.last[0]], 1).transpose(0, 1)

    def backward(self, of_outputs: Tensor, depth: int) -> tuple[Tensor, Tensor]:
        path, of_x, of_h = self.path, [], []
        grads = path.zeros(of_outputs.shape[2])
        for lag in range(depth):
            if lag < len(of_outputs):
                grads = (grads[0] + of_outputs[-1 - lag], *grads[1:])
            dz, dh, grads = path.vjp(path.steps - 1 - lag, grads)
            of_x.append(dz)
            of_h.append(dh)
        return torch.stack(of_x[::-1], 1).transpose(0, 1), torch.stack(of_h[::-1], 1).transpose(0, 1)


class LSTMBPTT:
    """The same numbers as by `cells.LSTMPath` in half the time: slopes for all steps at once, and nothing copied.

    A network's steps lie next to each other, [S, T, B, ·], so that its gradients are one product over all of them.
    """

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()

    def forward(self, weights: Weights, x: Tensor) -> Tensor:
        steps, seeds, batch, _ = x.shape
        size = weights.hidden
        if (seeds, steps, batch, 4 * size) != self.shape:
            self._allocate((seeds, steps, batch, 4 * size), x)
        self.back = weights.w_h.transpose(1, 2).contiguous()
        torch.baddbmm(weights.b_x + weights.b_h, by_network(x), weights.w_x, out=self.gates.flatten(1, 2))
        for t in range(steps):
            before, cell, squashed = self.cell[:, t], self.cell[:, t + 1], self.squashed[:, t]
            gates, candidate = self.gates[:, t], self.candidate[:, t]
            z = torch.baddbmm(gates, self.hidden[:, t], weights.w_h)
            _tanh(z[..., 2 * size : 3 * size], candidate)
            i, f, _, o = torch.sigmoid(z, out=gates).chunk(4, -1)
            torch.mul(f, before, out=cell).addcmul_(i, candidate)
            _tanh(cell, squashed)
            torch.mul(o, squashed, out=self.hidden[:, t + 1])
        return self.hidden.transpose(0, 1)

    def _allocate(self, shape: tuple[int, ...], like: Tensor) -> None:
        self.shape = shape
        seeds, steps, batch, gates = shape
        self.gates, self.slopes, self.of_gates = (like.new_zeros(shape) for _ in range(3))
        self.candidate, self.squashed, self.to_cell = (like.new_zeros(seeds, steps, batch, gates // 4) for _ in range(3))
        self.cell, self.hidden = (like.new_zeros(seeds, steps + 1, batch, gates // 4) for _ in range(2))

    def backward(self, of_outputs: Tensor, depth: int) -> tuple[Tensor, Tensor]:
        _, steps, _, gates = self.shape
        first, size = steps - depth, gates // 4
        self._slopes(first)
        dh, dc = torch.zeros_like(of_outputs[0]), torch.zeros_like(of_outputs[0])
        for lag in range(depth):
            t = steps - 1 - lag
            if lag < len(of_outputs):
                dh = dh + of_outputs[-1 - lag]
            slopes = self.slopes[:, t]
            dc = torch.addcmul(dc, dh, self.to_cell[:, t])
            dz = (slopes.unflatten(-1, (4, size)) * dc[..., None, :]).flatten(-2)
            torch.mul(slopes[..., 3 * size :], dh, out=dz[..., 3 * size :])  # the output gate acts on h, the others on c
            self.of_gates[:, t] = dz
            dh = torch.bmm(dz, self.back)
            dc = dc * self.gates[:, t, :, size : 2 * size]
        found = self.of_gates[:, first:].transpose(0, 1)
        return found, found

    def _slopes(self, first: int) -> None:
        """Of c in the pre-activations of i, f, g; of h in that of o; of h in c. See docs/studies/gradients.md."""
        i, f, _, o = self.gates[:, first:].chunk(4, -1)
        to_i, to_f, to_g, to_o = self.slopes[:, first:].chunk(4, -1)
        g, squashed = self.candidate[:, first:], self.squashed[:, first:]
        _times_rest(torch.mul(g, i, out=to_i), i)
        _times_rest(torch.mul(self.cell[:, first:-1], f, out=to_f), f)
        torch.mul(g, g, out=to_g).neg_().add_(1).mul_(i)
        _times_rest(torch.mul(squashed, o, out=to_o), o)
        torch.mul(squashed, squashed, out=self.to_cell[:, first:]).neg_().add_(1).mul_(o)


def _times_rest(values: Tensor, gate: Tensor) -> None:
    """values · (1 − gate), in place."""
    values.addcmul_(values, gate, value=-1.0)


def by_network(values: Tensor) -> Tensor:
    """[K, S, B, ·] as [S, K·B, ·]."""
    return values.transpose(0, 1).flatten(1, 2)


def _tanh(values: Tensor, out: Tensor) -> None:
    """2 σ(2z) − 1: half the time of PyTorch's own on a CPU, and exact to the unit roundoff of 1."""
    torch.mul(values, 2.0, out=out).sigmoid_().mul_(2.0).sub_(1.0)


# S networks with a linear readout, trained as one batch by Adam; each has weights and data of its own, and independent
# clipping and divergence.

LARGEST_NORM = 1.0  # of a network's gradient, clipped beyond (Pascanu, Mikolov & Bengio 2013)
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # Kingma & Ba 2015


class Networks:
    """Parameters [S, …]: the cell's two weights and two biases (see `cells.Weights`), the readout's weight and bias."""

    def __init__(self, spec: Spec, init: str, seeds: Sequence[int], task: Task, rate: float) -> None:
        dtype = getattr(torch, spec.dtype)
        own = cells.stacked(spec, [inits.params(spec, init, seed) for seed in seeds], dtype)
        bound = 1 / math.sqrt(spec.hidden_size)  # as `torch.nn.Linear`
        draws = [
            np.random.default_rng([seed, 6]).uniform(-bound, bound, (spec.hidden_size + 1, task.outputs)) for seed in seeds
        ]
        readout = torch.from_numpy(np.stack(draws)).to(spec.device, dtype)
        self.task, self.rate = task, rate
        self.bptt = bptt_for(spec, init)
        self.parameters = [each.contiguous() for each in (own.w_x, own.w_h, own.b_x, own.b_h, readout[:, :-1], readout[:, -1:])]
        self.means = [torch.zeros_like(each) for each in self.parameters]
        self.squares = [torch.zeros_like(each) for each in self.parameters]
        self.updates = 0

    def update(self, x: Tensor, target: Tensor, truncation: int) -> tuple[Tensor, Tensor]:
        """One step of Adam. Returns each network's score, and whether its loss and gradient were finite; both [S]."""
        score, gradients = self.gradients(x, target, truncation)
        norm = torch.sqrt(sum((each.flatten(1).square().sum(1) for each in gradients), start=torch.zeros_like(score)))
        scale = (LARGEST_NORM / norm).clamp(max=1.0)[:, None, None]
        self.updates += 1
        first, second = 1 - BETA1**self.updates, 1 - BETA2**self.updates
        for value, gradient, mean, square in zip(self.parameters, gradients, self.means, self.squares, strict=True):
            gradient = gradient * scale
            mean.lerp_(gradient, 1 - BETA1)
            square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
            value.addcdiv_(mean, (square / second).sqrt_().add_(EPSILON), value=-self.rate / first)
        return score, torch.isfinite(score) & torch.isfinite(norm)

    def keep(self, which: Tensor) -> None:
        """Go on with the networks where `which` [S] is true, the others leave the batch."""
        for values in (self.parameters, self.means, self.squares):
            values[:] = [each[which.to(each.device)] for each in values]

    def gradients(self, x: Tensor, target: Tensor, truncation: int) -> tuple[Tensor, list[Tensor]]:
        """Scores [S] and the gradients of each network's mean loss over its batch, backpropagated through the last
        `truncation` steps (0: all). The state is carried over the cut (Williams & Peng 1990)."""
        *of_cell, w_y, b_y = self.parameters
        hidden = self.bptt.forward(cells.Weights(*of_cell), x)
        outputs = hidden[-self.task.answers :]
        score, of_answers = judged(self.task, outputs @ w_y + b_y, target)
        depth = min(truncation, len(x)) if truncation else len(x)
        back = self.bptt.backward(of_answers @ w_y.transpose(1, 2), depth)
        d_x, d_h, d_y, into, before, last = map(
            by_network, (*back, of_answers, x[len(x) - depth :], hidden[len(x) - depth : -1], outputs)
        )
        return score, [
            into.transpose(1, 2) @ d_x, before.transpose(1, 2) @ d_h, d_x.sum(1, keepdim=True), d_h.sum(1, keepdim=True),
            last.transpose(1, 2) @ d_y, d_y.sum(1, keepdim=True),
        ]  # fmt: skip


def judged(task: Task, answers: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [S], and the gradient of the mean loss over answers and batch: squared error, else cross entropy."""
    count = answers.shape[0] * answers.shape[2]
    if task.squared:
        error = answers - target[..., None]
        return error.square().mean((0, 2, 3)), 2 * error / count
    right = (answers.argmax(-1) == target).to(answers.dtype).mean((0, 2))
    # A class is taken for the largest answer even where that is no number: let such a network not pass for one that knows.
    right = torch.where(torch.isfinite(answers).all(-1).all(-1).all(0), right, torch.full_like(right, math.nan))
    wanted = torch.nn.functional.one_hot(target, task.outputs)
    return right, (torch.softmax(answers, -1) - wanted) / count
