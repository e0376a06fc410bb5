"""How much of the past a trained model uses: raw numbers for `analysis.studies.context`, on windows of one length."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bench.harness.case import Case
from bench.studies.gradients import cells, inits
from bench.studies.quality import losses as quality_losses
from bench.studies.quality import sources
from bench.studies.quality.sources import HiddenMarkov, Source
from bench.studies.quality.training import LanguageModel, losses, parts, precision_notes
from results.record import Measurement

# The learnable lag of a language model: one of two tokens, then distractors, then to say which it was.

VOCABULARY = 10  # two that are asked for, eight distractors
SHARE_RIGHT, WINDOW = 0.97, 5  # of the answers to the last so many batches, all fresh
LEAST_LAGS = 3


def measure_recall(case: Case) -> Iterator[Measurement]:
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
    yield Measurement("trained_lag", "step", tuple(map(float, tried)), notes=precision_notes(case.spec))
    yield Measurement("learnt", "1", tuple(learnt), (seeds,) * len(tried))


def learns(case: Case, lag: int, seed: int) -> bool:
    """Whether one network answers rightly within the case's `updates` of Adam at its `rate`."""
    model = LanguageModel(case.spec, VOCABULARY, seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=float(case.factor("rate")))
    recent: list[float] = []
    for update in range(int(case.factor("updates"))):
        tokens = torch.from_numpy(sample_recall(np.random.default_rng([seed, 11, update]), lag, case.batch)).to(
            case.spec.device
        )
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


def sample_recall(random: np.random.Generator, lag: int, count: int) -> np.ndarray:
    """[lag + 1, count]: the first is 0 or 1, the others are 2 … 9."""
    tokens = random.integers(2, VOCABULARY, (lag + 1, count))
    tokens[0] = random.integers(0, 2, count)
    return tokens


# How much of the past a trained model uses: raw numbers for `analysis.studies.context`, on windows of one length.
#
# Every target is the last token of a held-out window, the same for every model, and every model is given the same part of
# what came before. What a known source's optimum makes of them is measured beside: the ruler.

CONTEXT_SEED = 10
KEPT_TARGETS = 256  # whose own losses are kept, for the relative effective context length
GRADIENT_SEQUENCES = 32  # over which the gradient's size is averaged


def measure_windows(case: Case) -> Iterator[Measurement]:
    """Blocks are seeds. `loss_given_all` first: nats, the last token given the whole window; then

    context                 tokens given: 1, 2, 4, … T
    context_loss            of the last token given so many, mean over the case's `judged` windows, by seed
    target_loss             the same of the first 256 windows one by one, by seed: contexts one after the other
    lag, log_gradient       ln‖dL/d vector of the token `lag` before the last given‖, mean over sequences
    influence_lag           1, 2, 4, … tokens back from the target
    influence               KL(p(·|x) ‖ p(·|x with that token drawn anew)), mean over windows, nats
    optimum_context_loss, optimum_target_loss, optimum_influence   of the known optimum
    """
    source = sources.of_case(case, case.steps + 1)
    judged, rate = int(case.factor("judged")), float(case.factor("rate"))
    trained = [quality_losses.training(case, source, rate, seed) for seed in range(int(case.factor("seeds")))]
    for each in trained:
        each.run(quality_losses.kept(case, each))
    windows = source.held_out(np.random.default_rng(CONTEXT_SEED), case.steps + 1, judged)
    given = contexts(case.steps)
    found = [np.stack([losses(each.model, windows[-1 - count :])[-1] for count in given]) for each in trained]
    loss = cells.measurement("loss_given_all", "nat", [each[-1].mean(keepdims=True) for each in found])
    yield replace(loss, notes=(*loss.notes, *precision_notes(case.spec)))
    yield quality_losses.of_source(source)
    yield Measurement("context", "token", tuple(map(float, given)))
    yield cells.measurement("context_loss", "nat", [each.mean(1) for each in found])
    yield cells.measurement("target_loss", "nat", [np.round(each[:, :KEPT_TARGETS], 4) for each in found])
    lags = inits.lags(case.steps)
    yield cells.lags_measured(lags)
    yield cells.measurement("log_gradient", "nat", [log_gradients(each.model, windows, lags) for each in trained], lags)
    other = resampled(source, windows)
    yield Measurement("influence_lag", "token", tuple(map(float, given)))
    yield cells.measurement("influence", "nat", [influence(each.model, windows, other, given) for each in trained])
    if isinstance(source, HiddenMarkov):
        yield from ruler(source, windows, other, given)
    quality_losses.discard(case)


def contexts(steps: int) -> list[int]:
    """1, 2, 4, … and the whole window."""
    return sorted({1 << power for power in range(steps.bit_length()) if 1 << power < steps} | {steps})


def log_gradients(model: LanguageModel, windows: np.ndarray, lags: np.ndarray) -> np.ndarray:
    """ln‖gradient of the last token's loss‖ at each lag, in float64, where nothing of a window's length underflows."""
    tokens = torch.from_numpy(windows[:, :GRADIENT_SEQUENCES]).to(model.like.device)
    double = copy.deepcopy(model).double()
    vectors = double.embedding[tokens[:-1]].detach().requires_grad_()
    functional.cross_entropy(double.from_vectors(vectors)[-1], tokens[-1], reduction="sum").backward()
    assert vectors.grad is not None
    sizes = torch.linalg.vector_norm(vectors.grad, dim=-1).flip(0).cpu().numpy()
    with np.errstate(divide="ignore"):
        return np.log(sizes[lags]).mean(1)


def resampled(source: Source, windows: np.ndarray) -> np.ndarray:
    """A token drawn anew for each window, from what the source's tokens are alone: [N]."""
    return source.held_out(np.random.default_rng(CONTEXT_SEED + 1), 2, windows.shape[1])[0]


def influence(model: LanguageModel, windows: np.ndarray, other: np.ndarray, lags: Sequence[int]) -> np.ndarray:
    """The mean divergence in nats that another token so many tokens before the target makes, by lag."""
    whole = predicted(model, windows[:-1])
    told = (predicted(model, changed(windows, other, lag)[:-1]) for lag in lags)
    return np.array([float(functional.kl_div(each, whole, reduction="batchmean", log_target=True)) for each in told])


@torch.no_grad()
def predicted(model: LanguageModel, windows: np.ndarray) -> Tensor:
    """ln p(· | window) for the token after each window, [N, V] in float64."""
    pieces = (torch.from_numpy(part).to(model.like.device) for part in parts(windows))
    return torch.cat([functional.log_softmax(model(tokens)[-1].double(), -1) for tokens in pieces])


def changed(windows: np.ndarray, other: np.ndarray, lag: int) -> np.ndarray:
    """The windows with the token `lag` before the last one replaced."""
    found = windows.copy()
    found[-1 - lag] = other
    return found


def ruler(source: HiddenMarkov, windows: np.ndarray, other: np.ndarray, given: list[int]) -> Iterator[Measurement]:
    """What the optimum makes of the same windows: the true answer that estimators are held against."""
    best = np.stack([source.optimum(windows[-1 - count :])[-1] for count in given])
    yield cells.measurement("optimum_context_loss", "nat", [best.mean(1)])
    yield cells.measurement("optimum_target_loss", "nat", [np.round(best[:, :KEPT_TARGETS], 4)])
    whole = source.predictions(windows)[-1]
    told = []
    for lag in given:
        without = source.predictions(changed(windows, other, lag))[-1]
        told.append((whole * np.log(whole / without)).sum(-1).mean())
    yield cells.measurement("optimum_influence", "nat", [np.array(told)])
