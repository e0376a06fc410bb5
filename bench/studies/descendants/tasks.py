"""The tasks as tokens and targets, drawn afresh for every update; a target of −1 is not asked for."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from impls import UnknownName

NOT_ASKED = -1
POINTS = 5  # that S5 permutes
GENERATORS = ((1, 0, 2, 3, 4), (1, 2, 3, 4, 0))  # a swap and a cycle, which generate all 120
KEYS, VALUES = 32, 16  # of associative recall
SYMBOLS, COPIED = 8, 4  # of selective copy
Permutation = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """tokens: sizes of the vocabularies whose embeddings are added. outputs: answers a step, and classes of each.

    draw: a size (what grows: steps, or pairs to recall), a batch and a generator to tokens [T, B, F] and targets [T, B, A].
    """

    name: str
    tokens: tuple[int, ...]
    outputs: tuple[int, int]
    draw: Callable[[int, int, torch.Generator], tuple[Tensor, Tensor]]


def get(name: str) -> Task:
    """Raises `UnknownName` with the choices."""
    if name not in TASKS:
        raise UnknownName("task", name, TASKS)
    return TASKS[name]


def _draw(high: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(high, shape, generator=generator, device=generator.device)


def _parity(steps: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Bits; at every step, whether the ones so far are odd in number."""
    bits = _draw(2, (steps, batch, 1), generator)
    return bits, bits.cumsum(0) % 2


def compose(later: Permutation, earlier: Permutation) -> Permutation:
    """later ∘ earlier: point p goes to later[earlier[p]]."""
    return tuple(later[point] for point in earlier)


def group() -> list[Permutation]:
    """All permutations of five points."""
    return list(itertools.permutations(range(POINTS)))


def _s5(steps: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The word problem of S5 (Merrill et al. 2024): which permutation is the product so far; told by where it puts each of
    the five points, all of which must be right."""
    which = _draw(len(GENERATORS), (steps, batch), generator)
    table = torch.tensor(GENERATORS, device=which.device)
    now = torch.arange(POINTS, device=which.device).expand(batch, POINTS)
    found = []
    for at_step in which:
        now = table[at_step].gather(1, now)
        found.append(now)
    return which[..., None], torch.stack(found)


def _recall(pairs: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pairs of a key and a value, one a step; then every key again in another order, to be answered with its value (multi-query
    associative recall, Arora et al. 2024, with a pair in one step, so that no network needs a convolution to join them)."""
    device = generator.device
    order = torch.rand((KEYS, batch), generator=generator, device=device).argsort(0)
    keys = order[:pairs]
    values = _draw(VALUES, (pairs, batch), generator)
    again = torch.rand((pairs, batch), generator=generator, device=device).argsort(0)
    asked = torch.full_like(values, VALUES)  # the token of a value that is asked for
    tokens = torch.stack([torch.cat([keys, keys.gather(0, again)]), torch.cat([values, asked])], -1)
    targets = torch.cat([torch.full_like(values, NOT_ASKED), values.gather(0, again)])
    return tokens, targets[..., None]


def _selective_copy(steps: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Symbols at random places among blanks; then as many marks, at which to say them in order (Gu & Dao 2023, 4.1.1)."""
    blank, mark = SYMBOLS, SYMBOLS + 1
    places = torch.rand((steps, batch), generator=generator, device=generator.device).argsort(0)[:COPIED].sort(0).values
    symbols = _draw(SYMBOLS, (COPIED, batch), generator)
    read = torch.full((steps, batch), blank, device=generator.device).scatter(0, places, symbols)
    tokens = torch.cat([read, torch.full_like(symbols, mark)])
    targets = torch.cat([torch.full_like(read, NOT_ASKED), symbols])
    return tokens[..., None], targets[..., None]


TASKS = {
    task.name: task
    for task in (
        Task("parity", (2,), (1, 2), _parity),
        Task("s5", (len(GENERATORS),), (POINTS, POINTS), _s5),
        Task("recall", (KEYS, VALUES + 1), (1, VALUES), _recall),
        Task("selective_copy", (SYMBOLS + 2,), (1, SYMBOLS), _selective_copy),
    )
}
