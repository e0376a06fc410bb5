"""What a claim asks for: the table of quantities, and the verdict of a rule on them."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd

from analysis import AnalysisError
from analysis.report import words
from analysis.statistics import seeds
from analysis.statistics.ratios import of_one_launch
from analysis.statistics.seeds import Estimate, missing
from analysis.studies.context import statistics as context_statistics
from analysis.studies.cost import statistics as cost_statistics
from analysis.studies.decode import statistics as decode_statistics
from analysis.studies.decode.statistics import Stream
from analysis.studies.gradients import statistics as gradients_statistics
from analysis.studies.gradients.statistics import Curve
from analysis.studies.horizon import statistics as horizon_statistics
from analysis.studies.quality import statistics as quality_statistics
from analysis.studies.scaling import newton
from analysis.studies.scaling import statistics as scaling_statistics
from results.claims import INFINITE, Claim, Test

# Every number a verdict may be asked about, by name: from the rows of the records a setting selects to an estimate.

Quantity = Callable[[pd.DataFrame], Estimate]
_FORM = re.compile(r"^(\w+)(<=|>=|!=|=|<|>)(.+)$")
_OPERATORS = {"=": operator.eq, "!=": operator.ne, "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
OVER_BACKENDS = ("input_disagreement", "state_disagreement")  # of every backend that measured: who did not must be named
REFERENCE = "reference"  # stands in a backend's place where the study's own code measured
NOT_MEASURED = missing("not measured")


class UnknownQuantity(AnalysisError):
    """A quantity no rule may name."""


def estimate(name: str, series: pd.DataFrame, selection: str) -> Estimate:
    """The quantity over the records of `series` (a section's) that a selection like `cell=lstm,init=pytorch` picks.

    Where it picks several cases, that with the most steps is taken, the longest look; but for quantities `OVER_LENGTHS`.
    """
    if name not in QUANTITIES and name not in OVER_LENGTHS:
        raise UnknownQuantity(f"no quantity {name!r}; choose from {', '.join([*QUANTITIES, *OVER_LENGTHS])}")
    rows = select(series, selection)
    if name not in TELLS_LAUNCHES_APART:
        rows = of_one_launch(rows)
    if rows.empty:
        return NOT_MEASURED
    if name in OVER_LENGTHS:
        return OVER_LENGTHS[name](rows)
    rows = rows[rows["steps"] == rows["steps"].max()]
    return QUANTITIES[name](rows)


def select(series: pd.DataFrame, selection: str) -> pd.DataFrame:
    """The rows that pass every part of a selection; a parameter that no record has passes none.

    Names may be alternatives, as `backend=reference|torch`.
    """
    rows = series
    for part in selection.split(","):
        match = _FORM.match(part)
        if not match:
            raise AnalysisError(f"cannot read {part!r} of the selection {selection!r}; write it as cell=lstm,steps<=512")
        name, symbol, wanted = match.groups()
        if name not in rows:
            return rows.iloc[:0]
        column = rows[name]
        if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            passed = _OPERATORS[symbol](column, float(wanted))
        elif "|" in wanted:
            if symbol != "=":
                raise AnalysisError(f"alternatives need an equals sign; got {part!r} in the selection {selection!r}")
            passed = column.astype(str).isin(wanted.split("|"))
        else:
            passed = _OPERATORS[symbol](column.astype(str), wanted)
        rows = rows[passed]
    return rows


def _of_curve(what: Callable[[Curve], Estimate], metric: str = "log_gradient") -> Quantity:
    def quantity(rows: pd.DataFrame) -> Estimate:
        found = gradients_statistics.curve(rows, metric)
        return NOT_MEASURED if found is None else what(found)

    return quantity


def _passed_over_100(of: Curve) -> Estimate:
    """A(100)/A(1); 0 where it is exactly zero in every seed."""
    early, late = of.at(1), of.at(100)
    if early is None or late is None:
        return missing("fewer than 100 steps")
    zero = int((late == -np.inf).sum())
    if zero == len(late):
        return Estimate(0.0, 0.0, 0.0, zero)
    return missing(f"exactly zero at lag 100 in {zero} of {len(late)} seeds") if zero else seeds.geometric_mean(late - early)


def _cell_cosine_at_100(rows: pd.DataFrame) -> Estimate:
    found = gradients_statistics.curve(rows, "cell_cosine", relative=False)
    values = found.at(100) if found is not None else None
    return NOT_MEASURED if values is None else seeds.mean(values)


def _identity_contrast(rows: pd.DataFrame) -> Estimate:
    """The least difference found where an identity ought to fail."""
    found = np.concatenate([np.empty(0), *seeds.metric(rows, "identity_contrast")])
    return Estimate(float(found.min()), float(found.min()), float(found.min()), len(found)) if len(found) else NOT_MEASURED


def _identity_error(rows: pd.DataFrame) -> Estimate:
    """The largest error found; nothing is estimated, so it is its own interval."""
    found = np.concatenate([np.empty(0), *seeds.metric(rows, "identity_error")])
    return Estimate(float(found.max()), float(found.max()), float(found.max()), len(found)) if len(found) else NOT_MEASURED


def _disagreement(*metrics: str) -> Quantity:
    """The largest difference in nats between any backend's curves and the reference's."""

    def quantity(rows: pd.DataFrame) -> Estimate:
        worst, backends = 0.0, 0
        for name in metrics:
            found = rows[rows["metric"] == name]
            reference = found.loc[found["backend"] == REFERENCE, "samples"]
            others = found.loc[found["backend"] != REFERENCE, "samples"]
            if reference.empty or others.empty:
                return NOT_MEASURED
            if any(len(own) != len(reference.iloc[0]) for own in others):
                return missing("a backend's gradient is exactly zero or not finite somewhere")
            worst = max(worst, *(float(np.abs(own - reference.iloc[0]).max()) for own in others))
            backends = len(others)
        return Estimate(worst, worst, worst, backends)

    return quantity


def _rate_over_shortcut(rows: pd.DataFrame) -> Estimate:
    """Nats a layer beyond the logarithm of what the shortcut is multiplied by."""
    found = gradients_statistics.curve(rows)
    shortcut = seeds.metric(rows, "shortcut")
    if found is None or not shortcut:
        return NOT_MEASURED
    of, log = gradients_statistics.rate(found), float(np.log(shortcut[0][0]))
    value, low, high = (None if each is None else each - log for each in (of.value, of.low, of.high))
    return replace(of, value=value, low=low, high=high)


def _learnable_lag(rows: pd.DataFrame) -> Estimate:
    found = horizon_statistics.trials(rows)
    return NOT_MEASURED if found is None else horizon_statistics.learnable_lag(found)


def _learnable_over_truncation(rows: pd.DataFrame) -> Estimate:
    """L50 in units of the steps that were backpropagated through."""
    found, steps = _learnable_lag(rows), float(rows["truncation"].iloc[0])
    if not steps:
        return missing("not truncated")
    low, high, value, beyond = (
        None if each is None else each / steps for each in (found.low, found.high, found.value, found.beyond)
    )
    return replace(found, value=value, low=low, high=high, beyond=beyond)


def _stream_drift(rows: pd.DataFrame) -> Estimate:
    """Largest rounding error of the last half of a stream over that of the first; found, not estimated."""
    found = [half for each in seeds.metric(rows, "state_error") for half in np.array_split(each, 2)]
    if not found or found[0].max() == 0:
        return NOT_MEASURED
    value = float(found[1].max() / found[0].max())
    return Estimate(value, value, value, 1)


def _stream_growth(rows: pd.DataFrame) -> Estimate:
    """Bytes by which the process, or what is used of the device, grew from the first look to the last, whichever is more."""
    found = [each for name in ("resident", "device_used") for each in seeds.metric(rows, name)]
    if not found:
        return NOT_MEASURED
    value = max(float(each[-1] - each[0]) for each in found)
    return Estimate(value, value, value, 1)


QUANTITIES: dict[str, Quantity] = {
    "horizon": _of_curve(gradients_statistics.horizon),
    "rate": _of_curve(gradients_statistics.rate),
    "offset": _of_curve(gradients_statistics.offset),
    "half_life": _of_curve(gradients_statistics.half_life),
    "bic_for_exponential": _of_curve(gradients_statistics.bic_for_exponential),
    "passed_over_100": _of_curve(_passed_over_100),
    "cell_cosine_at_100": _cell_cosine_at_100,
    "identity_error": _identity_error,
    "identity_contrast": _identity_contrast,
    "hop_share_at_10": partial(seeds.first, name="hop_share_10"),
    "largest_exponent": partial(seeds.first, name="lyapunov"),
    "input_passed_over_100": _of_curve(_passed_over_100, "log_input"),
    "input_disagreement": _disagreement("log_input"),
    "state_disagreement": _disagreement("log_hidden", "log_cell"),
    "time_over_rnn": cost_statistics.time_over_rnn,
    "parameters_over_rnn": partial(cost_statistics.count_over_rnn, name="parameters"),
    "flops_over_rnn": partial(cost_statistics.count_over_rnn, name="flops"),
    "rate_over_shortcut": _rate_over_shortcut,
    "zero_lag": gradients_statistics.zero_lag,
    "denormal_lag": gradients_statistics.denormal_lag,
    "learnable_lag": _learnable_lag,
    "learnable_over_truncation": _learnable_over_truncation,
    "horizon_rank_correlation": horizon_statistics.rank_correlation,
    "loss_gap": quality_statistics.loss_gap,
    "early_gap": quality_statistics.early_gap,
    "late_gap": quality_statistics.late_gap,
    "loss_gap_at_equal_time": quality_statistics.gap_at_equal("curve_seconds"),
    "loss_gap_at_equal_flops": quality_statistics.gap_at_equal("curve_flops"),
    "context_within_percent": context_statistics.context_within_percent,
    "context_for_nine_tenths": context_statistics.context_for_nine_tenths,
    "nine_tenths_over_truth": context_statistics.nine_tenths_over_truth,
    "influence_reach": context_statistics.influence_reach,
    "lstm_relative_context": lambda rows: context_statistics.relative_context(rows, quality_statistics.LSTM),
    "stream_drift": _stream_drift,
    "stream_growth": _stream_growth,
}


def _of_stream(what: Callable[[Stream], Estimate]) -> Quantity:
    def quantity(rows: pd.DataFrame) -> Estimate:
        found = decode_statistics.stream(rows)
        return NOT_MEASURED if found is None else what(found)

    return quantity


# These compare cases of different lengths, or of other sizes.
OF_SCALING = (
    scaling_statistics.QUANTITIES_LENGTHS
    | newton.QUANTITIES
    | scaling_statistics.QUANTITIES_OPERATIONS
    | scaling_statistics.QUANTITIES_SIZES
)
SCALING_WORDS = (
    scaling_statistics.WORDS_LENGTHS | newton.WORDS | scaling_statistics.WORDS_OPERATIONS | scaling_statistics.WORDS_SIZES
)
OVER_LENGTHS: dict[str, Quantity] = OF_SCALING | {
    "time_over_context": _of_stream(Stream.time_over_context),
    "state_exponent": _of_stream(Stream.state_exponent),
}
TELLS_LAUNCHES_APART = ("time_over_context", "state_exponent")  # each of one backend and launch mode, the fastest
# What stands beside a number of each; "" for a pure number.
UNITS = scaling_statistics.UNITS_LENGTHS | scaling_statistics.UNITS_OPERATIONS | {
    "time_over_rnn": "×", "parameters_over_rnn": "×", "flops_over_rnn": "×",
    "zero_lag": "steps", "denormal_lag": "steps", "horizon": "steps", "half_life": "steps", "rate": "nat/step", "offset": "nat",
    "rate_over_shortcut": "nat/layer",
    "largest_exponent": "nat/step", "learnable_lag": "steps",
    "loss_gap": "nat", "early_gap": "nat", "late_gap": "nat", "loss_gap_at_equal_time": "nat",
    "loss_gap_at_equal_flops": "nat", "context_within_percent": "tokens", "context_for_nine_tenths": "tokens",
    "influence_reach": "tokens", "lstm_relative_context": "tokens",
}  # fmt: skip
WORDS = SCALING_WORDS | {
    "bic_for_exponential": "ΔBIC",
    "offset": "offset",
    "passed_over_100": "A(100)/A(1)",
    "cell_cosine_at_100": "cosine at lag 100",
    "identity_error": "largest error",
    "identity_contrast": "otherwise at least",
    "hop_share_at_10": "share that never left",
    "largest_exponent": "λ₁",
    "input_disagreement": "largest difference of ln‖dL/dx‖",
    "input_passed_over_100": "A(100)/A(1)",
    "state_disagreement": "of ln‖dL/dh‖ and ln‖dL/dc‖",
    "time_over_rnn": "time",
    "parameters_over_rnn": "parameters",
    "flops_over_rnn": "FLOPs",
    "rate_over_shortcut": "rate less ln s",
    "zero_lag": "exactly zero from",
    "denormal_lag": "denormal from",
    "horizon": "n(10⁻³)",
    "learnable_lag": "L50",
    "learnable_over_truncation": "L50/k",
    "horizon_rank_correlation": "ρ of n(10⁻³) and L50",
    "stream_drift": "rounding error of the last half over the first",
    "stream_growth": "bytes grown",
    "time_over_context": "longest over shortest",
    "state_exponent": "d ln bytes / d ln T",
    "loss_gap": "gap",
    "early_gap": "over the first ten tokens",
    "late_gap": "over the second half",
    "loss_gap_at_equal_time": "gap at equal time",
    "loss_gap_at_equal_flops": "gap at equal operations",
    "context_within_percent": "context within 1 %",
    "context_for_nine_tenths": "c90",
    "nine_tenths_over_truth": "c90 over the true one",
    "influence_reach": "reach of influence",
    "lstm_relative_context": "RECL",
}


# From a claim's rule and the measured intervals to one of four words; the rule was written before the numbers.

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
        estimates = tuple(estimate(test.quantity, series, selection) for test in claim.tests)
        findings.append(Finding(label, estimates, _together(claim.tests, estimates)))
    over_backends = any(test.quantity in OVER_BACKENDS for test in claim.tests)
    without = _without([of for _, of in claim.settings], records) if over_backends and records is not None else ""
    return Verdict(claim, word([finding.outcome for finding in findings]), tuple(findings), without)


def _without(selections: Sequence[str], records: pd.DataFrame) -> str:
    """`Not tested on cudnn and onnxruntime (skipped) and jax (failed).`"""
    found = pd.concat([select(records, of) for of in selections])
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
    pure = quantity not in UNITS
    unit = "" if pure or not with_unit else f" {UNITS[quantity]}"
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
