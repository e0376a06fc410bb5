"""A bidirectional language model as ELMo's, its frozen layers as features of a linear tagger, and a tagger from scratch.

All seeds are trained as one batch, by the backward pass of `bench.studies.horizon.training`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bench.harness.case import Case, InvalidCase
from bench.studies.descendants.learning import schedule
from bench.studies.direction import tagging
from bench.studies.gradients import cells
from bench.studies.gradients.cells import Weights
from bench.studies.horizon.training import LARGEST_NORM, LSTMBPTT, by_network
from bench.studies.transfer.language import CLASSES, VOCABULARY, Language, Sentences
from results.record import Measurement

TEST_SEED, TESTED = 9, 512  # sentences, the same for every network
SIZES = 3  # labelled sets, each ten times the one before, which it begins with
HELD_OUT = 5  # of so many labelled sentences one is not trained on: it chooses the update that is judged
MOST_HELD_OUT = 128  # sentences: reading a fifth of the largest set would take longer than training on it
CHECKS = 12  # times that they are read
FEWEST_LABELLED = 5


# LSTMs of S seeds and both directions at once. Weights [2, S, …], the direction first; words [T, S, B].


class _Layer(torch.autograd.Function):
    """x [T, D, B, I] through D LSTMs to h [T, D, B, H]; `bptt` keeps what the backward pass needs until the next call."""

    @staticmethod
    def forward(ctx, x: Tensor, w_x: Tensor, w_h: Tensor, bias: Tensor, bptt: LSTMBPTT) -> Tensor:  # type: ignore[override]
        hidden = bptt.forward(Weights(w_x, w_h, bias, torch.zeros_like(bias)), x)
        ctx.save_for_backward(x, w_x)
        ctx.bptt = bptt
        return hidden[1:].clone()

    @staticmethod
    def backward(ctx, of_h: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, w_x = ctx.saved_tensors
        steps, networks, batch, inputs = x.shape
        of_gates = by_network(ctx.bptt.backward(of_h, steps)[0])
        before = ctx.bptt.hidden[:, :-1].flatten(1, 2)
        of_x = (of_gates @ w_x.transpose(1, 2)).view(networks, steps, batch, inputs).transpose(0, 1)
        return (
            of_x,
            by_network(x).transpose(1, 2) @ of_gates,
            before.transpose(1, 2) @ of_gates,
            of_gates.sum(1, keepdim=True),
            None,
        )


class Stacks:
    """An embedding for both directions, and a stack of LSTMs each, which never meet (Peters et al. 2018, section 3.1)."""

    def __init__(self, seeds: Sequence[int], width: int, layers: int, device: str) -> None:
        bound = 1 / math.sqrt(width)
        drawn = [np.random.default_rng([seed, 6]) for seed in seeds]

        def uniform(*shape: int) -> Tensor:
            values = np.stack([each.uniform(-bound, bound, (2, *shape)) for each in drawn], 1)
            return torch.from_numpy(values).float().to(device).requires_grad_()

        words = np.stack([each.standard_normal((VOCABULARY, width)) for each in drawn])
        self.words = torch.from_numpy(words).float().to(device).requires_grad_()
        self.layers = [(uniform(width, 4 * width), uniform(width, 4 * width), uniform(1, 4 * width)) for _ in range(layers)]
        with torch.no_grad():  # a forget bias of 1 (Jozefowicz et al. 2015), as every LSTM that is trained here
            for *_, bias in self.layers:
                bias[..., width : 2 * width] += 1.0
        self.bptt = [LSTMBPTT() for _ in range(layers)]

    @property
    def parameters(self) -> list[tuple[Tensor, int]]:
        """Each with the axis of its seeds."""
        return [(self.words, 0), *((each, 1) for layer in self.layers for each in layer)]

    def embed(self, tokens: Tensor) -> Tensor:
        """[T, S, B] to [T, S, B, H]."""
        offset = torch.arange(len(self.words), device=tokens.device)[:, None] * VOCABULARY
        return functional.embedding(tokens + offset, self.words.flatten(0, 1))

    def run(self, tokens: Tensor) -> list[Tensor]:
        """The words' vectors and each layer's states, [T, 2·S, B, H]; the second half reads the sentences turned round."""
        x = self.embed(tokens)
        found = [torch.cat([x, x.flip(0)], 1)]
        for weights, bptt in zip(self.layers, self.bptt, strict=True):
            found.append(_Layer.apply(found[-1], *(each.flatten(0, 1) for each in weights), bptt))  # type: ignore[arg-type]
        return found

    def features(self, tokens: Tensor) -> Tensor:
        """Of each word, both directions side by side: [L + 1, T, S, B, 2·H], the words' vectors first, as often."""
        seeds = tokens.shape[1]
        return torch.stack([torch.cat([y[:, :seeds], y[:, seeds:].flip(0)], -1) for y in self.run(tokens)])


