"""Tagging tokens, frames and text by depth and direction: at equal parameters, and at the time that one layer takes."""

from __future__ import annotations

import functools
import io
import keyword
import statistics
import time
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bench.harness.case import Case
from bench.studies.direction.networks import Direction
from bench.studies.direction.tagging import (
    TEST_SEED,
    TESTED,
    Draw,
    filter_states,
    fit,
    losses,
    sample,
    smooth_states,
    surprise,
    update,
)  # fmt: skip
from bench.studies.gradients import cells
from bench.studies.quality.sources import STATES, VOCABULARY_HMM, HiddenMarkov, standard_modules
from bench.worker.timing import WARM_CALLS, WallClock, interleaved
from impls import LSTMSpec, UnknownName
from results.record import Measurement

ROUNDS = 61  # in which an update of either network is timed

# Text: the kind of token that each character belongs to.

CHARACTERS = 128  # ASCII; all others are the last
KINDS = ("space", "keyword", "name", "number", "string", "comment", "operator")
_OF_TOKENS = {
    tokenize.NAME: "name", tokenize.NUMBER: "number", tokenize.STRING: "string", tokenize.COMMENT: "comment",
    tokenize.OP: "operator",
}  # fmt: skip
EVERY_MODULE, HELD_OUT_EVERY = 8, 10  # modules of which one is read; of those, of which one is held out


def tags_of(text: str) -> np.ndarray:
    """The kind, a place in `KINDS`, of each character of Python source, int64 [C]; what belongs to no token is space.

    An f-string is a string to its end, as tokenize had it before Python 3.12.
    """
    starts = np.cumsum([0, *(len(line) + 1 for line in text.split("\n"))])
    tags, opened, began = np.zeros(len(text), np.int64), 0, 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        name = tokenize.tok_name[token.type]
        first, last = (int(starts[line - 1]) + column for line, column in (token.start, token.end))
        if name.endswith("STRING_START"):
            began = began if opened else first
            opened += 1
        elif name.endswith("STRING_END"):
            opened -= 1
            if not opened:
                tags[began:last] = KINDS.index("string")
        elif not opened and token.type in _OF_TOKENS:
            kind = "keyword" if keyword.iskeyword(token.string) else _OF_TOKENS[token.type]
            tags[first:last] = KINDS.index(kind)
    return tags


@functools.cache
def text() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Characters and tags, int64 [C] each, of modules to train on and of modules held out."""
    found: tuple[list[tuple[np.ndarray, np.ndarray]], ...] = ([], [])
    for number, path in enumerate(standard_modules()[::EVERY_MODULE]):
        with tokenize.open(path) as file:
            source = file.read()
        points = np.frombuffer(source.encode("utf-32-le"), np.uint32)
        own = np.minimum(points, CHARACTERS - 1).astype(np.int64), tags_of(source)
        found[number % HELD_OUT_EVERY == HELD_OUT_EVERY - 1].append(own)
    trained, held_out = (tuple(np.concatenate(each) for each in zip(*part, strict=True)) for part in found)
    return (trained[0], trained[1]), (held_out[0], held_out[1])


def windows(
    of: tuple[np.ndarray, np.ndarray], random: np.random.Generator, steps: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Characters and tags [T, N] from anywhere."""
    places = random.integers(0, len(of[0]) - steps + 1, count) + np.arange(steps)[:, None]
    return of[0][places], of[1][places]


# Frames: Gaussian vectors around a mean of each hidden state.

FEATURES, SPREAD_OF_MEANS = 8, 0.35  # against noise of standard deviation 1
MEANS = SPREAD_OF_MEANS * np.random.default_rng(7).standard_normal((STATES, FEATURES))


def likelihoods(frames: np.ndarray) -> np.ndarray:
    """p(x | z = k) of frames [T, N, D] up to a factor of each frame, [T, N, K]."""
    distances = ((frames[..., None, :].astype(float) - MEANS) ** 2).sum(-1)
    return np.exp((distances.min(-1, keepdims=True) - distances) / 2)


# What a case is trained and judged on.


@dataclass(frozen=True, slots=True)
class Task:
    """draw: to train on. test: inputs and tags. tags: how many there are. features: of a frame; 0 where inputs are tokens.
    likely: p(input | state) of the test up to a factor, with the chain's transition; None where nobody knows the optimum."""

    draw: Draw
    test: tuple[np.ndarray, np.ndarray]
    tags: int
    vocabulary: int = 0
    features: int = 0
    likely: tuple[np.ndarray, np.ndarray] | None = None


TASKS = ("tokens", "frames", "text")


