"""Quantities that claims are judged by: how one is declared, selected records, and the verdict of a rule on estimates.

A topic declares its quantities in `QUANTITIES` of `analysis/studies/<topic>/__init__.py`, where they are found; nothing here
names a study.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from analysis import AnalysisError
from analysis.report import words
from analysis.statistics.ratios import of_one_launch
from analysis.statistics.seeds import NOT_MEASURED, Estimate
from analysis.studies import topics
from results.claims import COMPARISONS, INFINITE, Claim, Test, read_condition

REFERENCE = "reference"  # stands in a backend's place where the study's own code measured


class UnknownQuantity(AnalysisError):
    """A quantity no rule may name."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number that a claim may be judged by.

    estimate: from the rows of the records that a selection picks (a section's `series`) to the number with its interval.
    label: what stands before the number. unit: what stands behind it; "" for a pure number, "×" for a ratio.
    compares_cases: it gets the rows of every case selected; others get those of the case with the most steps.
    separates_launches: it tells eager calls from CUDA graphs itself; others get the rows of one launch mode.
    needs_every_backend: a claim on it is about every backend, so that a verdict names those that did not measure.
    """

    estimate: Callable[[pd.DataFrame], Estimate]
    label: str
    unit: str = ""
    compares_cases: bool = False
    separates_launches: bool = False
    needs_every_backend: bool = False

    def format(self, found: Estimate, with_unit: bool = True) -> str:
        """An estimate of it for a reader: `12 steps [11, 13]`."""
        return words.format_estimate(found, self.unit if with_unit else "", exact=not self.unit)


@functools.cache
def quantities() -> Mapping[str, Quantity]:
    """Those of all topics, by name. Raises `AnalysisError` where two topics declare the same name."""
    every: dict[str, Quantity] = {}
    for topic, module in topics():
        own: Mapping[str, Quantity] = getattr(module, "QUANTITIES", {})
        if twice := sorted(every.keys() & own.keys()):
            raise AnalysisError(f"topic {topic} declares quantities that another has: {', '.join(twice)}; rename them")
        every |= own
    return every


def named(name: str) -> Quantity:
    """The quantity of this name. Raises `UnknownQuantity` with the choices."""
    if name not in quantities():
        raise UnknownQuantity(f"no quantity {name!r}; choose from {', '.join(quantities())}")
    return quantities()[name]


def estimate(name: str, series: pd.DataFrame, selection: str) -> Estimate:
    """The quantity over the records that a selection picks.

    Args:
        name: of a quantity that a topic declares.
        series: a section's `series`.
        selection: filters joined by commas, as `cell=lstm,init=pytorch`.

    Returns:
        The estimate over seeds or replicates; one without a value, and not `measured`, where nothing was selected.

    Raises:
        UnknownQuantity: no topic declares it.
        AnalysisError: the selection cannot be read.
    """
    quantity = named(name)
    rows = select(series, selection)
    if not quantity.separates_launches:
        rows = of_one_launch(rows)
    if rows.empty:
        return NOT_MEASURED
    return quantity.estimate(rows if quantity.compares_cases else rows[rows["steps"] == rows["steps"].max()])


def select(series: pd.DataFrame, selection: str) -> pd.DataFrame:
    """The rows that pass every part of a selection; a parameter that no record has passes none.

    Names may be alternatives, as `backend=reference|torch`. Raises `AnalysisError` for a selection that cannot be read.
    """
    kept = np.arange(len(series))  # places of rows: taking all columns of a frame for each part would cost more than the rest
    for part in selection.split(","):
        condition = read_condition(part)
        if condition is None:
            raise AnalysisError(f"cannot read {part!r} of the selection {selection!r}; write it as cell=lstm,steps<=512")
        name, symbol, wanted = condition
        if name not in series:
            return series.iloc[:0]
        column = series[name]
        values = column.to_numpy()[kept]
        if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            passed = COMPARISONS[symbol](values, float(wanted))
        elif "|" in wanted and symbol != "=":
            raise AnalysisError(f"alternatives need an equals sign; got {part!r} in the selection {selection!r}")
        else:
            choices = set(wanted.split("|"))
            passed = np.array(
                [str(value) in choices if symbol == "=" else COMPARISONS[symbol](str(value), wanted) for value in values],
                dtype=bool,
            )
        kept = kept[passed]
    return series.iloc[kept]


# From a claim's rule and the measured intervals to a verdict; the rule was written before the numbers.

Outcome = Literal["supported", "refuted", "inconclusive", "not measured"]
Word = Literal["supported", "mixed", "refuted", "inconclusive", "not measured"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One setting of a claim: its estimates, in the order of the claim's tests, and what they say together."""

    label: str
    estimates: tuple[Estimate, ...]
    outcome: Outcome

    @property
    def measured(self) -> bool:
        return self.outcome != "not measured"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A claim with its verdict over all settings.

    untested: backends that a claim about every backend was not tested on, by status (skipped, failed); empty for other claims.
    """

    claim: Claim
    word: Word
    findings: tuple[Finding, ...]
    untested: Mapping[str, tuple[str, ...]]

    def labels(self, outcome: Outcome) -> list[str]:
        """The settings with this outcome."""
        return [finding.label for finding in self.findings if finding.outcome == outcome]


def judge(claim: Claim, series: pd.DataFrame, records: pd.DataFrame | None = None) -> Verdict:
    """The verdict on a claim by the records of one section.

    Args:
        claim: with its tests and settings.
        series: the section's `series`.
        records: the section's `records`, which also hold what was skipped or failed.

    Raises:
        UnknownQuantity: a test names a quantity that no topic declares.
    """
    findings = []
    for label, selection in claim.settings:
        estimates = tuple(estimate(test.quantity, series, selection) for test in claim.tests)
        findings.append(Finding(label, estimates, _together(claim.tests, estimates)))
    every_backend = any(named(test.quantity).needs_every_backend for test in claim.tests)
    untested = _untested([of for _, of in claim.settings], records) if every_backend and records is not None else {}
    return Verdict(claim, word([finding.outcome for finding in findings]), tuple(findings), untested)


def _untested(selections: Sequence[str], records: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    selected = pd.concat([select(records, of) for of in selections])
    measured = set(selected.loc[selected["status"] == "ok", "backend"])
    backends = {
        status: tuple(sorted({*selected.loc[selected["status"] == status, "backend"]} - measured))
        for status in ("skipped", "failed")
    }
    return {status: names for status, names in backends.items() if names}


def outcome(test: Test, found: Estimate) -> Outcome:
    """Supported where all of the interval lies within the bounds, refuted where none of it does; else inconclusive.

    A single value on the only bound, as a gain of exactly 0 in every seed where more than 0 is asked for, decides nothing.
    """
    if not found.measured:
        return "not measured"
    if found.bounds is None:
        return "inconclusive"
    low, high = found.bounds
    only_bound = test.low if test.high >= INFINITE else test.high if test.low <= -INFINITE else None
    if low == high == only_bound:
        return "inconclusive"
    if low >= test.low and high <= (float("inf") if test.high >= INFINITE else test.high):
        return "supported"
    if low > test.high or high < test.low:
        return "refuted"
    return "inconclusive"


def word(outcomes: Sequence[Outcome]) -> Word:
    """All settings supported: supported; some supported and some refuted: mixed; all refuted: refuted; none measured: not
    measured; else inconclusive."""
    kinds = set(outcomes)
    if {"supported", "refuted"} <= kinds:
        return "mixed"
    return kinds.pop() if len(kinds) == 1 else "inconclusive"


def _together(tests: Sequence[Test], estimates: Sequence[Estimate]) -> Outcome:
    """In one setting every test must be supported; one that is refuted is enough to refute."""
    outcomes: set[Outcome] = {outcome(test, found) for test, found in zip(tests, estimates, strict=True)}
    if "refuted" in outcomes:
        return "refuted"
    return outcomes.pop() if len(outcomes) == 1 else "inconclusive"
