"""The tasks of study `translation`: closed forms, the inverse of the grammar's translation, and translators made by hand."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.studies.translation import CASES, TASKS, learning, networks, tasks
from bench.studies.translation.tasks import (
    ADJECTIVE,
    CONJUNCTION,
    DETERMINER,
    END,
    FORMS,
    GENDERS,
    NOUN,
    SHORTEST,
    SOURCE_STARTS,
    TARGET_STARTS,
    VERB,
    WORDS,
)  # fmt: skip
from impls import UnknownName

LENGTHS = (SHORTEST, 5, 7, 10, 13, 20)


def draw(name: str, length: int, batch: int = 64) -> tuple[Tensor, Tensor]:
    return tasks.get(name).draw(length, batch, torch.Generator().manual_seed(3))


def in_source(kind: int, number: int) -> int:
    return SOURCE_STARTS[kind] + number


def in_target(kind: int, number: int, gender: int = 0) -> int:
    return TARGET_STARTS[kind] + (number * GENDERS + gender if kind == DETERMINER else number)


def class_of(word: int) -> tuple[int, int]:
    """Class and form of a word of the target's language."""
    kind = max(kind for kind, start in enumerate(TARGET_STARTS) if word >= start)
    return kind, word - TARGET_STARTS[kind]


def back(target: list[int]) -> list[int]:
    """The source of a sentence in the target's language, read by its classes alone."""
    source: list[int] = []
    at = 0
    while at < len(target):
        if class_of(target[at])[0] == CONJUNCTION:
            source.append(in_source(CONJUNCTION, 0))
            at += 1
        phrases = []
        while class_of(target[at])[0] == DETERMINER:
            (_, form), (_, noun) = class_of(target[at]), class_of(target[at + 1])
            assert form % GENDERS == noun % GENDERS  # the determiner agrees
            at += 2
            adjectives = []
            while class_of(target[at])[0] == ADJECTIVE:
                adjectives.append(in_source(ADJECTIVE, class_of(target[at])[1]))
                at += 1
            phrases.append([in_source(DETERMINER, form // GENDERS), *adjectives[::-1], in_source(NOUN, noun)])
        kind, verb = class_of(target[at])
        assert kind == VERB and 1 <= len(phrases) <= 2
        at += 1
        source += [*phrases[0], in_source(VERB, verb), *(phrases[1] if len(phrases) == 2 else [])]
    return source


@pytest.mark.parametrize("length", LENGTHS)
def test_the_grammars_translation_has_an_inverse(length: int) -> None:
    source, target = draw("grammar", length)
    assert source.shape == (length, 64) and target.shape == (length + 1, 64) and (target[-1] == END).all()
    assert (target[:-1] != END).all()
    for own, its in zip(source.T.tolist(), target.T.tolist(), strict=True):
        assert back(its[:-1]) == own


def test_a_sentence_is_translated_as_written_down() -> None:
    """`the big red dog(3) sees a cat(0)` to `the dog red big, a cat, sees`, determiners of genders 1 and 0."""
    kinds = torch.tensor([[DETERMINER, ADJECTIVE, ADJECTIVE, NOUN, VERB, DETERMINER, NOUN]])
    order, nouns = torch.tensor([[0, 3, 2, 1, 5, 6, 4]]), torch.tensor([[3, 1, 2, 3, 4, 6, 6]])
    numbers = [0, 1, 2, 3, 4, 1, 0]
    source = torch.tensor([[in_source(kind, number) for kind, number in zip(kinds[0].tolist(), numbers, strict=True)]])
    expected = [
        in_target(DETERMINER, 0, 1), in_target(NOUN, 3), in_target(ADJECTIVE, 2), in_target(ADJECTIVE, 1),
        in_target(DETERMINER, 1, 0), in_target(NOUN, 0), in_target(VERB, 4),
    ]  # fmt: skip
    assert tasks.translated(source, kinds, order, nouns)[0].tolist() == expected
    found = {tasks.structure(7, random.Random(seed)) for seed in range(200)}
    assert tasks.Structure(*(tuple(part[0].tolist()) for part in (kinds, order, nouns))) in found


@pytest.mark.parametrize("length", LENGTHS)
def test_structures_fill_their_length(length: int) -> None:
    kinds, order, _ = tasks.structures(length, torch.device("cpu"))
    assert kinds.shape[1] == length and torch.equal(order.sort(1).values, torch.arange(length).expand_as(order))
    different = len({tuple(own) for own in kinds.tolist()})
    assert different == {4: 1, 5: 2, 7: 4}.get(length, different)  # counted by hand; of 7 words one has two clauses
    assert (kinds == CONJUNCTION).any() == (length >= 7)


def test_every_word_of_both_languages_is_said() -> None:
    source, target = draw("grammar", 10, 2000)
    assert set(source.flatten().tolist()) == set(range(sum(WORDS)))
    assert set(target.flatten().tolist()) == set(range(1 + sum(FORMS)))


def test_symbols_are_copied_reversed_and_sorted() -> None:
    for length in (SHORTEST, 9):
        for name, rule in (("copy", list), ("reverse", lambda words: list(words)[::-1]), ("sort", sorted)):
            source, target = draw(name, length)
            for own, its in zip(source.T.tolist(), target.T.tolist(), strict=True):
                assert its == [*(word + 1 for word in rule(own)), END]
    copied, reversed_ = draw("copy", 9), draw("reverse", 9)  # of the same symbols
    assert torch.equal(copied[0], reversed_[0]) and torch.equal(copied[1][:-1], reversed_[1][:-1].flip(0))


def test_unknown_tasks_and_networks_are_refused() -> None:
    with pytest.raises(UnknownName, match="task"):
        tasks.get("summary")
    with pytest.raises(UnknownName, match="network"):
        networks.build("gru", CASES["smoke"][0].spec, tasks.get("copy"), False, 0)


class ByHand(nn.Module):
    """Says what it was made to say, up to a length of the source; beyond it, its last word is wrong."""

    def __init__(self, name: str, longest: int) -> None:
        super().__init__()
        self.name, self.longest = name, longest
        self.readout = nn.Linear(1, tasks.get(name).target_words)

    def translate(self, source: Tensor) -> Tensor:
        if self.name == "grammar":
            every = tasks.structures(len(source), source.device)
            found = [self.one(own, every) for own in source.T.contiguous()]
            words = torch.stack(found, 1)
        else:
            words = {"copy": source, "reverse": source.flip(0), "sort": source.sort(0).values}[self.name] + 1
        said = tasks.closed(words)
        return said if len(source) <= self.longest else torch.cat([said[:-2], said[-1:], said[-1:]])

    def one(self, sentence: Tensor, every: Any) -> Tensor:
        """By the structure whose classes are the sentence's."""
        kinds = torch.bucketize(sentence, torch.tensor(SOURCE_STARTS), right=True) - 1
        which = int((every[0] == kinds).all(1).nonzero()[0, 0])
        return tasks.translated(sentence[None], *(each[which][None] for each in every))[0]

    def encode(self, source: Tensor) -> Any:
        return self.translate(source), 0

    def step(self, last: Tensor, start: Any) -> tuple[Tensor, Any]:
        said, at = start
        if at:
            assert torch.equal(last, said[at - 1])  # what it said is read before the next word
        else:
            assert (last == END).all()
        return self.logits(said[at]), (said, at + 1)

    def forward(self, source: Tensor, before: Tensor) -> Tensor:
        return self.logits(self.translate(source)[: len(before)])

    def logits(self, words: Tensor) -> Tensor:
        return 30.0 * nn.functional.one_hot(words, self.readout.out_features)


@pytest.mark.parametrize("name", TASKS)
def test_the_optimum_is_every_translation_exact(name: str) -> None:
    loss, exact = learning.judge(ByHand(name, longest=7), tasks.get(name), 9)  # pyright: ignore[reportArgumentType]
    np.testing.assert_array_equal(exact, [1.0] * 4 + [0.0] * 2)  # lengths 4 to 7, then 8 and 9
    assert loss[:4].max() < 1e-9 and loss[4:].min() > 1.0