def task_of(case: Case) -> Task:
    """Raises `UnknownName`."""
    name, steps, test = str(case.factor("task")), case.steps, np.random.default_rng(TEST_SEED)
    if name not in TASKS:
        raise UnknownName("task", name, TASKS)
    if name == "text":
        trained, held_out = text()
        tested = windows(held_out, test, steps, TESTED)
        return Task(lambda random: windows(trained, random, steps, case.batch), tested, len(KINDS), CHARACTERS)
    source = HiddenMarkov(int(case.factor("dwell")))

    def draw(random: np.random.Generator, count: int = case.batch) -> tuple[np.ndarray, np.ndarray]:
        drawn = sample(source, random, steps, count)
        if name == "tokens":
            return drawn.tokens, drawn.tags
        return (MEANS[drawn.tags] + random.standard_normal((*drawn.tags.shape, FEATURES))).astype(np.float32), drawn.tags

    tested = draw(test, TESTED)
    if name == "tokens":
        likely = source.emission.T[tested[0]]
        return Task(draw, tested, STATES, VOCABULARY_HMM, likely=(source.transition, likely))
    return Task(draw, tested, STATES, features=FEATURES, likely=(source.transition, likelihoods(tested[0])))


class Tagger(nn.Module):
    """Tokens [T, B] or frames [T, B, D] to logits [T, B, K] of each one's tag."""

    def __init__(self, kind: str, spec: LSTMSpec, task: Task, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            frames = nn.Linear(task.features, spec.input_size) if task.features else None
            self.encoder = frames or nn.Embedding(task.vocabulary, spec.input_size)
            self.network = Direction(kind, spec)
            self.readout = nn.Linear(self.network.output_size, task.tags)
        self.to(spec.device)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.readout(self.network(self.encoder(inputs)))


def time_ratios(case: Case, task: Task) -> list[float]:
    """Of each round: the time of an update of the case's network over that of one layer in one direction, on the same batch.

    Drawing the batch is not timed: it is no part of a network. On a CPU it is the time of the processor, which other programs
    on the machine do not lengthen; on a GPU that of the wall.
    """
    assert isinstance(case.spec, LSTMSpec)
    like = LSTMSpec(case.spec.input_size, int(case.factor("like")), device=case.spec.device)
    batch = task.draw(np.random.default_rng(case.seed))
    clocks = [
        _clock(Tagger(kind, spec, task, 0), batch) for kind, spec in ((str(case.factor("direction")), case.spec), ("one", like))
    ]
    for clock in clocks:
        clock.sample(WARM_CALLS)
    own, its = interleaved(clocks, [1, 1], ROUNDS)
    return [one / other for one, other in zip(own, its, strict=True)]


def _clock(model: Tagger, batch: tuple[np.ndarray, np.ndarray]) -> WallClock:
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)

    def call() -> None:
        update(model, optimiser, *batch)

    if model.readout.weight.is_cuda:
        return WallClock(call, torch.cuda.synchronize)
    return WallClock(call, lambda: None, time.process_time)


def measure(case: Case) -> Iterator[Measurement]:
    """Blocks are seeds. `tagging_loss` first, nats a tag on windows that were never trained on; then

    update_time_ratio  where time is matched: of each round (see `time_ratios`)
    updates            of the training: what was asked, over the median ratio where time is matched
    filter_optimum     the least possible of a causal network on the same windows, where it is known; smoother_optimum of any
    """
    task, updates, ratios = task_of(case), int(case.factor("updates")), list[float]()
    assert isinstance(case.spec, LSTMSpec)
    if case.factor("matched") == "time":
        ratios = time_ratios(case, task)
        updates = max(1, round(updates / statistics.median(ratios)))
    found, parameters = [], 0
    for seed in range(int(case.factor("seeds"))):
        own = case.seed * 1000 + seed
        model = Tagger(str(case.factor("direction")), case.spec, task, own)
        fit(model, task.draw, np.random.default_rng([own, 11]), updates, float(case.factor("rate")))
        found.append(np.array([float(losses(model, *task.test).mean())]))
        parameters = sum(value.numel() for value in model.network.parameters())
    yield cells.measurement("tagging_loss", "nat", found)
    if ratios:
        yield Measurement("update_time_ratio", "1", tuple(ratios))
    yield Measurement("updates", "1", (float(updates),))
    if task.likely is not None:
        for name, posterior in (("filter_optimum", filter_states), ("smoother_optimum", smooth_states)):
            yield cells.measurement(name, "nat", [np.array([surprise(posterior(*task.likely), task.test[1]).mean()])])
    yield Measurement("network_parameters", "1", (float(parameters),))
