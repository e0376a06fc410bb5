"""LSTMs that learn to agree, all seeds as one batch; what is lost without each unit; and the gates of the unit that counts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.harness.case import Case, InvalidCase
from bench.studies.agreement import languages
from bench.studies.agreement.languages import MOST_ATTRACTORS, VERB, VERBS, VOCABULARY, Language
from bench.studies.descendants.learning import schedule
from bench.studies.gradients import cells
from bench.studies.horizon.tasks import Task
from bench.studies.horizon.training import Networks
from impls import UnknownName
from results.record import Measurement

OBJECTIVES = ("form", "next_token")  # the verb's form asked for at the end (Linzen et al. 2016), or every next word predicted
TEST_SEED = 9
TESTED, TESTED_EACH = 2048, 200  # sentences of the language; of each distance and number of attractors
DISTANCES = (1, 2, 3, 5, 7, 10, 15, 20, 30, 40)
NEAR = 2  # the largest distance that counts as short; long ones are those from three quarters of the longest on
LEAST_STEPS = 11  # three attractors fit into every long distance
PERMUTATIONS, LEVEL = 499, 0.05  # of the null of random units
AT_ONCE = 512  # sentences read: the gates of all steps are kept
TRACED = 64  # sentences that a trace is the mean of


def measure(case: Case) -> Iterator[Measurement]:
    """Blocks are seeds, of H units each where a metric begins with `unit_`; sentences as in `languages`.

    accuracy          of the verb's form, as who knows the language would expect it, on sentences of the language
    best_accuracy     the same of who knows the language, on the same sentences
    accuracy_by_distance   where all attractors have the other feature, at each `tested_distance` and `tested_attractors`;
                      `…_halfway`: the same after half of the updates
    unit_loss_<condition>   accuracy lost without a unit in each of `CONDITIONS`; two of them choose a unit, and others judge it
    null_loss_far, null_loss_far_alone   that the unit which loses most there would reach in 1 of 20 cases, were units
                      interchangeable
    p_value_far, p_value_far_alone       of the largest loss among all units there, by the same null
    write_at_subject, write_at_attractor, kept_between   of the unit chosen without attractors: its mean input gate at subject
                      and attractors, and its mean forget gate from subject to verb
    trace             i, f, o and c of the same unit over `trace_word`, of the seed in which it counts most; blocks are the
                      subject's features
    """
    language, objective, seeds = languages.get(str(case.factor("language"))), _objective(case), int(case.factor("seeds"))
    if case.steps < LEAST_STEPS:
        raise InvalidCase(f"three attractors fit into sentences of {LEAST_STEPS} steps or more; got {case.steps} steps")
    random = np.random.default_rng([TEST_SEED, case.seed])
    grid = [
        (distance, count)
        for distance in DISTANCES
        if distance < case.steps
        for count in range(int(languages.most_attractors(np.array(distance))) + 1)
    ]
    tested = languages.opposed(random, case.steps, *np.repeat(np.array(grid).T, TESTED_EACH, 1))
    by_distance, networks = [], None
    for networks in train(case, language, objective):
        right = read(networks, tested.tokens, objective)[0] == tested.form
        by_distance.append(right.reshape(seeds, len(grid), -1).mean(-1))
    assert networks is not None
    drawn = languages.sample(language, random, case.steps, TESTED)
    answers, means = read(networks, drawn.tokens, objective)
    likely = language.posterior(drawn.shown, drawn.balance)
    yield _by_seed("accuracy", np.where(answers, likely, 1 - likely).mean(1)[:, None])
    yield Measurement("best_accuracy", "1", (float(np.maximum(likely, 1 - likely).mean()),))
    for name, values in zip(("accuracy_by_distance_halfway", "accuracy_by_distance"), by_distance, strict=True):
        yield _by_seed(name, values)
    for name, values in zip(("tested_distance", "tested_attractors"), zip(*grid, strict=True), strict=True):
        yield Measurement(name, "1", tuple(map(float, values)))
    ablated = ablate(networks, objective, means, random, case.steps)
    yield from ablated.measurements()
    yield from traces(networks, ablated, random, case.steps)


def _objective(case: Case) -> str:
    objective = str(case.factor("objective"))
    if objective not in OBJECTIVES:
        raise UnknownName("objective", objective, OBJECTIVES)
    return objective


def _by_seed(metric: str, values: np.ndarray) -> Measurement:
    return cells.measurement(metric, "1", list(values))


def train(case: Case, language: Language, objective: str) -> Iterator[Networks]:
    """By Adam, on sentences drawn afresh for every update and every network. The networks after half of the updates, and, the
    same ones trained on, after all."""
    seeds, updates, rate = int(case.factor("seeds")), int(case.factor("updates")), float(case.factor("rate"))
    whole = objective == "next_token"
    task = Task("agreement", VOCABULARY, VOCABULARY if whole else 2, case.steps if whole else 1, 1, lambda lag: lag + 1)
    networks = Networks(case.spec, str(case.factor("init")), range(case.seed * 1000, case.seed * 1000 + seeds), task, rate)
    random = np.random.default_rng([case.seed, 7])
    words = torch.eye(VOCABULARY, device=case.spec.device)
    shape = (-1, seeds, case.batch)
    for update in range(updates):
        networks.rate = rate * schedule(update / updates)
        drawn = languages.sample(language, random, case.steps, seeds * case.batch)
        after = np.concatenate([drawn.tokens[1:], languages.verbs(random, drawn)[None]]) if whole else drawn.form
        tokens, target = (torch.from_numpy(each).to(case.spec.device).view(shape) for each in (drawn.tokens, after))
        networks.update(words[tokens], target, 0)
        if update + 1 in (updates // 2, updates):
            yield networks


# Reading sentences, all seeds the same ones; one unit may be held at a value, so that nothing reads what it remembers.


class Reader:
    """Sentences [T, N] before S networks; what the words add to the gates is computed once for all units that are held."""

    def __init__(self, networks: Networks, tokens: np.ndarray) -> None:
        w_x, self.w_h, b_x, b_h, *self.readout = networks.parameters
        self.of_words = (w_x + b_x + b_h)[:, torch.from_numpy(tokens).to(w_x.device)].transpose(0, 1)  # [T, S, N, 4H]

    @torch.no_grad()
    def run(self, unit: int | None = None, value: Tensor | None = None) -> Iterator[tuple[Tensor, ...]]:
        """i, f, o, c and h after each word, [S, N, H] each. value: at which the unit's h is held in each network, [S]."""
        c = torch.zeros_like(self.of_words[0].chunk(4, -1)[0])
        h = self._held(torch.zeros_like(c), unit, value)
        for words in self.of_words:
            i, f, g, o = torch.baddbmm(words, h, self.w_h).chunk(4, -1)
            i, f, o = torch.sigmoid(i), torch.sigmoid(f), torch.sigmoid(o)
            c = f * c + i * torch.tanh(g)
            h = self._held(o * torch.tanh(c), unit, value)
            yield i, f, o, c, h

    @staticmethod
    def _held(h: Tensor, unit: int | None, value: Tensor | None) -> Tensor:
        if unit is not None and value is not None:
            h[..., unit] = value[:, None]
        return h

    def answers(self, h: Tensor, objective: str) -> np.ndarray:
        """Of the form at the end, bool [S, N]; for a language model the form with more probability over its verbs."""
        weight, bias = self.readout
        y = h @ weight + bias
        if objective == "next_token":
            y = y[..., VERB:].unflatten(-1, (2, VERBS)).logsumexp(-1)
        return y.argmax(-1).bool().cpu().numpy()


