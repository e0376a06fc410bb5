"""Forward over a sequence and back again, for training: S networks as one batch, memory taken once and used for every update.

`forward` returns the hidden states [T + 1, S, B, H], the zero one before the first step included. `backward` takes the loss's
gradients of the last A outputs [A, S, B, H], goes `depth` steps back, and returns those of the gates' pre-activations: their
part that comes from the input and their part that comes from the state, both [depth, S, B, G·H] in the order of time.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from bench.gradients import cells
from bench.gradients.cells import Weights
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
        return torch.stack([*self.path.hidden, self.path.last[0]])

    def backward(self, of_outputs: Tensor, depth: int) -> tuple[Tensor, Tensor]:
        path, of_x, of_h = self.path, [], []
        grads = path.zeros(of_outputs.shape[2])
        for lag in range(depth):
            if lag < len(of_outputs):
                grads = (grads[0] + of_outputs[-1 - lag], *grads[1:])
            dz, dh, grads = path.pull(path.steps - 1 - lag, grads)
            of_x.append(dz)
            of_h.append(dh)
        return torch.stack(of_x[::-1]), torch.stack(of_h[::-1])


class LSTMWalk:
    """The same numbers as by `cells.LSTMPath` in half the time: slopes for all steps at once, nothing allocated in a step."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()

    def forward(self, weights: Weights, x: Tensor) -> Tensor:
        inputs = x @ weights.w_x + (weights.b_x + weights.b_h)
        if inputs.shape != self.shape:
            self._allocate(inputs)
        self.back = weights.w_h.transpose(1, 2).contiguous()
        size = weights.hidden
        for t in range(len(inputs)):
            gates, candidate, cell, squashed = self.gates[t], self.candidate[t], self.cell[t + 1], self.squashed[t]
            torch.baddbmm(inputs[t], self.hidden[t], weights.w_h, out=gates)
            _tanh(gates[..., 2 * size : 3 * size], candidate)
            i, f, _, o = gates.sigmoid_().chunk(4, -1)
            torch.mul(f, self.cell[t], out=cell).addcmul_(i, candidate)
            _tanh(cell, squashed)
            torch.mul(o, squashed, out=self.hidden[t + 1])
        return self.hidden

    def _allocate(self, like: Tensor) -> None:
        steps, seeds, batch, gates = self.shape = tuple(like.shape)
        one = like.new_zeros(steps, seeds, batch, gates // 4)
        self.gates, self.slopes, self.of_gates = (torch.zeros_like(like) for _ in range(3))
        self.candidate, self.squashed, self.to_cell = (torch.zeros_like(one) for _ in range(3))
        self.cell, self.hidden = (like.new_zeros(steps + 1, seeds, batch, gates // 4) for _ in range(2))

    def backward(self, of_outputs: Tensor, depth: int) -> tuple[Tensor, Tensor]:
        first, size = len(self.gates) - depth, self.cell.shape[-1]
        self._slopes(first)
        dh, dc = torch.zeros_like(of_outputs[0]), torch.zeros_like(of_outputs[0])
        for lag in range(depth):
            t = len(self.gates) - 1 - lag
            if lag < len(of_outputs):
                dh = dh + of_outputs[-1 - lag]
            dz, slopes = self.of_gates[t], self.slopes[t]
            dc = torch.addcmul(dc, dh, self.to_cell[t])
            by_gate = (*dc.shape[:-1], 4, size)
            torch.mul(slopes.view(by_gate), dc[..., None, :], out=dz.view(by_gate))
            torch.mul(slopes[..., 3 * size :], dh, out=dz[..., 3 * size :])  # the output gate acts on h, the others on c
            dh = torch.bmm(dz, self.back)
            dc = dc * self.gates[t][..., size : 2 * size]
        return self.of_gates[first:], self.of_gates[first:]

    def _slopes(self, first: int) -> None:
        """Of c in the pre-activations of i, f, g; of h in that of o; of h in c. See docs/studies/gradients.md."""
        i, f, _, o = self.gates[first:].chunk(4, -1)
        to_i, to_f, to_g, to_o = self.slopes[first:].chunk(4, -1)
        g, squashed = self.candidate[first:], self.squashed[first:]
        torch.mul(g, i, out=to_i).mul_(1 - i)
        torch.mul(self.cell[first:-1], f, out=to_f).mul_(1 - f)
        torch.mul(g, g, out=to_g).neg_().add_(1).mul_(i)
        torch.mul(squashed, o, out=to_o).mul_(1 - o)
        torch.mul(squashed, squashed, out=self.to_cell[first:]).neg_().add_(1).mul_(o)


def _tanh(values: Tensor, out: Tensor) -> None:
    """2 σ(2z) − 1: half the time of PyTorch's own on a CPU, and exact to the unit roundoff of 1."""
    torch.mul(values, 2.0, out=out).sigmoid_().mul_(2.0).sub_(1.0)
