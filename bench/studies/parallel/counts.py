"""Operations, critical path and memory of an LSTM's recurrence, stepped and by Newton's method: counted, for any sizes.

The product with the input, W x + b of all steps, is left out of both: it needs no recurrence. An addition, a multiplication and
a nonlinearity are one operation each. The critical path is the longest chain of operations that wait for one another, with as
many processors as one likes: a sum of n terms is log2 n additions deep. `tests/bench/studies/parallel/test_counts.py` counts
the program itself, operator by operator, and gets the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

STEP, SLOPES, RESIDUAL = 13, 15, 6  # operations a unit and step beside the product with W_hh
KEPT = 6  # values a unit and step that stepping keeps for a backward pass: four gates, h and c


@dataclass(frozen=True, slots=True)
class Cost:
    """work: operations in all. path: those on the critical path. values: kept at once."""

    work: int
    path: int
    values: int


def stepped(hidden: int, steps: int, diagonal: bool) -> Cost:
    """One step after the other, forward."""
    return Cost(
        steps * (_products(hidden, diagonal) + STEP * hidden), steps * _step_path(hidden, diagonal), steps * KEPT * hidden
    )


def newton(hidden: int, steps: int, rounds: int, diagonal: bool, jacobian: str) -> Cost:
    """All at once, forward, with the check after each round and before the first.

    Args:
        hidden: H.
        steps: T.
        rounds: Linear systems solved.
        diagonal: Whether the recurrent matrices are diagonal.
        jacobian: A structure of `bench.studies.parallel.newton`.
    """
    size = 2 * hidden
    # Operations to assemble a map, to multiply two, to apply one; values of one; how deep a product is, and the assembly
    # behind the step itself.
    assembled, multiplied, applied, values, deep = {
        "full": (8 * hidden * hidden + hidden, 2 * size**3, 2 * size**2, size**2, 1 + _log(size)),
        "blocks": (9 * hidden, 12 * hidden, 6 * hidden, 4 * hidden, 2),
        "quasi": (8 * hidden, size, size, size, 1),
    }[jacobian]
    evaluated = steps * (_products(hidden, diagonal) + (STEP + SLOPES + RESIDUAL) * hidden)
    products, applications, levels = _scan(steps)
    solved = steps * (assembled + applied + size) + products * multiplied + applications * (applied + size)
    check = _step_path(hidden, diagonal) + 2 + _log(steps * size)
    system = _step_path(hidden, diagonal) + 4 + deep + 1 + levels * (deep + 1)
    # The check of a guess runs beside the next system; the last one ends it.
    path = rounds * system + check
    return Cost((rounds + 1) * evaluated + rounds * solved, path, steps * (2 * values + 2 * size + 7 * hidden))


def processors(one: Cost, other: Cost) -> float | None:
    """Processors from which on `other`, of the shorter critical path, takes less time by Brent's bound, work / p + path.

    None where its path is not the shorter one: then no number of processors is enough (Brent 1974).
    """
    saved = one.path - other.path
    return None if saved <= 0 else max(1.0, (other.work - one.work) / saved)


def _products(hidden: int, diagonal: bool) -> int:
    return 4 * hidden if diagonal else 8 * hidden * hidden


def _step_path(hidden: int, diagonal: bool) -> int:
    """The product with W_hh, its addition to the input, a gate, i·g + f·c, tanh, and the product with o."""
    return (1 if diagonal else 1 + _log(hidden)) + 6


def _scan(steps: int) -> tuple[int, int, int]:
    """Products of maps, applications of maps, and levels, up and down, of `newton.prefixes`."""
    if steps == 1:
        return 0, 0, 0
    pairs, rest = steps // 2, (steps + 1) // 2 - 1
    products, applications, levels = _scan(pairs)
    return products + pairs, applications + pairs + rest, levels + 1 + (rest > 0)


def _log(terms: int) -> int:
    return math.ceil(math.log2(terms))
