"""Tagging with hidden states, whose optimum is known for causal networks and for those that read both ways; and next tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.harness.case import Case
from bench.studies.direction.networks import NextToken
from bench.studies.gradients import cells
from bench.studies.quality.sources import STATES, VOCABULARY_HMM, HiddenMarkov
from impls import LSTMSpec
from results.record import Measurement

TESTED, TEST_SEED = 512, 9  # windows, the same for every network
WARM_UP, LOWEST = 0.1, 0.1  # share of the updates; share of the rate that the cosine ends at
LARGEST_NORM = 1.0


@dataclass(frozen=True, slots=True)
class Windows:
    """Tokens and the hidden states that gave them, int64 [T, N] each."""

    tokens: np.ndarray
    tags: np.ndarray


def sample(source: HiddenMarkov, random: np.random.Generator, steps: int, count: int) -> Windows:
    """Windows that begin in the stationary distribution."""
    tags = np.empty((steps, count), np.int64)
    tags[0] = random.integers(0, STATES, count)
    for step in range(1, steps):
        moves = np.where(random.random(count) < source.leaves, random.integers(1, STATES, count), 0)
        tags[step] = (tags[step - 1] + moves) % STATES
    ends = source.emission.cumsum(1)
    drawn = random.random((steps, count))
    return Windows((drawn[..., None] > ends[tags]).sum(-1).clip(max=VOCABULARY_HMM - 1), tags)


class Markov(Protocol):
    """A hidden Markov source of K states and V tokens whose stationary distribution is uniform, as every window begins."""

    emission: np.ndarray  # [K, V]
    transition: np.ndarray  # [K, K], from rows to columns


def filtered(source: Markov, tokens: np.ndarray) -> np.ndarray:
    """p(z_t | x_1 … x_t), [T, N, K]; nothing causal does better."""
    return filter_states(source.transition, source.emission.T[tokens])


def smoothed(source: Markov, tokens: np.ndarray) -> np.ndarray:
    """p(z_t | x_1 … x_T), [T, N, K]; nothing at all does better."""
    return smooth_states(source.transition, source.emission.T[tokens])


def filter_states(transition: np.ndarray, likely: np.ndarray) -> np.ndarray:
    """p(z_t | x_1 … x_t), [T, N, K]: the forward algorithm (Rabiner 1989, section III.A).

    Args:
        transition: of a chain whose stationary distribution is uniform, as every window begins, [K, K] from rows to columns.
        likely: p(x_t | z_t = k) up to a factor of its own at each step and window, [T, N, K].
    """
    belief, found = np.full(likely.shape[1:], 1 / len(transition)), []
    for now in likely:
        seen = belief * now
        found.append(seen / seen.sum(1, keepdims=True))
        belief = found[-1] @ transition
    return np.stack(found)


def smooth_states(transition: np.ndarray, likely: np.ndarray) -> np.ndarray:
    """p(z_t | x_1 … x_T), [T, N, K]: the forward–backward algorithm, of the same as `filter_states`."""
    after, found = np.ones(likely.shape[1:]), []
    for belief, now in zip(filter_states(transition, likely)[::-1], likely[::-1], strict=True):
        joint = belief * after
        found.append(joint / joint.sum(1, keepdims=True))
        after = (after * now) @ transition.T
        after /= after.sum(1, keepdims=True)
    return np.stack(found[::-1])


def surprise(likely: np.ndarray, right: np.ndarray) -> np.ndarray:
    """−ln p of what is right: likely [T, N, K], right [T, N], to [T, N]."""
    return -np.log(np.take_along_axis(likely, right[..., None], -1)[..., 0])


def measure_tagging(case: Case) -> Iterator[Measurement]:
    """Blocks are seeds. `tagging_loss` first, nats a tag on windows that were never trained on; then the least possible on the
    same windows, `filter_optimum` of causal networks and `smoother_optimum` of all, and what the network has as parameters."""
    source = HiddenMarkov(int(case.factor("dwell")))
    test = sample(source, np.random.default_rng(TEST_SEED), case.steps, TESTED)
    found, parameters = [], 0
    for seed in range(int(case.factor("seeds"))):
        model = train(case, source, seed, of_tags=True)
        found.append(np.array([float(losses(model, test.tokens, test.tags).mean())]))
        parameters = sum(value.numel() for value in model.network.parameters())
    yield cells.measurement("tagging_loss", "nat", found)
    for name, posterior in (("filter_optimum", filtered), ("smoother_optimum", smoothed)):
        yield cells.measurement(name, "nat", [np.array([surprise(posterior(source, test.tokens), test.tags).mean()])])
    yield Measurement("network_parameters", "1", (float(parameters),))


def measure_generation(case: Case) -> Iterator[Measurement]:
    """Blocks are seeds. `next_token_loss` first, nats a token where the whole window is given; then

    prefix_loss         of the middle token where only what comes before it is given, as when it is to be generated
    next_token_optimum  the least possible loss of the same next tokens from those before them
    """
    source = HiddenMarkov(int(case.factor("dwell")))
    test = sample(source, np.random.default_rng(TEST_SEED), case.steps + 1, TESTED).tokens
    whole, prefix, middle = [], [], case.steps // 2
    for seed in range(int(case.factor("seeds"))):
        model = train(case, source, seed, of_tags=False)
        whole.append(np.array([float(losses(model, test[:-1], test[1:])[: case.steps - 1].mean())]))
        prefix.append(np.array([float(losses(model, test[:middle], test[1 : middle + 1])[-1].mean())]))
    yield cells.measurement("next_token_loss", "nat", whole)
    yield cells.measurement("prefix_loss", "nat", prefix)
    yield cells.measurement("next_token_optimum", "nat", [np.array([source.optimum(test)[1 : case.steps].mean()])])


def train(case: Case, source: HiddenMarkov, seed: int, of_tags: bool) -> NextToken:
    """A model from fresh weights: of each token's hidden state, or of the next token."""
    own = case.seed * 1000 + seed
    assert isinstance(case.spec, LSTMSpec)
    model = NextToken(str(case.factor("direction")), case.spec, VOCABULARY_HMM, own)

    def draw(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        drawn = sample(source, random, case.steps + 1, case.batch)
        return drawn.tokens[:-1], drawn.tags[:-1] if of_tags else drawn.tokens[1:]

    fit(model, draw, np.random.default_rng([own, 11]), int(case.factor("updates")), float(case.factor("rate")))
    return model


Draw = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]  # inputs [T, N] or [T, N, D], and what is right [T, N]


