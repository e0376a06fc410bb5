"""A mixture of copies: each sequence repeats itself at a lag of its own, which must be found out, with noise."""

from __future__ import annotations

import numpy as np

from bench.studies.quality.source import digest_of

VOCABULARY = 16
NOISE = 0.1  # share of tokens that are drawn anew instead of copied
SHORTEST = 4


class Copies:
    """The lag is one of 4, 8, 16, … `longest`, each as likely; x_t is x_{t − lag} but for noise.

    The optimum weighs the lags by what they have explained so far: Bayes' rule over lags, exact.
    """

    vocabulary = VOCABULARY

    def __init__(self, longest: int) -> None:
        self.lags = [lag for lag in (SHORTEST << power for power in range(32)) if lag <= longest]
        self.name = f"copy:{longest}"
        self.digest = digest_of(f"copy vocabulary={VOCABULARY} noise={NOISE} lags={self.lags}")

    def windows(self, random: np.random.Generator, steps: int, count: int) -> np.ndarray:
        tokens = random.integers(0, VOCABULARY, (steps, count))
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
            likely = np.full_like(weight, 1 / VOCABULARY)
            for place, lag in enumerate(self.lags):
                if step >= lag:
                    likely[place] = NOISE / VOCABULARY + (1 - NOISE) * (tokens == windows[step - lag])
            joint = weight * likely
            total = joint.sum(0)
            found[step], weight = -np.log(total), joint / total
        return found
