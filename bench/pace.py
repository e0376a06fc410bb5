"""How long the parts of a timed case take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """`rounds` turns a backend of `turn_seconds` each, after `warm_seconds` busy."""

    rounds: int
    turn_seconds: float
    warm_seconds: float
