"""Training a translator from scratch, a seed at a time, and how it translates by length, beyond those of its training too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bench.harness.case import Case, InvalidCase
from bench.studies.descendants.learning import LARGEST_NORM, schedule
from bench.studies.gradients import cells
from bench.studies.translation import networks, tasks
from bench.studies.translation.networks import Translator
from bench.studies.translation.tasks import END, SHORTEST, Task
from results.record import Measurement

TESTED = 256  # sequences of each length, the same for every network
TEST_SEED = 9
FIRST_SEED = 1000  # the pilots that chose the budgets took those below


@dataclass(slots=True)
class Trained:
    """A network after its updates. loss, exact: by length, nats a word with the right words given, and the share of sequences
    whose greedy translation is right to the last word."""

    model: Translator
    training_loss: float
    loss: np.ndarray
    exact: np.ndarray


def measure(case: Case) -> Iterator[Measurement]:
    """Blocks are seeds.

    translation_loss    nats a word of the target with the right words before it given, mean over the lengths trained on
    exact_match         share of greedy translations that are right to the last word, mean over the lengths trained on
    loss_by_length, exact_by_length   the same at each length from `SHORTEST` to the case's steps, beyond training too
    training_loss       nats a word, of the last update
    network_parameters  of encoder, decoder and attention, without embeddings and readout; the record's counts are of its spec
    """
    task, size = tasks.get(str(case.factor("task"))), int(case.factor("size"))
    if not SHORTEST <= size <= case.steps:
        raise InvalidCase(
            f"trained on up to {size} words and tested on up to {case.steps}; ask for a size of at least {SHORTEST} and "
            f"steps of at least {size}"
        )
    found = [train(case, task, seed) for seed in range(int(case.factor("seeds")))]
    within = size - SHORTEST + 1
    yield cells.measurement("translation_loss", "nat", [np.array([each.loss[:within].mean()]) for each in found])
    yield cells.measurement("exact_match", "of sequences", [np.array([each.exact[:within].mean()]) for each in found])
    yield cells.measurement("loss_by_length", "nat", [each.loss for each in found])
    yield cells.measurement("exact_by_length", "of sequences", [each.exact for each in found])
    yield cells.measurement("training_loss", "nat", [np.array([each.training_loss]) for each in found])
    yield Measurement("network_parameters", "1", (float(networks.parameter_count(found[0].model)),))


def build(case: Case, task: Task, seed: int) -> Translator:
    return networks.build(str(case.factor("network")), case.spec, task, case.factor("order") == "backwards", seed)


def before(target: Tensor) -> Tensor:
    """The words [U, B] that a decoder has read when it says those of the target."""
    return torch.cat([torch.full_like(target[:1], END), target[:-1]])


def surprise(model: Translator, source: Tensor, target: Tensor) -> Tensor:
    """Nats a word of the target, with the right words before it given."""
    return functional.cross_entropy(model(source, before(target)).flatten(0, 1), target.flatten())


def train(case: Case, task: Task, seed: int) -> Trained:
    """From fresh weights by Adam, on sequences drawn afresh for every update, all of one length (as Sutskever et al. 2014,
    section 3.4, have them of about one length). A seed's sequences are the same for every network."""
    size, updates, rate = (case.factor(name) for name in ("size", "updates", "rate"))
    own = FIRST_SEED * (case.seed + 1) + seed
    model = build(case, task, own)
    optimiser = torch.optim.Adam(model.parameters(), lr=float(rate))
    generator = torch.Generator(case.spec.device).manual_seed(own)
    lengths = np.random.default_rng([own, 12]).integers(SHORTEST, int(size) + 1, int(updates))
    loss = torch.zeros(())
    for update, length in enumerate(lengths):
        for group in optimiser.param_groups:
            group["lr"] = float(rate) * schedule(update / int(updates))
        loss = surprise(model, *task.draw(int(length), case.batch, generator))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
        optimiser.step()
    return Trained(model, loss.item(), *judge(model, task, case.steps))


@torch.no_grad()
def judge(model: Translator, task: Task, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Loss and share of exact translations at each length from `SHORTEST` to the longest."""
    device, found = model.readout.weight.device, []
    for length in range(SHORTEST, longest + 1):
        source, target = task.draw(length, TESTED, torch.Generator(device).manual_seed(TEST_SEED))
        right = (networks.greedy(model, source, len(target)) == target).all(0)
        found.append((float(surprise(model, source, target)), float(right.double().mean())))
    losses, exact = zip(*found, strict=True)
    return np.array(losses), np.array(exact)
