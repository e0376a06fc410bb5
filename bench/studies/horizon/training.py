"""S networks with a linear readout, trained as one batch by Adam; each has weights, data, clipping and a fate of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bench.studies.gradients import cells, inits
from bench.studies.horizon.tasks import Task
from bench.studies.horizon.walks import by_network, walk
from impls import Spec

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
        self.walk = walk(spec, init)
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
        hidden = self.walk.forward(cells.Weights(*of_cell), x)
        outputs = hidden[-self.task.answers :]
        score, of_answers = judged(self.task, outputs @ w_y + b_y, target)
        depth = min(truncation, len(x)) if truncation else len(x)
        back = self.walk.backward(of_answers @ w_y.transpose(1, 2), depth)
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
