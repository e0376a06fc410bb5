"""A hidden Markov source: a ruler for context, since how much of the past is worth knowing can be computed exactly."""

from __future__ import annotations

import numpy as np

from bench.studies.quality.source import digest_of

STATES, VOCABULARY = 4, 16
OWN_SHARE = 0.4  # of a state's tokens that are of its own quarter of the vocabulary; the others are any


class HiddenMarkov:
    """A state stays for `dwell` tokens in the mean, then becomes one of the others; each state prefers tokens of its own.

    The stationary distribution is uniform, and every window begins in it.
    """

    vocabulary = VOCABULARY

    def __init__(self, dwell: int) -> None:
        self.name = f"hmm:{dwell}"
        self.digest = digest_of(f"hmm states={STATES} vocabulary={VOCABULARY} own={OWN_SHARE} dwell={dwell}")
        self.leaves = 1 / dwell
        own = VOCABULARY // STATES
        self.emission = np.full((STATES, VOCABULARY), (1 - OWN_SHARE) / VOCABULARY)
        for state in range(STATES):
            self.emission[state, state * own : (state + 1) * own] += OWN_SHARE / own
        self.transition = np.full((STATES, STATES), self.leaves / (STATES - 1))
        np.fill_diagonal(self.transition, 1 - self.leaves)

    def windows(self, random: np.random.Generator, steps: int, count: int) -> np.ndarray:
        moves = np.where(random.random((steps, count)) < self.leaves, random.integers(1, STATES, (steps, count)), 0)
        moves[0] = random.integers(0, STATES, count)
        states = np.cumsum(moves, 0) % STATES
        own = VOCABULARY // STATES
        of_state = states * own + random.integers(0, own, (steps, count))
        return np.where(random.random((steps, count)) < OWN_SHARE, of_state, random.integers(0, VOCABULARY, (steps, count)))

    held_out = windows

    def optimum(self, windows: np.ndarray) -> np.ndarray:
        predicted = self.predictions(windows)
        return -np.log(np.take_along_axis(predicted, windows[..., None], -1)[..., 0])

    def predictions(self, windows: np.ndarray) -> np.ndarray:
        """p(x_t | x_<t) for every token of the vocabulary, [T, N, V]: the forward algorithm (Rabiner 1989, section III.A)."""
        belief = np.full((windows.shape[1], STATES), 1 / STATES)
        found = np.empty((*windows.shape, VOCABULARY))
        for step, tokens in enumerate(windows):
            found[step] = belief @ self.emission
            seen = belief * self.emission[:, tokens].T
            belief = seen / seen.sum(1, keepdims=True) @ self.transition
        return found
