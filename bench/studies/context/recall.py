"""The learnable lag of a language model: one of two tokens, then distractors, then to say which it was."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional

from bench.harness.case import Case
from bench.studies.quality import precision
from bench.studies.quality.model import LanguageModel
from results.record import Measurement

VOCABULARY = 10  # two that are asked for, eight distractors
SHARE_RIGHT, WINDOW = 0.97, 5  # of the answers to the last so many batches, all fresh
LEAST_LAGS = 3


def measure(case: Case) -> Iterator[Measurement]:
    """`trained_lag`, and `learnt` with a block a lag and a network a sample: 1 or 0. Lags double up to T − 1; the climb ends
    after the first that none has learnt (Bengio, Simard & Frasconi 1994, with the distractors of Hochreiter & Schmidhuber
    1997, task 2c)."""
    seeds, tried, learnt = int(case.factor("seeds")), list[int](), list[float]()
    lag = 4
    while lag < case.steps:
        tried.append(lag)
        learnt += [float(learns(case, lag, seed + seeds * len(tried))) for seed in range(seeds)]
        if len(tried) >= LEAST_LAGS and not any(learnt[-seeds:]):
            break
        lag *= 2
    yield Measurement("trained_lag", "step", tuple(map(float, tried)), notes=precision.notes(case.spec))
    yield Measurement("learnt", "1", tuple(learnt), (seeds,) * len(tried))


def learns(case: Case, lag: int, seed: int) -> bool:
    """Whether one network answers rightly within the case's `updates` of Adam at its `rate`."""
    model = LanguageModel(case.spec, VOCABULARY, seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=float(case.factor("rate")))
    recent: list[float] = []
    for update in range(int(case.factor("updates"))):
        tokens = torch.from_numpy(drawn(np.random.default_rng([seed, 11, update]), lag, case.batch)).to(case.spec.device)
        answers = model(tokens)[-1]
        loss = functional.cross_entropy(answers, tokens[0])
        if not torch.isfinite(loss).item():
            return False
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        recent = [*recent[1 - WINDOW :], (answers.argmax(-1) == tokens[0]).double().mean().item()]
        if len(recent) == WINDOW and np.mean(recent) >= SHARE_RIGHT:
            return True
    return False


def drawn(random: np.random.Generator, lag: int, count: int) -> np.ndarray:
    """[lag + 1, count]: the first is 0 or 1, the others are 2 … 9."""
    tokens = random.integers(2, VOCABULARY, (lag + 1, count))
    tokens[0] = random.integers(0, 2, count)
    return tokens