def read(networks: Networks, tokens: np.ndarray, objective: str) -> tuple[np.ndarray, Tensor]:
    """The forms that the networks expect, bool [S, N], and the mean of each unit's h over words and sentences, [S, H]."""
    answers, total = [], torch.tensor(0.0)
    for first in range(0, tokens.shape[1], AT_ONCE):
        reader = Reader(networks, tokens[:, first : first + AT_ONCE])
        states = torch.stack([h for *_, h in reader.run()])
        answers.append(reader.answers(states[-1], objective))
        total = total.to(states) + states.sum((0, 2))
    return np.concatenate(answers, 1), total / tokens.size


# One unit after the other is held at its mean: what is lost, and what interchangeable units would lose.


@dataclass(frozen=True, slots=True)
class Condition:
    """far: distances from three quarters of the longest on, else of one or two. attractors: all of the other feature.

    chosen_by: the condition whose sentences choose the unit that this one judges; "" where it chooses.
    """

    far: bool
    attractors: int
    chosen_by: str = ""


CONDITIONS = {
    "choosing": Condition(True, MOST_ATTRACTORS),
    "far": Condition(True, MOST_ATTRACTORS, "choosing"),
    "near": Condition(False, 0, "choosing"),
    "choosing_alone": Condition(True, 0),
    "far_alone": Condition(True, 0, "choosing_alone"),
}
JUDGED = ("far", "far_alone")  # by a null


