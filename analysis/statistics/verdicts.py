"""From a claim's rule and the measured intervals to one of four words; the rule was written before the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from analysis.report import words
from analysis.statistics import quantities
from analysis.statistics.seeds import Estimate
from results.claims import INFINITE, Claim, Test

Word = Literal["supported", "supported with conditions", "not supported", "inconclusive"]
Outcome = Literal["holds", "fails", "open"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One setting of a claim: its estimates, in the order of the claim's tests, and what they say together."""

    label: str
    estimates: tuple[Estimate, ...]
    outcome: Outcome

    @property
    def measured(self) -> bool:
        """Whether there is anything to be undecided about."""
        return not all(found.value is None and found.why.startswith(words.NOT_MEASURED) for found in self.estimates)


@dataclass(frozen=True, slots=True)
class Verdict:
    """without: backends that a claim about every backend was not tested on, and why; nothing for other claims."""

    claim: Claim
    word: Word
    findings: tuple[Finding, ...]
    without: str = ""

    def labels(self, outcome: Outcome) -> list[str]:
        return [finding.label for finding in self.findings if finding.outcome == outcome]

    @property
    def conditions(self) -> str:
        """For which settings it holds, for which not, what is undecided and what was not measured; every one is named."""
        unmeasured = [finding.label for finding in self.findings if not finding.measured]
        undecided = [label for label in self.labels("open") if label not in unmeasured]
        said = {"holds for": self.labels("holds"), "fails for": self.labels("fails"), "undecided for": undecided}
        said["not measured for"] = unmeasured
        named = [(text, [label.replace(", ", " ") for label in labels]) for text, labels in said.items()]
        parts = [f"{text} {words.listed(labels)}" for text, labels in named if labels]
        text = "; ".join(parts)
        return f"{text[:1].upper()}{text[1:]}."


def judge(claim: Claim, series: pd.DataFrame, records: pd.DataFrame | None = None) -> Verdict:
    """The verdict on a claim by the records of one section; `records` also holds what was skipped or failed."""
    findings = []
    for label, selection in claim.settings:
        estimates = tuple(quantities.estimate(test.quantity, series, selection) for test in claim.tests)
        findings.append(Finding(label, estimates, _together(claim.tests, estimates)))
    over_backends = any(test.quantity in quantities.OVER_BACKENDS for test in claim.tests)
    without = _without([of for _, of in claim.settings], records) if over_backends and records is not None else ""
    return Verdict(claim, word([finding.outcome for finding in findings]), tuple(findings), without)


def _without(selections: Sequence[str], records: pd.DataFrame) -> str:
    """`Not tested on cudnn and onnxruntime (skipped) and jax (failed).`"""
    found = pd.concat([quantities.select(records, of) for of in selections])
    measured = set(found.loc[found["status"] == "ok", "backend"])
    parts = []
    for status in ("skipped", "failed"):
        names = sorted({*found.loc[found["status"] == status, "backend"]} - measured)
        parts += [f"{words.listed(names)} ({status})"] if names else []
    return f"Not tested on {words.listed(parts)}." if parts else ""


def outcome(test: Test, found: Estimate) -> Outcome:
    """Holds where all of the interval lies within the bounds, fails where none of it does; else, or without one, open."""
    if found.bounds is None:
        return "open"
    low, high = found.bounds
    if low >= test.low and high <= (float("inf") if test.high >= INFINITE else test.high):
        return "holds"
    if low > test.high or high < test.low:
        return "fails"
    return "open"


def word(outcomes: Sequence[Outcome]) -> Word:
    """All hold: supported. Some hold, some fail: with conditions. All fail: not supported. Else inconclusive."""
    kinds = set(outcomes)
    if kinds == {"holds"}:
        return "supported"
    if {"holds", "fails"} <= kinds:
        return "supported with conditions"
    return "not supported" if kinds == {"fails"} else "inconclusive"


def _together(tests: Sequence[Test], estimates: Sequence[Estimate]) -> Outcome:
    """In one setting every test must hold; one that fails is enough to fail."""
    found = {outcome(test, estimate) for test, estimate in zip(tests, estimates, strict=True)}
    return "fails" if "fails" in found else "open" if "open" in found else "holds"


def spoken(quantity: str, found: Estimate, with_unit: bool = True) -> str:
    """An estimate for a reader: 12 steps [11, 13], > 511 steps [above 498], or why there is none."""
    pure = quantity not in quantities.UNITS
    unit = "" if pure or not with_unit else f" {quantities.UNITS[quantity]}"
    if found.value is None and found.beyond is None:
        return found.why or words.NOT_MEASURED
    why = f" ({found.why})" if found.why else ""
    if found.value is None:
        low = f" [above {_number(found.low)}]" if found.low is not None and found.low != found.beyond else ""
        return f"> {_number(found.beyond)}{unit}{low}{why}"
    if found.low == found.high and pure:  # the largest of some errors, say: found, not estimated
        return f"{found.value:.2g}{why}"
    high = f"> {_number(found.beyond)}" if found.high is None and found.beyond is not None else _number(found.high)
    return f"{_number(found.value)}{unit} [{_number(found.low)}, {high}]{why}"


def _number(value: float | None) -> str:
    if value is None:
        return "?"
    if value == round(value):
        return f"{value:.0f}"
    return f"{value:.1e}" if abs(value) < 1e-3 else words.digits(value)
