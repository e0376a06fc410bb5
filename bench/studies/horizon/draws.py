"""The tasks' sequences, drawn for many networks at once: inputs [T, S, B, I] and targets [answers, S, B]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bench.studies.horizon.tasks import ALPHABET, COPIED, TASKS, Task, first_symbol

Draw = Callable[[int, int, int, torch.Generator], tuple[Tensor, Tensor]]


def draw(task: Task, lag: int, seeds: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One fresh batch for each of the networks, on the generator's device; targets are classes, or numbers."""
    return _DRAWS[task.name](lag, seeds, batch, generator)


def _whole(low: int, high: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform on low … high, both included."""
    return torch.randint(low, high + 1, shape, generator=generator, device=generator.device)


def _one_hot(symbols: Tensor, size: int) -> Tensor:
    return torch.nn.functional.one_hot(symbols, size).float()


def _recall(lag: int, seeds: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One of two symbols, then `lag` distractors; say at the last step which it was.

    The latch problem of Bengio, Simard & Frasconi 1994 with the random distractors of Hochreiter & Schmidhuber 1997, task 2c.
    """
    symbols = _whole(2, ALPHABET + 1, (lag + 1, seeds, batch), generator)
    symbols[0] = _whole(0, 1, (seeds, batch), generator)
    return _one_hot(symbols, ALPHABET + 2), symbols[:1]


def _adding(lag: int, seeds: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A number in [0, 1) and a mark at each step, two of them marked, one in each half; say their sum at the last step.

    Hochreiter & Schmidhuber 1997, task 4, in the form of Arjovsky, Shah & Bengio 2016. Always to say 1 has an error of 1/6.
    """
    steps = lag + 1
    numbers = torch.rand((steps, seeds, batch), generator=generator, device=generator.device)
    marks, total = torch.zeros_like(numbers), torch.zeros_like(numbers[:1])
    for low, high in ((0, steps // 2 - 1), (steps // 2, steps - 1)):
        at = _whole(low, high, (1, seeds, batch), generator)
        marks.scatter_(0, at, 1.0)
        total += numbers.gather(0, at)
    return torch.stack((numbers, marks), -1), total


def _copy(lag: int, seeds: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`COPIED` symbols, blanks, a mark, and as many blanks during which to say them again, each `lag` steps after it came.

    Hochreiter & Schmidhuber 1997 and Arjovsky, Shah & Bengio 2016; here the answers alone are scored, not the blanks.
    """
    blank, mark = ALPHABET, ALPHABET + 1
    symbols = torch.full((lag + COPIED, seeds, batch), blank, device=generator.device)
    said = _whole(0, ALPHABET - 1, (COPIED, seeds, batch), generator)
    symbols[:COPIED], symbols[lag - 1] = said, mark
    return _one_hot(symbols, ALPHABET + 2), said


def _temporal_order(lag: int, seeds: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """E, distractors a to d, B; among them X or Y twice, after 1 to 2 and 5 to 6 tenths; say which of XX, XY, YX, YY.

    Hochreiter & Schmidhuber 1997, task 6a, with T from the lag instead of 100 to 110.
    """
    steps = TASKS["temporal_order"].steps(lag)
    symbols = _whole(0, 3, (steps, seeds, batch), generator)
    symbols[0], symbols[-1] = 6, 7
    answer = torch.zeros((1, seeds, batch), dtype=torch.long, device=generator.device)
    first = first_symbol(steps)
    for low, high in ((first, max(first, 2 * steps // 10)), (steps // 2, 6 * steps // 10)):
        which = _whole(0, 1, (1, seeds, batch), generator)
        symbols.scatter_(0, _whole(low, high, (1, seeds, batch), generator), 4 + which)
        answer = 2 * answer + which
    return _one_hot(symbols, ALPHABET), answer


_DRAWS: dict[str, Draw] = {"recall": _recall, "adding": _adding, "copy": _copy, "temporal_order": _temporal_order}
