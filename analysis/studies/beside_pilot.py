"""Our number beside the pilot's: is it inside our interval, and if not, why not?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from analysis.statistics import quantities
from analysis.statistics.seeds import Estimate

NEVER = "never"
NOT_EXPLAINED = "**not explained**"


@dataclass(frozen=True, slots=True)
class Cell:
    """pilot: as it was printed, "never" for a threshold that was not reached, "" where there is none. why: if outside."""

    measured: Callable[[pd.DataFrame], Estimate]
    pilot: str = ""
    why: str = ""


@dataclass(slots=True)
class Notes:
    """Reasons by letter, each once."""

    said: list[str] = field(default_factory=list)

    def letter(self, why: str) -> str:
        if why not in self.said:
            self.said.append(why)
        return f"({chr(ord('a') + self.said.index(why))})"

    def lines(self) -> list[str]:
        return [f"({chr(ord('a') + place)}) {why}" for place, why in enumerate(self.said)]


def of(name: str, selection: str) -> Callable[[pd.DataFrame], Estimate]:
    return lambda series: quantities.estimate(name, series, selection)


def inside(pilot: str, found: Estimate) -> bool | None:
    """Whether the pilot's number, as exact as it was printed, meets our interval; None where there is no interval.

    pilot: a number, in per cent or after ">", a range as 3.3–4.0, or "never".
    """
    if pilot == NEVER:
        return None if found.bounds is None else found.value is None and found.beyond is not None
    if found.bounds is None:
        return None
    ends = [_printed(end) for end in pilot.lstrip("> ").split("–")]
    low, high = ends[0][0], ends[-1][1]
    if pilot.startswith(">"):
        return found.value is None or found.value > low
    return low <= found.bounds[1] and high >= found.bounds[0]


def _printed(number: str) -> tuple[float, float]:
    """What a printed number stands for; a whole one, of steps, for itself."""
    per_cent, text = "%" in number, number.replace("−", "-").replace("%", "").strip()
    decimals = len(text.partition(".")[2])
    slack, scale = 0.5 * 10.0**-decimals if decimals or per_cent else 0.0, 0.01 if per_cent else 1.0
    return (float(text) - slack) * scale, (float(text) + slack) * scale


def text(cell: Cell, series: pd.DataFrame, notes: Notes) -> str:
    """`−0.489 / −0.474 [−0.486, −0.462] (a)`: the pilot's, ours, and the reason where they do not meet."""
    found = cell.measured(series)
    ours = quantities.spoken("", found).replace("-", "−")
    if not cell.pilot:
        return ours
    met = inside(cell.pilot, found)
    mark = "" if met or met is None else " " + (notes.letter(cell.why) if cell.why else NOT_EXPLAINED)
    return f"{cell.pilot} / {ours}{mark}"


def table(series: pd.DataFrame, head: Sequence[str], rows: Sequence[tuple[str, Sequence[Cell | None]]]) -> str:
    """A table in Markdown, the reasons below it."""
    notes = Notes()
    body = [(label, *("" if cell is None else text(cell, series, notes) for cell in cells)) for label, cells in rows]
    lines = [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *body)]
    return "\n".join([*lines, *(["", *notes.lines()] if notes.said else [])])
