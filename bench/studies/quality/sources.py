"""Where tokens come from: generated sources and text."""

from __future__ import annotations

import functools
import hashlib
import os
import sysconfig
from pathlib import Path
from typing import Protocol

import numpy as np

from bench.harness.case import Case, InvalidCase
from bench.harness.study import get_paths
from impls import UnknownName
from lstm_bench.errors import UserError

# What every source of tokens gives: windows to train on, windows held out, and, where it is known, the best there is.


class Source(Protocol):
    """Tokens are whole numbers below `vocabulary`; a window is int64 [T, N], N sequences of T tokens.

    digest: SHA-256 in hexadecimal of all that the tokens depend on: the text itself, or a generator's parameters.
    """

    name: str
    vocabulary: int
    digest: str

    def windows(self, random: np.random.Generator, steps: int, count: int) -> np.ndarray:
        """Windows to train on."""
        ...

    def held_out(self, random: np.random.Generator, steps: int, count: int) -> np.ndarray:
        """Windows of what is never trained on."""
        ...

    def optimum(self, windows: np.ndarray) -> np.ndarray | None:
        """The least loss any model can have in the mean, −ln p(x_t | x_<t) in nats [T, N], each sequence beginning with the
        window; None where nobody knows it."""
        ...


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def sample_windows(random: np.random.Generator, of: np.ndarray, steps: int, count: int) -> np.ndarray:
    """Windows [steps, count] from anywhere in a long array of tokens."""
    starts = random.integers(0, len(of) - steps + 1, count)
    return of[starts + np.arange(steps)[:, None]].astype(np.int64)


def number_of(name: str, least: int) -> int:
    """The number in `hmm:30`. Raises `InvalidCase` where there is none, or it is below `least`."""
    rule, _, text = name.partition(":")
    if not text.isdecimal() or int(text) < least:
        raise InvalidCase(f"source {rule} needs a whole number of at least {least}, as {rule}:{max(least, 30)}; got {name!r}")
    return int(text)


# A mixture of copies: each sequence repeats itself at a lag of its own, which must be found out, with noise.

VOCABULARY_COPYING = 16
NOISE = 0.1  # share of tokens that are drawn anew instead of copied
SHORTEST = 4


class Copies:
    """The lag is one of 4, 8, 16, … `longest`, each as likely; x_t is x_{t − lag} but for noise.

    The optimum weighs the lags by what they have explained so far: Bayes' rule over lags, exact.
    """

    vocabulary = VOCABULARY_COPYING

    def __init__(self, longest: int) -> None:
        self.lags = [lag for lag in (SHORTEST << power for power in range(32)) if lag <= longest]
        self.name = f"copy:{longest}"
        self.digest = digest_of(f"copy vocabulary={VOCABULARY_COPYING} noise={NOISE} lags={self.lags}")

    def windows(self, random: np.random.Generator, steps: int, count: int) -> np.ndarray:
        tokens = random.integers(0, VOCABULARY_COPYING, (steps, count))
        lags = random.choice(self.lags, count)
        copied = random.random((steps, count)) >= NOISE
        everyone = np.arange(count)
        for step in range(SHORTEST, steps):
            before = step - lags
            kept = copied[step] & (before >= 0)
            tokens[step] = np.where(kept, tokens[np.maximum(before, 0), everyone], tokens[step])
        return tokens

    held_out = windows

    def optimum(self, windows: np.ndarray) -> np.ndarray:
        weight = np.full((len(self.lags), windows.shape[1]), 1 / len(self.lags))
        found = np.empty(windows.shape)
        for step, tokens in enumerate(windows):
            likely = np.full_like(weight, 1 / VOCABULARY_COPYING)
            for place, lag in enumerate(self.lags):
                if step >= lag:
                    likely[place] = NOISE / VOCABULARY_COPYING + (1 - NOISE) * (tokens == windows[step - lag])
            joint = weight * likely
            total = joint.sum(0)
            found[step], weight = -np.log(total), joint / total
        return found


# A hidden Markov source: a ruler for context, since how much of the past is worth knowing can be computed exactly.

STATES, VOCABULARY_HMM = 4, 16
OWN_SHARE = 0.4  # of a state's tokens that are of its own quarter of the vocabulary; the others are any


class HiddenMarkov:
    """A state stays for `dwell` tokens in the mean, then becomes one of the others; each state prefers tokens of its own.

    The stationary distribution is uniform, and every window begins in it.
    """

    vocabulary = VOCABULARY_HMM

    def __init__(self, dwell: int) -> None:
        self.name = f"hmm:{dwell}"
        self.digest = digest_of(f"hmm states={STATES} vocabulary={VOCABULARY_HMM} own={OWN_SHARE} dwell={dwell}")
        self.leaves = 1 / dwell
        own = VOCABULARY_HMM // STATES
        self.emission = np.full((STATES, VOCABULARY_HMM), (1 - OWN_SHARE) / VOCABULARY_HMM)
        for state in range(STATES):
            self.emission[state, state * own : (state + 1) * own] += OWN_SHARE / own
        self.transition = np.full((STATES, STATES), self.leaves / (STATES - 1))
        np.fill_diagonal(self.transition, 1 - self.leaves)

    def windows(self, random: np.random.Generator, steps: int, count: int) -> np.ndarray:
        moves = np.where(random.random((steps, count)) < self.leaves, random.integers(1, STATES, (steps, count)), 0)
        moves[0] = random.integers(0, STATES, count)
        states = np.cumsum(moves, 0) % STATES
        own = VOCABULARY_HMM // STATES
        of_state = states * own + random.integers(0, own, (steps, count))
        return np.where(random.random((steps, count)) < OWN_SHARE, of_state, random.integers(0, VOCABULARY_HMM, (steps, count)))

    held_out = windows

    def optimum(self, windows: np.ndarray) -> np.ndarray:
        predicted = self.predictions(windows)
        return -np.log(np.take_along_axis(predicted, windows[..., None], -1)[..., 0])

    def predictions(self, windows: np.ndarray) -> np.ndarray:
        """p(x_t | x_<t) for every token of the vocabulary, [T, N, V]: the forward algorithm (Rabiner 1989, section III.A)."""
        belief = np.full((windows.shape[1], STATES), 1 / STATES)
        found = np.empty((*windows.shape, VOCABULARY_HMM))
        for step, tokens in enumerate(windows):
            found[step] = belief @ self.emission
            seen = belief * self.emission[:, tokens].T
            belief = seen / seen.sum(1, keepdims=True) @ self.transition
        return found


