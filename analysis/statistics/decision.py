"""Whether one side is slower: intervals of a ratio, and the rule that decides in stages."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy import stats

from analysis.report.words import format_percent

# Intervals of a mean: Student's and Welch's t, the bootstrap, and how far a spread may lie above what few values show.

RESAMPLES = 2000
SPREAD_ALPHA = 0.05


def standard_deviation(values: np.ndarray) -> float:
    """Of a sample; as `values.std(ddof=1)`, several times faster for the few values that there are."""
    centred = values - values.mean()
    return math.sqrt(float(centred @ centred) / (len(values) - 1))


def bounds(values: np.ndarray, alpha: float) -> tuple[float, float, float]:
    """Mean, and Student's bounds each of which is wrong with probability `alpha`."""
    mean, error = float(values.mean()), standard_deviation(values) / math.sqrt(len(values))
    reach = quantile(alpha, len(values) - 1) * error
    return mean, mean - reach, mean + reach


def bootstrap_bounds(values: np.ndarray, alpha: float) -> tuple[float, float]:
    """The same bounds by the bias-corrected and accelerated bootstrap (Efron 1987); its draws are fixed by seed."""
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    interval = stats.bootstrap(
        (values,), np.mean, confidence_level=1 - 2 * alpha, n_resamples=RESAMPLES, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    return float(interval.low), float(interval.high)


def welch(base: np.ndarray, new: np.ndarray) -> tuple[float, float, float]:
    """Difference of two means, its standard error and degrees of freedom (Welch 1947; Satterthwaite 1946)."""
    parts = [float(values.var(ddof=1)) / len(values) for values in (base, new)]
    squares = sum(part**2 / (len(values) - 1) for part, values in zip(parts, (base, new), strict=True))
    least = min(len(base), len(new)) - 1
    degrees = sum(parts) ** 2 / squares if squares > 0 else float(least)
    return float(new.mean() - base.mean()), math.sqrt(sum(parts)), degrees


@lru_cache(maxsize=4096)
def quantile(alpha: float, degrees: float) -> float:
    """Of Student's t, exceeded with probability `alpha`."""
    return float(stats.t.ppf(1 - alpha, degrees))


@lru_cache(maxsize=4096)
def spread_limit(degrees: float, alpha: float = SPREAD_ALPHA) -> float:
    """The factor by which a standard deviation may lie above the one that was seen: its upper limit by chi-square."""
    return math.sqrt(degrees / float(stats.chi2.ppf(alpha, degrees)))


# Is the new one slower? The rule that turns pairs of replicates into a verdict, in stages; nothing is measured here.
#
# The unit is the pair: ln(new time / base time) of two fresh processes that took turns. Pooling calls instead of pairs calls
# 10 to 31 % of identical builds different. Design and simulations: docs/comparison.md.

Verdict = Literal["SLOWER", "FASTER", "SAME", "UNDECIDED", "UNCOMPARABLE"]

STAGES = (5, 10, 20)  # pairs after which the verdict is looked for; only what is undecided goes on
CONFIRMING = 10  # fresh pairs behind every SLOWER
FIRST_CONFIRMING = 1000  # the number of the first of them: they are never mistaken for pairs of a stage
ALPHA = 0.005  # one-sided, each look
CONFIRMING_ALPHA = 0.05
CROSS_CHECK_FROM = 10  # pairs: below, a bootstrap has too little to draw from
PAIRS_LIMIT = 10_000
POWER = 0.95  # what counts as found is found so often
THREE_PERCENT = math.log(1.03)


@dataclass(frozen=True, slots=True)
class Rule:
    """`noticed` and `tolerated` are logs of time ratios: SLOWER lies surely beyond the first, SAME surely within the second.

    hidden: the slow-down that SAME must not hide: it is said only where so much would have been found.
    floor: the largest difference that this machine finds between two copies of the same thing, in an A/A test
    (see `analysis.regression.calibration`); no verdict is finer than it. detectable: the slow-down that it finds with all
    pairs of the stages. Both are None where nothing is calibrated; whether `hidden` would have been found is then asked of the
    pairs themselves.
    """

    noticed: float = math.log(1.01)
    tolerated: float = THREE_PERCENT
    hidden: float = THREE_PERCENT
    floor: float | None = None
    detectable: float | None = None
    stages: tuple[int, ...] = STAGES
    confirming: int = CONFIRMING

    @property
    def margin(self) -> float:
        return max(self.noticed, self.floor or 0.0)

    def would_have_found(self, error: float, degrees: float) -> bool:
        """Whether `hidden` would be called slower in 19 of 20 comparisons like this one.

        error: standard error of the mean change, with so many degrees of freedom. Uncalibrated, it is taken at its 95 %
        upper limit: pairs that agree by luck say nothing of how well they can tell.
        """
        if self.detectable is not None:
            return self.detectable <= self.hidden
        return self.margin + _reach(error * spread_limit(degrees), degrees) <= self.hidden


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict on the change in time. change, low, high: new over base as a factor, None where nothing was measured.

    pairs: how many it rests on, confirming ones not counted. needed: pairs of a kind that would decide, for UNDECIDED.
    next: pair numbers that would take the verdict further, none where it is final.
    """

    verdict: Verdict
    change: float | None = None
    low: float | None = None
    high: float | None = None
    pairs: int = 0
    needed: int | None = None
    reason: str = ""
    next: tuple[int, ...] = ()


def decide(log_changes: Mapping[int, float], rule: Rule = Rule()) -> Decision:
    """The verdict of a comparison in stages; each stage whose pairs are all there is looked at, in order.

    SLOWER is said only after `rule.confirming` fresh pairs have found it too. The same pairs always give the same verdict, so
    an interrupted comparison goes on where it stopped.

    Args:
        log_changes: ln(new time / base time) by pair number; confirming pairs from `FIRST_CONFIRMING` on.
        rule: thresholds and stages.

    Returns:
        The decision; its `next` holds the numbers of pairs still to measure, none where it is final.
    """
    found = Decision("UNDECIDED", needed=rule.stages[0], next=tuple(range(rule.stages[0])))
    done, values = 0, np.array([])
    for stage in rule.stages:
        missing = tuple(number for number in range(stage) if number not in log_changes)
        if missing:
            return replace(found, next=missing)
        values = np.array([log_changes[number] for number in range(stage)])
        done, found = stage, _look(values, rule)
        if found.verdict == "SLOWER":
            return _confirm(found, log_changes, rule)
        if found.verdict != "UNDECIDED":
            return found
    needed = _needed(values, rule)
    return replace(found, needed=needed, reason=found.reason or f"{done} pairs leave it open")


def _look(values: np.ndarray, rule: Rule) -> Decision:
    count, spread = len(values), standard_deviation(values)
    mean, low, high = bounds(values, ALPHA)
    able = rule.would_have_found(spread / math.sqrt(count), count - 1)
    verdict = _verdict(low, high, rule, able)
    reason = ""
    if verdict in ("SLOWER", "FASTER") and count >= CROSS_CHECK_FROM:
        checked_low, checked_high = bootstrap_bounds(values, ALPHA)
        low, high = min(low, checked_low), max(high, checked_high)
        if _verdict(low, high, rule, able) != verdict:
            verdict, reason = "UNDECIDED", "the t-interval and the bootstrap disagree: a few pairs decide it"
    if verdict == "UNDECIDED":
        reason = reason or _why_not_the_same(low, high, rule)
    return Decision(verdict, math.exp(mean), math.exp(low), math.exp(high), count, reason=reason)


def _verdict(low: float, high: float, rule: Rule, able: bool) -> Verdict:
    """`able`: whether what SAME must not hide would have been found."""
    if low > rule.margin:
        return "SLOWER"
    if high < -rule.margin:
        return "FASTER"
    return "SAME" if able and _within(low, high, rule) else "UNDECIDED"


def _within(low: float, high: float, rule: Rule) -> bool:
    return -rule.tolerated < low and high < rule.tolerated


def _why_not_the_same(low: float, high: float, rule: Rule) -> str:
    if not _within(low, high, rule):
        return ""
    within, hidden = (format_percent(math.expm1(value)) for value in (rule.tolerated, rule.hidden))
    if rule.detectable is not None:
        least = format_percent(math.expm1(rule.detectable))
        return f"lies within ±{within}, but by its calibration this machine surely finds no less than {least} here"
    return f"lies within ±{within}, but pairs that scatter so may miss {hidden}; to know more: lstm-bench calibrate"


def _confirm(found: Decision, log_changes: Mapping[int, float], rule: Rule) -> Decision:
    numbers = range(FIRST_CONFIRMING, FIRST_CONFIRMING + rule.confirming)
    if not numbers:
        return found
    missing = tuple(number for number in numbers if number not in log_changes)
    if missing:
        reason = f"looks slower after {found.pairs} pairs; {rule.confirming} fresh pairs have to confirm it"
        return replace(found, verdict="UNDECIDED", needed=found.pairs + rule.confirming, reason=reason, next=missing)
    _, low, _ = bounds(np.array([log_changes[number] for number in numbers]), CONFIRMING_ALPHA)
    if low > rule.margin:
        return found
    reason = f"{found.pairs} pairs found it slower, {rule.confirming} fresh ones did not"
    return replace(found, verdict="UNDECIDED", needed=None, reason=reason)


def unpaired(base: Sequence[float], new: Sequence[float], rule: Rule = Rule()) -> Decision:
    """The verdict on logs of times that were not measured side by side, by Welch's t-interval over replicates.

    Never SLOWER: nothing confirms it, and a machine that drifted looks the same. What can be told is asked of the replicates
    themselves, since a calibration is of pairs.
    """
    if min(len(base), len(new)) < 2:
        change = math.exp(float(np.mean(new)) - float(np.mean(base)))
        return Decision("UNDECIDED", change, reason="a single replicate bounds nothing; measure more", pairs=1)
    rule = replace(rule, detectable=None)
    difference, error, degrees = welch(np.asarray(base), np.asarray(new))
    reach = quantile(ALPHA, degrees) * error
    low, high = difference - reach, difference + reach
    verdict = _verdict(low, high, rule, rule.would_have_found(error, degrees))
    reason = "not measured side by side: drift of the machine is not cancelled"
    if verdict == "SLOWER":
        verdict, reason = "UNDECIDED", f"looks slower, but was {reason}; confirm with: lstm-bench compare BASE NEW"
    return Decision(verdict, math.exp(difference), math.exp(low), math.exp(high), min(len(base), len(new)), None, reason)


def over_cases(log_changes: Sequence[Mapping[int, float]], rule: Rule = Rule()) -> Decision | None:
    """Geometric mean of the changes of several cases, bounded over the pairs that every case has; None without such pairs.

    Its interval is of measurement noise: the cases are chosen, not drawn. SLOWER is confirmed here too, by the fresh pairs
    that every case has.
    """
    shared = sorted(set.intersection(*(set(changes) for changes in log_changes))) if log_changes else []
    means = {number: float(np.mean([changes[number] for changes in log_changes])) for number in shared}
    looked = np.array([mean for number, mean in means.items() if number < FIRST_CONFIRMING])
    if len(looked) < 2:
        return None
    found = _look(looked, rule)
    if found.verdict == "UNDECIDED":
        return replace(found, needed=_needed(looked, rule))
    if found.verdict != "SLOWER":
        return found
    found = _confirm(found, means, rule)
    return found if found.verdict == "SLOWER" else replace(found, needed=None, next=())


def mean_rule(rules: Sequence[Rule]) -> Rule:
    """The rule for a mean over cases. Its floor, and what it can detect, are at most the means of theirs (the triangle's
    inequality); unknown where one of them is."""
    floors, found = [rule.floor for rule in rules], [rule.detectable for rule in rules]
    if not rules or None in floors or None in found:
        return Rule()
    return Rule(floor=float(np.mean(floors)), detectable=float(np.mean(found)))  # type: ignore[arg-type]


def _needed(values: np.ndarray, rule: Rule) -> int | None:
    return pairs_needed(float(values.mean()), float(values.std(ddof=1)), rule)


def pairs_needed(mean: float, deviation: float, rule: Rule = Rule()) -> int | None:
    """Pairs after which a change of this size and spread between pairs would be decided; None where none would.

    It would be SLOWER or FASTER where `mean` lies beyond the margin, SAME where it lies within what is tolerated.
    """

    def surely(count: int, room: float) -> bool:
        return quantile(ALPHA, count - 1) * deviation / math.sqrt(count) <= room

    def same(count: int) -> bool:
        room = rule.tolerated - abs(mean)
        return surely(count, room) and rule.would_have_found(deviation / math.sqrt(count), count - 1)

    counts = []
    if (room := abs(mean) - rule.margin) > 0:
        counts.append(_first(lambda count: surely(count, room)))
    if abs(mean) < rule.tolerated:
        counts.append(_first(same))
    return min((count for count in counts if count is not None), default=None)


def _first(enough: Callable[[int], bool]) -> int | None:
    """The smallest number of pairs that is enough, in steps of 5 %."""
    count = 3
    while count < PAIRS_LIMIT and not enough(count):
        count = max(count + 1, int(count * 1.05))
    return count if count < PAIRS_LIMIT else None


def detectable(deviation: float, pairs: int, rule: Rule = Rule(), power: float = POWER) -> float:
    """The slow-down, as a log ratio, that `pairs` pairs call slower with this power."""
    return rule.margin + _reach(deviation / math.sqrt(pairs), pairs - 1, power)


def _reach(error: float, degrees: float, power: float = POWER) -> float:
    return (quantile(ALPHA, degrees) + quantile(1 - power, math.inf)) * error