def clip(parameters: Sequence[tuple[Tensor, int]]) -> None:
    """Each seed's gradient to a norm of `LARGEST_NORM`."""
    by_seed = [(value.grad.movedim(axis, 0), value.ndim) for value, axis in parameters if value.grad is not None]
    norm = sum(grad.flatten(1).square().sum(1) for grad, _ in by_seed)
    assert isinstance(norm, Tensor)
    scale = (LARGEST_NORM / norm.sqrt()).clamp(max=1.0)
    for grad, dimensions in by_seed:
        grad.mul_(scale.view(-1, *[1] * (dimensions - 1)))


def descend(
    parameters: Sequence[tuple[Tensor, int]], loss: Callable[[], Tensor], updates: int, rate: float,
    after: Callable[[int], None] = lambda update: None,
) -> None:  # fmt: skip
    """Adam, a step an update, on the sum of the seeds' losses: nothing of one seed acts on another."""
    values = [value for value, _ in parameters]
    optimiser = torch.optim.Adam(values, lr=rate)
    for update in range(updates):
        for group in optimiser.param_groups:
            group["lr"] = rate * schedule(update / updates)
        optimiser.zero_grad()
        loss().backward()
        clip(parameters)
        optimiser.step()
        after(update)


# The language model: the next word by the stack that reads forwards, the one before by the other, with one readout for both.


class LanguageModel:
    def __init__(self, case: Case, seeds: Sequence[int]) -> None:
        width = case.spec.hidden_size
        self.stacks = Stacks(seeds, width, case.spec.num_layers, case.spec.device)
        bound = 1 / math.sqrt(width)
        drawn = [np.random.default_rng([seed, 8]).uniform(-bound, bound, (width + 1, VOCABULARY)) for seed in seeds]
        self.readout = torch.from_numpy(np.stack(drawn)).float().to(case.spec.device).requires_grad_()

    @property
    def parameters(self) -> list[tuple[Tensor, int]]:
        return [*self.stacks.parameters, (self.readout, 0)]

    def losses(self, tokens: Tensor) -> Tensor:
        """Nats a word, [2, S], of each direction."""
        top = self.stacks.run(tokens)[-1][:-1]
        seeds = tokens.shape[1]
        wanted = torch.cat([tokens, tokens.flip(0)], 1)[1:]
        readout = self.readout.repeat(2, 1, 1)
        logits = by_network(top) @ readout[:, :-1] + readout[:, -1:]
        found = functional.cross_entropy(logits.flatten(0, 1), wanted.transpose(0, 1).flatten(), reduction="none")
        return found.view(2, seeds, -1).mean(-1)


def pretrain(case: Case, language: Language, seeds: Sequence[int]) -> LanguageModel:
    """On sentences without tags, drawn afresh for every update and every seed."""
    model, random = LanguageModel(case, seeds), np.random.default_rng([case.seed, 11])

    def loss() -> Tensor:
        return model.losses(_words(language.sample(random, case.steps, len(seeds) * case.batch), case)).sum()

    descend(model.parameters, loss, int(case.factor("pretraining")), float(case.factor("rate")))
    return model


def _words(drawn: Sentences, case: Case) -> Tensor:
    return _of_seeds(drawn.tokens, int(case.factor("seeds"))).to(case.spec.device)


def _of_seeds(values: np.ndarray, seeds: int) -> Tensor:
    """[T, S·B] to [T, S, B]."""
    return torch.from_numpy(values).view(len(values), seeds, -1)


