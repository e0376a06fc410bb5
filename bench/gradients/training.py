"""Attenuation through training: the curve before a network learns to recall, on the way, and after.

The task is recall over noise (Hochreiter & Schmidhuber 1997, task 2c in its simplest form): the first input names one of two
classes, distractors follow, and after the last the class is asked for. All seeds learn side by side; gradients are those of the
linearised cells, so that what is trained is what is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple

import numpy as np
import torch
from torch import Tensor

from bench.case import Case
from bench.gradients import attenuation, cells, curves, setup
from bench.gradients.cells import Path, Weights
from results.record import Measurement

RATE, CLIP = 5e-3, 1.0  # Adam's step (Kingma & Ba 2015; its other constants as there) and the longest gradient let through
BATCH, TESTED = 16, 256  # sequences an update, and at the end
LOOKS = (0.0, 0.25, 1.0)  # of the updates, at which the curve is taken


def measure(case: Case) -> Iterator[Measurement]:
    """`log_gradient_after_<updates>` by seed at the kept lags, on sequences of the task T steps long; `accuracy` at the end, at
    the lag that was trained."""
    lag, updates = int(case.factor("lag")), int(case.factor("updates"))
    setup.require_lag(lag, case)
    seeds, lags = range(int(case.factor("seeds"))), setup.lags(case.steps)
    params = setup.weights(case.spec, str(case.factor("init")), len(seeds))
    u = torch.from_numpy(np.stack([setup.readout(case, seed) for seed in seeds]))
    learner = Learner(case, cells.stacked(case.spec, params))
    x, _ = learner.draw(case.steps - 1, case.batch)
    looks = sorted({round(share * updates) for share in LOOKS})
    yield curves.lags_measured(lags)
    for done, after in zip([0, *looks], looks, strict=False):
        for _ in range(after - done):
            learner.update(lag)
        path = learner.walk(x)
        found = attenuation.sweep(path, (u, *(torch.zeros_like(u) for _ in range(path.parts - 1))), lags)
        yield curves.measurement(f"log_gradient_after_{after}", "nat", setup.by_seed(found["log_gradient"]), lags)
    yield Measurement("accuracy", "1", tuple(learner.accuracy(lag).tolist()), (1,) * len(seeds))


class Learner:
    """The weights of all seeds and of their readouts, and Adam's state."""

    def __init__(self, case: Case, weights: Weights) -> None:
        self.case, self.seeds = case, len(weights.w_h)
        readout = torch.zeros(self.seeds, weights.hidden, 1, dtype=weights.w_h.dtype)
        self.values: list[Tensor] = [each.clone() for each in (*astuple(weights), readout)]
        self.first, self.second = ([torch.zeros_like(value) for value in self.values] for _ in range(2))
        self.count, self.random = 0, np.random.default_rng([case.seed, 7])

    def walk(self, x: Tensor) -> Path:
        return cells.PATHS[self.case.spec.cell](Weights(*self.values[:4]), x)

    def draw(self, lag: int, batch: int) -> tuple[Tensor, Tensor]:
        """Inputs [lag + 1, S, B, I] and classes ±1, [S, B]: channel 0 has the class at the first step, the others are noise."""
        x = self.random.standard_normal((lag + 1, self.seeds, batch, self.case.spec.input_size))
        classes = np.sign(self.random.random((self.seeds, batch)) - 0.5)
        x[..., 0] = 0.0
        x[0, ..., 0] = classes
        return torch.from_numpy(x), torch.from_numpy(classes)

    def update(self, lag: int) -> None:
        """One step of Adam on the logistic loss."""
        x, classes = self.draw(lag, BATCH)
        grads = self.gradients(x, classes)
        length = torch.sqrt(sum((each.square().sum((1, 2)) for each in grads), start=torch.zeros(self.seeds)))
        shrunk = (CLIP / length.clamp(min=CLIP))[:, None, None]
        self.count += 1
        for place, grad in enumerate(grads):
            grad = grad * shrunk
            self.first[place] = 0.9 * self.first[place] + 0.1 * grad
            self.second[place] = 0.999 * self.second[place] + 0.001 * grad.square()
            first, second = self.first[place] / (1 - 0.9**self.count), self.second[place] / (1 - 0.999**self.count)
            self.values[place] = self.values[place] - RATE * first / (second.sqrt() + 1e-8)

    def gradients(self, x: Tensor, classes: Tensor) -> list[Tensor]:
        """Of the mean of ln(1 + exp(−class · v·h_T)), in the order of `values`."""
        path, v = self.walk(x), self.values[4]
        h = path.last[0]
        of_answer = -(classes * torch.sigmoid(-classes * (h @ v)[..., 0]))[..., None] / classes.shape[1]
        found = [torch.zeros_like(value) for value in self.values]
        found[4] = h.transpose(1, 2) @ of_answer
        grads = (of_answer @ v.transpose(1, 2), *path.zeros(classes.shape[1])[1:])
        for t in reversed(range(path.steps)):
            dx, dh, grads = path.pull(t, grads)
            found[0] += x[t].transpose(1, 2) @ dx
            found[1] += path.hidden[t].transpose(1, 2) @ dh
            found[2] += dx.sum(1, keepdim=True)
            found[3] += dh.sum(1, keepdim=True)
        return found

    def accuracy(self, lag: int) -> Tensor:
        """Share of right answers on fresh sequences, [S]."""
        x, classes = self.draw(lag, TESTED)
        answers = (self.walk(x).last[0] @ self.values[4])[..., 0]
        return (answers * classes > 0).to(torch.float64).mean(1)
