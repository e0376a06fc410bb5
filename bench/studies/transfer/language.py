"""A generated language of two hidden tags a word: a class that follows the one before, as parts of speech, and a lasting topic.

Both together are one hidden Markov chain, so that the best any tagger can do is known by the forward–backward algorithm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.studies.direction import tagging
from impls import UnknownName

CLASSES = TOPICS = 4
VOCABULARY = 64
TAGS = ("class", "topic")  # a joint state is TOPICS · class + topic
AFTER = (0.1, 0.7, 0.1, 0.1)  # chance that the class moves on by 0, 1, 2 or 3
LASTS = 20  # words that a topic stays for in the mean
PEAKED, SHARED = 0.1, 0.3  # concentration of a state's own words; share of words that are any
WORDS_SEED = 5


@dataclass(frozen=True, slots=True)
class Sentences:
    """Words and both tags of each, int64 [T, N]."""

    tokens: np.ndarray
    classes: np.ndarray
    topics: np.ndarray

    def tags(self, tag: str) -> np.ndarray:
        """Raises `UnknownName`."""
        if tag not in TAGS:
            raise UnknownName("tag", tag, TAGS)
        return self.classes if tag == "class" else self.topics


class Language:
    """emission [K, V] and transition [K, K] of the joint states; every sentence begins in the stationary, uniform
    distribution."""

    def __init__(self) -> None:
        own = np.random.default_rng(WORDS_SEED).dirichlet(np.full(VOCABULARY, PEAKED), CLASSES * TOPICS)
        self.emission = SHARED / VOCABULARY + (1 - SHARED) * own
        moves = np.array([np.roll(AFTER, each) for each in range(CLASSES)])
        stays = np.full((TOPICS, TOPICS), 1 / LASTS / (TOPICS - 1))
        np.fill_diagonal(stays, 1 - 1 / LASTS)
        self.transition = np.kron(moves, stays)

    def sample(self, random: np.random.Generator, steps: int, count: int) -> Sentences:
        shape = (steps, count)
        moves = random.choice(CLASSES, shape, p=AFTER)
        changes = np.where(random.random(shape) < 1 / LASTS, random.integers(1, TOPICS, shape), 0)
        moves[0], changes[0] = random.integers(0, CLASSES, count), random.integers(0, TOPICS, count)
        classes, topics = moves.cumsum(0) % CLASSES, changes.cumsum(0) % TOPICS
        ends, drawn = self.emission.cumsum(1), random.random(shape)
        states, tokens = TOPICS * classes + topics, np.empty(shape, np.int64)
        for state, end in enumerate(ends):
            there = states == state
            tokens[there] = np.searchsorted(end, drawn[there])
        return Sentences(tokens.clip(max=VOCABULARY - 1), classes, topics)

    def posterior(self, tokens: np.ndarray, tag: str) -> np.ndarray:
        """p(tag of word t | all words), [T, N, 4]: nothing tags better."""
        joint = tagging.smoothed(self, tokens).reshape(*tokens.shape, CLASSES, TOPICS)
        return joint.sum(-1 if tag == "class" else -2)

    def next_word_optimum(self, tokens: np.ndarray) -> float:
        """The least loss that any model has on the words after the first, each from those before it, nats a word."""
        after = tagging.filtered(self, tokens)[:-1] @ self.transition @ self.emission
        return float(tagging.surprise(after, tokens[1:]).mean())