def fit(model: nn.Module, draw: Draw, random: np.random.Generator, updates: int, rate: float) -> None:
    """Trains by Adam, the rate rising over the first tenth of the updates and falling as a cosine."""
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    for number in range(updates):
        done = number / updates
        for group in optimiser.param_groups:
            falling = LOWEST + (1 - LOWEST) * (1 + math.cos(math.pi * done)) / 2
            group["lr"] = rate * min(1.0, (number + 1) / (WARM_UP * updates)) * falling
        update(model, optimiser, *draw(random))


def update(model: nn.Module, optimiser: torch.optim.Optimizer, inputs: np.ndarray, right: np.ndarray) -> None:
    """One step on one batch."""
    loss = _surprise(model, inputs, right).mean()
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
    optimiser.step()


def _surprise(model: nn.Module, inputs: np.ndarray, right: np.ndarray) -> Tensor:
    """Nats [T, N]."""
    device = next(model.parameters()).device
    logits, wanted = model(torch.from_numpy(inputs).to(device)), torch.from_numpy(right).to(device)
    return functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none").view_as(wanted)


@torch.no_grad()
def losses(model: nn.Module, inputs: np.ndarray, right: np.ndarray) -> np.ndarray:
    """−ln p of what is right, nats [T, N]."""
    return _surprise(model, inputs, right).double().cpu().numpy()
