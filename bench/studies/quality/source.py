"""What every source of tokens gives: windows to train on, windows held out, and, where it is known, the best there is."""

from __future__ import annotations

import hashlib
from typing import Protocol

import numpy as np

from bench.harness.case import InvalidCase


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


def drawn(random: np.random.Generator, of: np.ndarray, steps: int, count: int) -> np.ndarray:
    """Windows [steps, count] from anywhere in a long array of tokens."""
    starts = random.integers(0, len(of) - steps + 1, count)
    return of[starts + np.arange(steps)[:, None]].astype(np.int64)


def number_of(name: str, least: int) -> int:
    """The number in `hmm:30`. Raises `InvalidCase` where there is none, or it is below `least`."""
    rule, _, text = name.partition(":")
    if not text.isdecimal() or int(text) < least:
        raise InvalidCase(f"source {rule} needs a whole number of at least {least}, as {rule}:{max(least, 30)}; got {name!r}")
    return int(text)
