"""The tasks: what each asks for and how long a sequence a lag takes; `bench.studies.horizon.learning` samples their data."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from impls import UnknownName

ALPHABET = 8  # symbols of `copy`, and distractors of `recall`
COPIED = 3  # symbols to be copied; Arjovsky, Shah & Bengio 2016 have 10, with budgets a thousand times ours
SHARE_RIGHT = 0.97
SQUARED_ERROR = 0.01  # Hochreiter & Schmidhuber 1997, task 4: "average training error is below 0.01"


@dataclass(frozen=True, slots=True)
class Task:
    """A network reads `inputs` numbers a step and answers at the last `answers` steps with one of `outputs` classes, or with
    a number where `squared`. Its score on a batch is the share of right answers, or the mean squared error where `squared`.

    steps: T of the shortest sequence in which what matters lies up to `lag` steps before the answer that needs it.
    """

    name: str
    inputs: int
    outputs: int
    answers: int
    least_lag: int
    steps: Callable[[int], int]
    squared: bool = False


def get(name: str) -> Task:
    """Raises `UnknownName` with the choices."""
    if name not in TASKS:
        raise UnknownName("task", name, TASKS)
    return TASKS[name]


def first_symbol(steps: int) -> int:
    """Of temporal order: a tenth of the way in."""
    return max(1, steps // 10)


def _order_steps(lag: int) -> int:
    return next(steps for steps in itertools.count(lag + 2) if steps - 1 - first_symbol(steps) == lag)


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("recall", ALPHABET + 2, 2, 1, 1, lambda lag: lag + 1),
        Task("adding", 2, 1, 1, 3, lambda lag: lag + 1, squared=True),
        Task("copy", ALPHABET + 2, ALPHABET, COPIED, COPIED + 1, lambda lag: lag + COPIED),
        Task("temporal_order", ALPHABET, 4, 1, 4, _order_steps),
    )
}
