"""Sequences to translate, whose translation follows from the source: copies, reversals, sorted symbols, and a small grammar."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from impls import UnknownName

END = 0  # closes every target, and stands before its first word where a decoder begins
SYMBOLS = 10  # of copy, reverse and sort
SHORTEST = 4  # words of a source

Draw = Callable[[int, int, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class Task:
    """source_words, target_words: sizes of the vocabularies, `END` counted in the target's.

    draw: words of a source, a batch and a generator to sources [T, B] and targets [T + 1, B], which close with `END`.
    """

    name: str
    source_words: int
    target_words: int
    draw: Draw


def get(name: str) -> Task:
    """Raises `UnknownName` with the choices."""
    if name not in TASKS:
        raise UnknownName("task", name, TASKS)
    return TASKS[name]


def closed(words: Tensor) -> Tensor:
    """[T, B] with `END` after the last."""
    return torch.cat([words, torch.full_like(words[:1], END)])


def _of_symbols(arrange: Callable[[Tensor], Tensor]) -> Draw:
    def draw(length: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        source = torch.randint(SYMBOLS, (length, batch), generator=generator, device=generator.device)
        return source, closed(arrange(source) + 1)

    return draw


# The grammar. A sentence is clauses joined by a conjunction; a clause is a subject, a verb and perhaps an object; a subject or
# an object is a determiner, adjectives and a noun. In the target's language adjectives come after the noun, the last one first,
# the verb comes last in its clause, and the determiner agrees with its noun's gender.

DETERMINER, ADJECTIVE, NOUN, VERB, CONJUNCTION = range(5)
WORDS = (2, 6, 8, 6, 1)  # of each class, in the source's language
GENDERS = 2  # a noun's: its number modulo 2
MOST_ADJECTIVES = 2
FORMS = tuple(count * (GENDERS if kind == DETERMINER else 1) for kind, count in enumerate(WORDS))  # in the target's language
SOURCE_STARTS = tuple(sum(WORDS[:kind]) for kind in range(len(WORDS)))  # the first word of each class
TARGET_STARTS = tuple(1 + sum(FORMS[:kind]) for kind in range(len(WORDS)))
SHORTEST_CLAUSE = 3
STRUCTURES = 256  # drawn for each length; sentences pick among them


class Structure(NamedTuple):
    """Of a sentence of T words: each word's class; the source's places in the order of the target; the place of the noun that
    each word agrees with (its own place where it agrees with none)."""

    kinds: tuple[int, ...]
    order: tuple[int, ...]
    nouns: tuple[int, ...]


def structure(length: int, choose: random.Random) -> Structure:
    """Of so many words, at least three: clauses are drawn until one leaves room for the rest or fills the sentence."""
    kinds: list[int] = []
    order: list[int] = []
    nouns: list[int] = []
    while len(kinds) < length:
        if kinds:
            order.append(len(kinds))
            nouns.append(len(kinds))
            kinds.append(CONJUNCTION)
        clause = _clause(length - len(kinds), choose)
        verb, at = 0, len(kinds)
        for kind, adjectives in clause:
            if kind == VERB:
                verb = at
                nouns.append(at)
                kinds.append(VERB)
                at += 1
                continue
            noun = at + 1 + adjectives
            kinds += [DETERMINER, *[ADJECTIVE] * adjectives, NOUN]
            nouns += [noun, *range(at + 1, noun + 1)]
            order += [at, *range(noun, at, -1)]
            at = noun + 1
        order.append(verb)
    return Structure(tuple(kinds), tuple(order), tuple(nouns))


def _clause(room: int, choose: random.Random) -> list[tuple[int, int]]:
    """Subject, verb and perhaps object, with their numbers of adjectives; what is left over has room for another clause."""
    while True:
        clause = [(NOUN, choose.randint(0, MOST_ADJECTIVES)), (VERB, 0), (NOUN, choose.randint(0, MOST_ADJECTIVES))]
        clause = clause[: choose.choice((2, 3))]
        left = room - sum(1 if kind == VERB else 2 + adjectives for kind, adjectives in clause)
        if left == 0 or left >= 1 + SHORTEST_CLAUSE:
            return clause


@functools.cache
def structures(length: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Classes, order and nouns of the structures of a length, [N, T] each; the same in every process."""
    choose = random.Random(length)
    found = [structure(length, choose) for _ in range(STRUCTURES)]
    kinds, order, nouns = (torch.tensor(part, device=device) for part in zip(*found, strict=True))
    return kinds, order, nouns


def translated(source: Tensor, kinds: Tensor, order: Tensor, nouns: Tensor) -> Tensor:
    """The target's words of sources, all [B, T], by their structures."""
    source_starts, target_starts, words, forms = (
        torch.tensor(each, device=source.device) for each in (SOURCE_STARTS, TARGET_STARTS, WORDS, FORMS)
    )
    number = source - source_starts[kinds]
    gender = number.gather(1, nouns) % GENDERS
    inflected = torch.where(forms[kinds] > words[kinds], number * GENDERS + gender, number)
    return (target_starts[kinds] + inflected).gather(1, order)


def _sentences(length: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    every = structures(length, generator.device)
    picked = torch.randint(STRUCTURES, (batch,), generator=generator, device=generator.device)
    kinds, order, nouns = (each[picked] for each in every)
    words, starts = (torch.tensor(each, device=kinds.device) for each in (WORDS, SOURCE_STARTS))
    number = (torch.rand(kinds.shape, generator=generator, device=kinds.device) * words[kinds]).long()
    source = starts[kinds] + number
    return source.T.contiguous(), closed(translated(source, kinds, order, nouns).T)


TASKS = {
    task.name: task
    for task in (
        Task("copy", SYMBOLS, SYMBOLS + 1, _of_symbols(lambda source: source)),
        Task("reverse", SYMBOLS, SYMBOLS + 1, _of_symbols(lambda source: source.flip(0))),
        Task("sort", SYMBOLS, SYMBOLS + 1, _of_symbols(lambda source: source.sort(0).values)),
        Task("grammar", sum(WORDS), 1 + sum(FORMS), _sentences),
    )
}