@dataclass(frozen=True, slots=True)
class Ablated:
    """losses: accuracy lost without each unit by condition, [S, H]. nulls: of the largest loss, by condition,
    [S, PERMUTATIONS]."""

    losses: dict[str, np.ndarray]
    nulls: dict[str, np.ndarray]

    def chosen(self, condition: str) -> np.ndarray:
        """The unit of each seed that a condition judges, [S]."""
        return self.losses[CONDITIONS[condition].chosen_by].argmax(1)

    def of_chosen(self, condition: str) -> np.ndarray:
        """What is lost without it, [S]."""
        return np.take_along_axis(self.losses[condition], self.chosen(condition)[:, None], 1)[:, 0]

    def p_value(self, condition: str) -> np.ndarray:
        """Of the largest loss of each seed among all units, [S]."""
        null, largest = self.nulls[condition], self.losses[condition].max(1, keepdims=True)
        return (1 + (null >= largest - 1e-12).sum(1)) / (1 + null.shape[1])

    def measurements(self) -> Iterator[Measurement]:
        for condition, values in self.losses.items():
            yield _by_seed(f"unit_loss_{condition}", values)
        for condition, null in self.nulls.items():
            yield _by_seed(f"null_loss_{condition}", np.quantile(null, 1 - LEVEL, 1, method="higher")[:, None])
            yield _by_seed(f"p_value_{condition}", self.p_value(condition)[:, None])


def ablate(networks: Networks, objective: str, means: Tensor, random: np.random.Generator, steps: int) -> Ablated:
    """means: of each unit's h over steps and sentences, [S, H], at which it is held: zero may be a value it never has."""
    ranges = [(3 * (steps - 1) // 4, steps) if each.far else (1, NEAR + 1) for each in CONDITIONS.values()]
    distances = np.concatenate([random.integers(*each, TESTED_EACH) for each in ranges])
    attractors = np.repeat([each.attractors for each in CONDITIONS.values()], TESTED_EACH)
    sentences = languages.opposed(random, steps, distances, attractors)
    reader = Reader(networks, sentences.tokens)

    def right(unit: int | None, value: Tensor | None) -> np.ndarray:
        *_, h = deque(reader.run(unit, value), maxlen=1).pop()
        return (reader.answers(h, objective) == sentences.form).astype(int)

    whole = right(None, None)
    effects = np.stack([whole - right(unit, means[:, unit]) for unit in range(means.shape[1])], -1)  # [S, N, H]
    by_condition = dict(zip(CONDITIONS, np.split(effects, len(CONDITIONS), 1), strict=True))
    nulls = {each: np.stack([null(own, random) for own in by_condition[each]]) for each in JUDGED}
    return Ablated({condition: own.mean(1) for condition, own in by_condition.items()}, nulls)


def null(effects: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The largest loss over all units, were they interchangeable: in each sentence the effects of its units change places at
    random. The maximum corrects for testing every unit (Westfall & Young 1993). effects: [N, H]. Returns: [PERMUTATIONS]."""
    return np.array([random.permuted(effects, axis=1).mean(0).max() for _ in range(PERMUTATIONS)])


# The gates of the units that count without attractors, over sentences whose words stand in the same places.


def traces(networks: Networks, ablated: Ablated, random: np.random.Generator, steps: int) -> Iterator[Measurement]:
    """Half of the sentences have a subject of each feature, far from the verb; three attractors of the other are between."""
    words, tokens = languages.in_places(random, steps, TRACED)
    chosen = torch.from_numpy(ablated.chosen("far_alone"))
    found = []
    for *gates, _ in Reader(networks, tokens).run():
        every = torch.stack(gates)  # i, f, o and c, [4, S, N, H]
        found.append(every[:, torch.arange(len(chosen), device=every.device), :, chosen.to(every.device)])  # [S, 4, N]
    traced = torch.stack(found, 2).cpu().numpy()  # [S, 4, T, N]
    subject = int(np.flatnonzero(words == languages.SUBJECT)[0])
    written = traced[:, 0].mean(-1)
    yield _by_seed("write_at_subject", written[:, [subject]])
    yield _by_seed("write_at_attractor", written[:, words == languages.ATTRACTOR].mean(1, keepdims=True))
    yield _by_seed("kept_between", traced[:, 1, subject + 1 :].mean((1, 2))[:, None])
    clearest = int(ablated.of_chosen("far_alone").argmax())
    by_feature = traced[clearest].reshape(4, steps, -1, 2).mean(2)  # features take turns over sentences
    yield cells.measurement("trace", "1", [by_feature[..., feature].ravel() for feature in (0, 1)])
    yield Measurement("trace_word", "1", tuple(map(float, words)))
    yield Measurement("trace_seed_unit", "1", (float(clearest), float(chosen[clearest])))
