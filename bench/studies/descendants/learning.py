"""Training on a task from scratch, a seed at a time, and how often the answers are right, by step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional

from bench.harness.case import Case, InvalidCase
from bench.studies.descendants import tasks
from bench.studies.descendants.networks import OF_SPECS, TokenModel, state_values
from bench.studies.descendants.tasks import NOT_ASKED, Task
from bench.studies.gradients import cells
from bench.studies.quality.losses import rates as read_rates
from results.record import Measurement

WARM_UP, LOWEST = 0.1, 0.1  # share of the updates; share of the rate that the cosine ends at
LARGEST_NORM = 1.0  # of the gradient
GROWS_UNTIL = 0.5  # of the updates: until then sequences of the growing tasks become longer, up to the case's size
GROWING = ("parity", "s5")
SHORTEST = 2
TESTED = 512  # sequences, the same for every network
TEST_SEED = 9
ITEM_BYTES = 4


@dataclass(slots=True)
class Trained:
    """A network after its updates. right: which answers of the test are right, by step [T, N], and which were asked for."""

    model: TokenModel
    loss: float
    right: np.ndarray
    asked: np.ndarray

    @property
    def by_step(self) -> np.ndarray:
        """Share of right answers at each step that asks for one."""
        asking = self.asked.any(1)
        return self.right[asking].mean(1)


def measure(case: Case) -> Iterator[Measurement]:
    """Blocks are seeds.

    accuracy            share of right answers up to the size that was trained
    accuracy_by_step    the same at each step that asks for an answer; of `parity` and `s5` to the case's steps, beyond training
    training_loss       nats an answer, of the last update
    learning_rate, trial_loss   those tried with the first seed: the best of them trained the others
    network_parameters, network_state_bytes   of the body that was trained; the record's own counts are of the case's spec
    """
    task, size, rates = tasks.get(str(case.factor("task"))), int(case.factor("size")), read_rates(case)
    if task.name in GROWING and case.steps < size:
        raise InvalidCase(
            f"{task.name} is trained at {size} steps and tested at {case.steps}; ask for steps of at least {size}"
        )
    tried = [train(case, task, 0, rate) for rate in rates]
    best = int(np.argmin([each.loss for each in tried]))
    found = [tried[best], *(train(case, task, seed, rates[best]) for seed in range(1, int(case.factor("seeds"))))]
    within = [each.by_step[:size] if task.name in GROWING else each.by_step for each in found]
    accuracy = cells.measurement("accuracy", "of answers", [np.array([own.mean()]) for own in within])
    yield replace(accuracy, notes=(*accuracy.notes, *_counted_otherwise(network(case))))
    yield cells.measurement("accuracy_by_step", "of answers", [each.by_step for each in found])
    yield cells.measurement("training_loss", "nat", [np.array([each.loss]) for each in found])
    yield Measurement("learning_rate", "1", tuple(rates))
    yield cells.measurement("trial_loss", "nat", [np.array([each.loss for each in tried])])
    context = len(tried[0].asked)
    yield Measurement("network_parameters", "1", (float(tried[0].model.parameter_count()),))
    yield Measurement("network_state_bytes", "byte", (float(ITEM_BYTES * state_values(network(case), case.spec, context)),))


def _counted_otherwise(name: str) -> tuple[str, ...]:
    """What a record says where its counts, which are of its spec, are not those of the network."""
    if name in OF_SPECS:
        return ()
    return (f"counts of this record are of its spec: those of {name} are network_parameters and network_state_bytes",)


def network(case: Case) -> str:
    return str(case.factor("network"))


def train(case: Case, task: Task, seed: int, rate: float) -> Trained:
    """From fresh weights by Adam, on sequences drawn afresh for every update. The network's loss stays as it is where it is not
    finite: its answers then count as wrong."""
    size, updates, own = int(case.factor("size")), int(case.factor("updates")), case.seed * 1000 + seed
    model = TokenModel(network(case), case.spec, task.tokens, task.outputs, own)
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    generator = torch.Generator(case.spec.device).manual_seed(own)
    loss = torch.tensor(math.nan)
    for update in range(updates):
        for group in optimiser.param_groups:
            group["lr"] = rate * schedule(update / updates)
        tokens, targets = task.draw(length(task, size, update / updates), case.batch, generator)
        loss = functional.cross_entropy(model(tokens).flatten(0, -2), targets.flatten(), ignore_index=NOT_ASKED)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
        optimiser.step()
    return Trained(model, loss.item(), *judge(model, task, case.steps if task.name in GROWING else size))


def schedule(done: float) -> float:
    """Share of the learning rate after a share of the updates: warm-up, then a cosine."""
    falling = LOWEST + (1 - LOWEST) * (1 + math.cos(math.pi * done)) / 2
    return min(1.0, done / WARM_UP + 0.01) * falling


def length(task: Task, size: int, done: float) -> int:
    """Of the sequences after a share of the updates."""
    if task.name not in GROWING:
        return size
    return min(size, max(SHORTEST, math.ceil(size * done / GROWS_UNTIL)))


@torch.no_grad()
def judge(model: TokenModel, task: Task, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Which answers are right, and which were asked for: bool [T, N]. An answer of several parts is right as a whole."""
    device = next(model.parameters()).device
    tokens, targets = task.draw(size, TESTED, torch.Generator(device).manual_seed(TEST_SEED))
    logits = model(tokens)
    right = (logits.argmax(-1) == targets) & torch.isfinite(logits).all(-1)
    return right.all(-1).cpu().numpy(), (targets != NOT_ASKED).any(-1).cpu().numpy()