# Real text as bytes: the Python standard library's own source, which is always there, or a file the user names.

HELD_OUT_EVERY = 10  # blocks of which one is held out
LARGEST_BLOCK = 65_536  # bytes
FOREIGN = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}  # not everywhere, or not of Python
SHOWN = 12  # hexadecimal digits of a corpus's hash in a case's key


class InvalidCorpus(UserError, ValueError):
    """A corpus that cannot be read or is too short; the message says what to name instead."""


class Text:
    """Bytes as tokens. Of every ten blocks one is held out, so that both parts are of all there is."""

    vocabulary = 256
    name = "text"

    def __init__(self, data: bytes, called: str, longest: int) -> None:
        """longest: tokens of the longest window that will be asked for. Raises `InvalidCorpus` where the text is too short."""
        tokens = np.frombuffer(data, np.uint8)
        block = min(LARGEST_BLOCK, len(tokens) // HELD_OUT_EVERY)
        if block < longest:
            raise InvalidCorpus(
                f"{called} has {len(tokens)} bytes, of which a tenth is held out: too few for one window of {longest}; "
                f"name a file of at least {HELD_OUT_EVERY * longest} bytes with --corpus"
            )
        out = np.arange(len(tokens)) // block % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        self.digest, self.size = hashlib.sha256(data).hexdigest(), len(tokens)
        self._train, self._held_out = tokens[~out], tokens[out]

    def windows(self, random: np.random.Generator, steps: int, count: int) -> np.ndarray:
        return sample_windows(random, self._train, steps, count)

    def held_out(self, random: np.random.Generator, steps: int, count: int) -> np.ndarray:
        return sample_windows(random, self._held_out, steps, count)

    def optimum(self, windows: np.ndarray) -> None:
        return None


def of_file(path: Path, longest: int) -> Text:
    """The user's corpus. Raises `InvalidCorpus`."""
    return Text(corpus_bytes(path), f"corpus {path}", longest)


def corpus_bytes(path: Path) -> bytes:
    """Raises `InvalidCorpus` where there is no such file, or nothing in it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidCorpus(f"cannot read corpus {path}: {error.strerror}; name a file of text or any bytes") from error
    if not data:
        raise InvalidCorpus(f"corpus {path} is empty; name a file of text or any bytes")
    return data


def corpus_name(path: Path) -> str:
    """What a record calls the corpus: the beginning of its hash, never where it lies."""
    return hashlib.sha256(corpus_bytes(path)).hexdigest()[:SHOWN]


def of_standard_library(longest: int) -> Text:
    return Text(standard_library(), "Python's standard library", longest)


@functools.cache
def standard_library() -> bytes:
    """Every module's source in the order of their paths."""
    return b"".join(path.read_bytes() for path in standard_modules())


def standard_modules() -> list[Path]:
    """Of the standard library, in order, without tests, which some distributions leave out."""
    found = []
    for folder, inside, files in os.walk(sysconfig.get_path("stdlib")):
        inside[:] = [name for name in inside if name not in FOREIGN]
        found += [Path(folder, name) for name in files if name.endswith(".py")]
    return sorted(found)


# A case's source by its factors: `source=text`, `hmm:30`, `copy:32`; the user's corpus by its hash.

NAMES = ("text", "hmm:<tokens a state stays>", "copy:<longest lag>")
CORPUS = "corpus"  # the factor that names a user's corpus, by the beginning of its hash


def of_case(case: Case, longest: int) -> Source:
    """longest: tokens of the longest window that will be asked for. Raises `UnknownName`, `InvalidCase`, `InvalidCorpus`."""
    name = str(case.factor("source"))
    rule = name.partition(":")[0]
    if rule == "hmm":
        return HiddenMarkov(number_of(name, 2))
    if rule == "copy":
        return Copies(number_of(name, SHORTEST))
    if name != "text":
        raise UnknownName("source", name, NAMES)
    wanted = dict(case.factors).get(CORPUS)
    return of_standard_library(longest) if wanted is None else _corpus(str(wanted), longest)


def _corpus(wanted: str, longest: int) -> Text:
    path = get_paths().corpus
    if path is None:
        raise InvalidCorpus(f"this case is of the corpus {wanted}, and none was named; name it with --corpus FILE")
    found = of_file(path, longest)
    if not found.digest.startswith(wanted):
        raise InvalidCorpus(
            f"this case is of the corpus {wanted}, and {path} has the hash {found.digest[:SHOWN]}; name the file it was"
        )
    return found
