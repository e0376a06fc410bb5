"""Generated languages with agreement: a verb takes the form that its subject's feature asks for, over other words and nouns.

A sentence is filler words, the subject, then fillers and prepositional phrases (a preposition and a noun, the attractor) in any
order, and the verb. The subject is the one noun without a preposition; the form that a verb must have is known by Bayes' rule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from impls import UnknownName

NOUNS, PREPOSITIONS, FILLERS, VERBS = 6, 2, 6, 3  # words: nouns of each feature and of those that show none, verbs of each form
UNMARKED = 2  # stands where a feature would, of a noun that does not show its own
PREPOSITION = 3 * NOUNS  # the first of them
FILLER = PREPOSITION + PREPOSITIONS
VERB = FILLER + FILLERS
VOCABULARY = VERB + 2 * VERBS
OTHER, PHRASE, ATTRACTOR, SUBJECT = range(4)  # what a word is: a filler, a preposition, a noun after one, the subject
MOST_ATTRACTORS = 3


@dataclass(frozen=True, slots=True)
class Language:
    """unmarked: share of nouns that do not show their feature. alike: probability that an attractor has the subject's."""

    name: str
    unmarked: float
    alike: float

    def posterior(self, shown: np.ndarray, balance: np.ndarray) -> np.ndarray:
        """P(the verb's form is 1) given the words before it; see `Sentences`."""
        odds = (self.alike / (1 - self.alike)) ** balance.astype(float)
        return np.where(shown == UNMARKED, odds / (1 + odds), shown)

    def best_accuracy(self, attractors: int) -> float:
        """Of the form, by who knows the language, over all sentences with so many attractors: one that shows its feature is a
        vote, which counts where the subject shows none."""
        found = 0.0
        for votes in range(attractors + 1):
            showing = math.comb(attractors, votes) * (1 - self.unmarked) ** votes * self.unmarked ** (attractors - votes)
            for right in range(votes + 1):
                likely = math.comb(votes, right) * self.alike**right * (1 - self.alike) ** (votes - right)
                found += showing * likely * (0.5 if 2 * right == votes else float((2 * right > votes) == (self.alike > 0.5)))
        return 1 - self.unmarked + self.unmarked * found


LANGUAGES = {each.name: each for each in (Language("number", 0.0, 0.5), Language("gender", 0.2, 0.7))}


def get(name: str) -> Language:
    """Raises `UnknownName` with the choices."""
    if name not in LANGUAGES:
        raise UnknownName("language", name, LANGUAGES)
    return LANGUAGES[name]


@dataclass(frozen=True, slots=True)
class Sentences:
    """N sentences up to their verbs.

    tokens: [T, N]. distance: from subject to verb, 1 where they are neighbours. attractors: nouns between. form: the verb's.
    shown: what the subject shows, perhaps `UNMARKED`. balance: attractors that show 1 less those that show 0. All but the
    first [N].
    """

    tokens: np.ndarray
    distance: np.ndarray
    attractors: np.ndarray
    form: np.ndarray
    shown: np.ndarray
    balance: np.ndarray


def most_attractors(distance: np.ndarray) -> np.ndarray:
    """Who fits between a subject and its verb, of two words each; at most three."""
    return np.minimum(MOST_ATTRACTORS, (distance - 1) // 2)


def sample(language: Language, random: np.random.Generator, steps: int, count: int) -> Sentences:
    """Distances uniform on 1 … steps − 1, then attractors on 0 … as many as fit."""
    distance = random.integers(1, steps, count)
    attractors = random.integers(0, most_attractors(distance) + 1)
    form = random.integers(0, 2, count)
    others = np.where(random.random((MOST_ATTRACTORS, count)) < language.alike, form, 1 - form)
    features = np.concatenate([form[None], others])
    features[random.random(features.shape) < language.unmarked] = UNMARKED
    return write(random, steps, distance, attractors, form, features)


def opposed(random: np.random.Generator, steps: int, distance: np.ndarray, attractors: np.ndarray) -> Sentences:
    """Sentences of such distances and attractors, whose subjects show their feature and whose attractors all show the other."""
    form = np.arange(len(distance)) % 2
    return write(random, steps, distance, attractors, form, np.stack([form] + [1 - form] * MOST_ATTRACTORS))


def write(
    random: np.random.Generator, steps: int, distance: np.ndarray, attractors: np.ndarray, form: np.ndarray,
    features: np.ndarray,
) -> Sentences:  # fmt: skip
    """features: that the subject and the attractors show, [1 + MOST_ATTRACTORS, N]; the others of each argument [N]."""
    everyone, others = np.arange(len(distance)), features[1:]
    tokens = random.integers(FILLER, VERB, (steps, len(distance)))
    tokens[steps - distance, everyone] = _noun(random, features[0])
    # Parts between subject and verb, fillers and phrases in any order: the first so many by random keys are phrases.
    keys = random.random((steps, len(distance)))
    keys[np.arange(steps)[:, None] >= distance - 1 - attractors] = math.inf
    phrase = keys.argsort(0).argsort(0) < attractors
    part, which = np.nonzero(phrase)
    number = phrase.cumsum(0)[part, which] - 1  # phrases before it, each a word longer than a filler
    first = steps - distance[which] + 1 + part + number
    tokens[first, which] = random.integers(PREPOSITION, FILLER, len(which))
    tokens[first + 1, which] = _noun(random, others[number, which])
    balance = ((others == 1).astype(int) - (others == 0))[number, which]
    return Sentences(
        tokens, distance, attractors, form, features[0], np.bincount(which, balance, len(distance)).round().astype(int)
    )


def _noun(random: np.random.Generator, shown: np.ndarray) -> np.ndarray:
    return NOUNS * shown + random.integers(0, NOUNS, shown.shape)


def in_places(random: np.random.Generator, steps: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Sentences as of `opposed` at the longest distance with all attractors, the same places in each.

    Returns: what each word is, [T], and tokens [T, count].
    """
    distance, attractors = np.full(count, steps - 1), np.full(count, MOST_ATTRACTORS)
    each = opposed(random, steps, distance, attractors)
    one = each.tokens[:, 0]
    nouns = np.flatnonzero(one < PREPOSITION)
    words = np.where(one < FILLER, PHRASE, OTHER)
    words[nouns] = [SUBJECT] + [ATTRACTOR] * MOST_ATTRACTORS
    tokens = random.integers(FILLER, VERB, (steps, count))
    tokens[words == PHRASE] = random.integers(PREPOSITION, FILLER, (MOST_ATTRACTORS, count))
    tokens[words == SUBJECT] = _noun(random, each.form)
    tokens[words == ATTRACTOR] = _noun(random, np.tile(1 - each.form, (MOST_ATTRACTORS, 1)))
    return words, tokens


def verbs(random: np.random.Generator, sentences: Sentences) -> np.ndarray:
    """A verb of the form that each sentence asks for, [N]."""
    return VERB + VERBS * sentences.form + random.integers(0, VERBS, len(sentences.form))
