"""Forward over a sequence and back again, for training: S networks as one batch, memory taken once and used for every update.

`forward` returns the hidden states [T + 1, S, B, H], the zero one before the first step included. `backward` takes the loss's
gradients of the last A outputs [A, S, B, H], goes `depth` steps back, and returns those of the gates' pre-activations: their
part that comes from the input and their part that comes from the state, both [depth, S, B, G·H] in the order of time.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from bench.studies.gradients import cells
from bench.studies.gradients.cells import Weights
from impls import Spec


class Walk(Protocol):
    def forward(self, weights: Weights, x: Tensor) -> Tensor: ...
    def backward(self, of_outputs: Tensor, depth: int) -> tuple[Tensor, Tensor]: ...


def walk(spec: Spec, init: str) -> Walk:
    return LSTMWalk() if spec.cell == "lstm" else PathWalk(cells.kind(spec, init))


class PathWalk:
    """By the paths that the gradient studies walk."""

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
            dz, dh, grads = path.pull(path.steps - 1 - lag, grads)
            of_x.append(dz)
            of_h.append(dh)
        return torch.stack(of_x[::-1], 1).transpose(0, 1), torch.stack(of_h[::-1], 1).transpose(0, 1)


class LSTMWalk:
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