# Taggers. V of them share what they read: words [T, S, B] to features, and to logits [S, V, T·B, K].


class OnFeatures:
    """Linear taggers of a frozen model's layers: one of each layer alone, and the last of a learned mix of all (Peters et al.
    2018, equation 1; γ is left to the linear map)."""

    def __init__(self, model: LanguageModel, seeds: Sequence[int]) -> None:
        self.stacks = model.stacks
        layers, like = len(self.stacks.layers) + 1, self.stacks.words
        self.alone = torch.eye(layers, device=like.device)
        self.mix = torch.zeros(len(seeds), layers, device=like.device, requires_grad=True)
        self.weights = torch.zeros(len(seeds), layers + 1, 2 * like.shape[-1] + 1, CLASSES, device=like.device)
        self.weights.requires_grad_()
        self.parameters = [(self.mix, 0), (self.weights, 0)]

    def __call__(self, tokens: Tensor) -> Tensor:
        with torch.no_grad():
            of_layers = self.stacks.features(tokens).movedim(2, 0).flatten(2, 3)  # [S, L + 1, T·B, 2·H]
        mixed = torch.einsum("sl,slnf->snf", self.mix.softmax(-1), of_layers)
        x = torch.cat([of_layers, mixed[:, None]], 1)
        return x @ self.weights[..., :-1, :] + self.weights[..., -1:, :]


class FromScratch:
    """An LSTM in both directions from fresh weights, and a linear map of its states."""

    def __init__(self, case: Case, seeds: Sequence[int]) -> None:
        width = case.spec.hidden_size
        self.stacks = Stacks([10_000 + seed for seed in seeds], width, int(case.factor("scratch_layers")), case.spec.device)
        self.weights = torch.zeros(len(seeds), 1, 2 * width + 1, CLASSES, device=case.spec.device, requires_grad=True)
        self.parameters = [*self.stacks.parameters, (self.weights, 0)]

    def __call__(self, tokens: Tensor) -> Tensor:
        x = self.stacks.features(tokens)[-1].movedim(1, 0).flatten(1, 2)[:, None]
        return x @ self.weights[..., :-1, :] + self.weights[..., -1:, :]


Tagger = OnFeatures | FromScratch


@dataclass(frozen=True, slots=True)
class Labelled:
    """Words and tags, [T, S, N]."""

    words: Tensor
    tags: Tensor

    def part(self, first: int, last: int) -> Labelled:
        return Labelled(self.words[..., first:last], self.tags[..., first:last])

    def batch(self, which: Tensor) -> Labelled:
        """Of the sentences [S, B] of each seed."""
        where = which.expand(len(self.words), -1, -1)
        return Labelled(self.words.gather(2, where), self.tags.gather(2, where))


def losses(tagger: Tagger, of: Labelled) -> tuple[Tensor, Tensor]:
    """Nats a tag, and the share of tags that are wrong: [S, V] each."""
    logits = tagger(of.words)
    seeds, views = logits.shape[:2]
    wanted = of.tags.movedim(1, 0).flatten(1)[:, None].expand(-1, views, -1)
    found = functional.cross_entropy(logits.flatten(0, 2), wanted.flatten(), reduction="none")
    return found.view(seeds, views, -1).mean(-1), (logits.argmax(-1) != wanted).float().mean(-1)


