"""How long the parts of a timed case take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

Side = TypeVar("Side")
LEAST_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class Pace:
    """`rounds` turns a backend of `turn_seconds` each, after `warm_seconds` busy.

    busy_seconds: after which all backends together have had their turns, but no fewer than `LEAST_ROUNDS` each.
    """

    rounds: int
    turn_seconds: float
    warm_seconds: float
    busy_seconds: float = math.inf


def order(sides: Sequence[Side], number: int) -> list[Side]:
    """Who is when, in a round or replicate: as given, and reversed in every second one (ABBA), so that drift hits all alike."""
    return list(sides[:: 1 if number % 2 == 0 else -1])
