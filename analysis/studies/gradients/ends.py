"""Where a seed's curve of gradients ends before the others', and why: it is exactly zero from there on, or not finite."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from analysis.report import words
from analysis.report.load import rows_of

# As `bench.studies.gradients.curves` writes it; tests/analysis/studies/gradients/test_ends.py holds the two together.
_NOTE = re.compile(r"^(\w+) is (exactly zero|not finite)(?: at lag (\d+))? for seed (\d+)$")


@dataclass(frozen=True, slots=True)
class End:
    """lag: the first without a number; None where the note names none."""

    metric: str
    zero: bool
    lag: int | None
    seed: int


def read(notes: Iterable[str]) -> list[End]:
    """Those among the notes of a measurement that tell of an end."""
    found = [match for note in notes if (match := _NOTE.match(note))]
    return [End(match[1], match[2] == "exactly zero", int(match[3]) if match[3] else None, int(match[4])) for match in found]


def of(rows: pd.DataFrame, metric: str) -> list[End]:
    """The ends of one metric; rows of one case."""
    return [end for notes in rows.loc[rows["metric"] == metric, "notes"] for end in read(notes)]


def sentences(series: pd.DataFrame) -> list[str]:
    """One for each case and backend: `irnn-… on reference: log_gradient is exactly zero at lag 399 for seeds 0 and 4.`"""
    noted = series[series["notes"].map(len) > 0]
    groups = noted.groupby(["case", "backend"], sort=False)
    return [f"{case} on {backend}: {said}." for (case, backend), rows in groups if (said := of_case(rows))]


def of_case(rows: pd.DataFrame) -> str:
    """Every metric that ends, of one case on one backend; each once, however many runs measured it."""
    found = {row["metric"]: read(row["notes"]) for row in rows_of(rows)}
    return "; ".join(f"{metric} is {spoken(own)}" for metric, own in found.items() if own)


def spoken(ends: Iterable[End]) -> str:
    """`exactly zero at lag 24 for seed 1, at lag 26 for seeds 0 and 4`."""
    parts: dict[str, list[str]] = {}
    grouped: dict[tuple[bool, int], list[int]] = {}
    for end in ends:
        grouped.setdefault((end.zero, -1 if end.lag is None else end.lag), []).append(end.seed)
    for (zero, lag), seeds in sorted(grouped.items(), key=lambda each: (not each[0][0], each[0][1])):
        at = f"at lag {lag} " if lag >= 0 else ""
        of_seeds = f"for seed{'s'[: len(seeds) > 1]} {words.listed(map(str, sorted(seeds)))}"
        parts.setdefault("exactly zero" if zero else "not finite", []).append(f"{at}{of_seeds}")
    return "; ".join(f"{what} {', '.join(where)}" for what, where in parts.items())
