"""How much of a fault loop runs: a small dose in every test run, all of it where LSTM_BENCH_FAULTS=full asks for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

VARIABLE = "LSTM_BENCH_FAULTS"
Item = TypeVar("Item")


def is_full() -> bool:
    return os.environ.get(VARIABLE) == "full"


def dose(items: Sequence[Item], small: int) -> Sequence[Item]:
    """All of them, or so many spread evenly over them."""
    if is_full() or len(items) <= small:
        return items
    return [items[number * len(items) // small] for number in range(small)]