def tag(tagger: Tagger, labelled: Labelled, test: Labelled, case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Trains a tagger and judges each seed's as it was when its loss on its held-out labelled sentences was least, of all V
    taggers of the seed together.

    Returns: nats a tag and share of wrong tags on the test's sentences, [S, V] each.
    """
    seeds, count = labelled.words.shape[1:]
    held_out = min(count // HELD_OUT, MOST_HELD_OUT)
    train, chooses = labelled.part(held_out, count), labelled.part(0, held_out)
    random = np.random.default_rng([case.seed, count, 13])
    least = torch.full((), math.inf)
    best = [value.detach().clone() for value, _ in tagger.parameters]

    def loss() -> Tensor:
        which = torch.from_numpy(random.integers(0, count - held_out, (seeds, case.batch))).to(labelled.words.device)
        return losses(tagger, train.batch(which))[0].sum()

    every = max(1, updates_of(case) // CHECKS)

    @torch.no_grad()
    def check(update: int) -> None:
        nonlocal least
        if (update + 1) % every:
            return
        now = losses(tagger, chooses)[0].mean(-1)
        better, least = now < least, torch.minimum(now, least)
        for (value, axis), kept in zip(tagger.parameters, best, strict=True):
            where = better.view(*[1] * axis, -1, *[1] * (value.ndim - axis - 1))
            kept.copy_(torch.where(where, value, kept))

    rate = float(case.factor("linear_rate" if isinstance(tagger, OnFeatures) else "rate"))
    descend(tagger.parameters, loss, updates_of(case), rate, check)
    with torch.no_grad():
        for (value, _), kept in zip(tagger.parameters, best, strict=True):
            value.copy_(kept)
        nats, wrong = losses(tagger, test)
    return nats.cpu().double().numpy(), wrong.cpu().double().numpy()


def updates_of(case: Case) -> int:
    return int(case.factor("updates"))


def measure(case: Case) -> Iterator[Measurement]:
    """Blocks are seeds, of a value for each number of labelled sentences, `labelled`, fewest first; judged on the same
    sentences, which no network was trained on.

    transfer_loss, scratch_loss   nats a tag, of a linear tagger on a learned mix of the frozen layers, and of an LSTM in both
                        directions trained on the same tags from scratch
    transfer_error, scratch_error   share of wrong tags
    layer_loss, layer_error   of a linear tagger of each layer alone, the words' vectors first, with the most labels
    least_loss, least_error   of who knows the language, on the same sentences
    language_model_loss   nats a word, forwards and backwards; least_language_model_loss: of who knows the language
    """
    seeds, fewest = int(case.factor("seeds")), int(case.factor("fewest"))
    if fewest < FEWEST_LABELLED:
        raise InvalidCase(f"a fifth of the labelled sentences is held out: ask for {FEWEST_LABELLED} or more; got {fewest}")
    language, asked = Language(), str(case.factor("tag"))
    own = [1000 * case.seed + seed for seed in range(seeds)]
    drawn = language.sample(np.random.default_rng(TEST_SEED), case.steps, TESTED)
    test = Labelled(*(_same(values, case) for values in (drawn.tokens, drawn.tags(asked))))
    model = pretrain(case, language, own)
    sizes = [fewest * 10**power for power in range(SIZES)]
    pool = language.sample(np.random.default_rng([case.seed, 12]), case.steps, seeds * sizes[-1])
    labelled = Labelled(*(_of_seeds(values, seeds).to(case.spec.device) for values in (pool.tokens, pool.tags(asked))))
    transfer, scratch = (
        [tag(make(), labelled.part(0, size), test, case) for size in sizes]
        for make in (lambda: OnFeatures(model, own), lambda: FromScratch(case, own))
    )
    for place, (name, unit) in enumerate((("loss", "nat"), ("error", "1"))):
        yield cells.measurement(f"transfer_{name}", unit, list(np.stack([each[place][:, -1] for each in transfer], 1)))
        yield cells.measurement(f"scratch_{name}", unit, list(np.stack([each[place][:, -1] for each in scratch], 1)))
        yield cells.measurement(f"layer_{name}", unit, list(transfer[-1][place][:, :-1]))
    likely = language.posterior(drawn.tokens, asked)
    wrong = 1 - likely.max(-1)
    yield Measurement("least_loss", "nat", (float(tagging.surprise(likely, drawn.tags(asked)).mean()),))
    yield Measurement("least_error", "1", (float(wrong.mean()),))
    yield Measurement("labelled", "1", tuple(map(float, sizes)))
    with torch.no_grad():
        found = model.losses(test.words).T.cpu().numpy()
    yield cells.measurement("language_model_loss", "nat", list(found))
    yield Measurement("least_language_model_loss", "nat", (language.next_word_optimum(drawn.tokens),))


def _same(values: np.ndarray, case: Case) -> Tensor:
    """[T, N] for every seed: [T, S, N]."""
    each = torch.from_numpy(values).to(case.spec.device)
    return each[:, None].expand(-1, int(case.factor("seeds")), -1)
