"""Is the new one slower? The rule that turns pairs of replicates into a verdict, in stages; nothing is measured here.

The unit is the pair: ln(new time / base time) of two fresh processes that took turns. Pooling calls instead of pairs calls
10 to 31 % of identical builds different. Design and simulations: docs/history.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy import stats

Verdict = Literal["SLOWER", "FASTER", "SAME", "UNDECIDED", "UNCOMPARABLE"]

STAGES = (5, 10, 20)  # pairs after which the verdict is looked for; only what is undecided goes on
CONFIRMING = 10  # fresh pairs behind every SLOWER
FIRST_CONFIRMING = 1000  # the number of the first of them: they are never mistaken for pairs of a stage
ALPHA = 0.005  # one-sided, each look
CONFIRMING_ALPHA = 0.05
CROSS_CHECK_FROM = 10  # pairs: below, a bootstrap has too little to draw from
RESAMPLES = 2000
PAIRS_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Rule:
    """`noticed` and `tolerated` are logs of time ratios: SLOWER lies surely beyond the first, SAME surely within the second.

    floor: the largest difference that this machine finds between two copies of the same thing (see `analysis.certificate`);
    no verdict is finer than it.
    """

    noticed: float = math.log(1.01)
    tolerated: float = math.log(1.03)
    floor: float = 0.0
    stages: tuple[int, ...] = STAGES
    confirming: int = CONFIRMING

    @property
    def margin(self) -> float:
        return max(self.noticed, self.floor)


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
    """The verdict on ln(new / base) by pair number. Looks at each stage whose pairs are all there, in order.

    SLOWER is said only after `rule.confirming` fresh pairs have found it too. The same pairs always give the same verdict,
    so an interrupted comparison goes on where it stopped.
    """
    found = Decision("UNDECIDED", needed=rule.stages[0], next=tuple(range(rule.stages[0])))
    done = 0
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
    return replace(found, reason=found.reason or f"{done} pairs leave it open")


def _look(values: np.ndarray, rule: Rule) -> Decision:
    mean, low, high = bounds(values, ALPHA)
    verdict = _verdict(low, high, rule)
    reason = ""
    if verdict in ("SLOWER", "FASTER") and len(values) >= CROSS_CHECK_FROM:
        checked_low, checked_high = bootstrap_bounds(values, ALPHA)
        low, high = min(low, checked_low), max(high, checked_high)
        if _verdict(low, high, rule) != verdict:
            verdict, reason = "UNDECIDED", "the t-interval and the bootstrap disagree: a few pairs decide it"
    needed = pairs_needed(mean, float(values.std(ddof=1)), rule) if verdict == "UNDECIDED" else None
    return Decision(verdict, math.exp(mean), math.exp(low), math.exp(high), len(values), needed, reason)


def _verdict(low: float, high: float, rule: Rule) -> Verdict:
    if low > rule.margin:
        return "SLOWER"
    if high < -rule.margin:
        return "FASTER"
    if -rule.tolerated < low and high < rule.tolerated and rule.floor < rule.tolerated:
        return "SAME"
    return "UNDECIDED"


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


def bounds(values: np.ndarray, alpha: float) -> tuple[float, float, float]:
    """Mean, and Student's bounds each of which is wrong with probability `alpha`."""
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    reach = _quantile(alpha, len(values) - 1) * error
    return mean, mean - reach, mean + reach


def bootstrap_bounds(values: np.ndarray, alpha: float) -> tuple[float, float]:
    """The same bounds by the bias-corrected and accelerated bootstrap (Efron 1987); its draws are fixed by seed."""
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    interval = stats.bootstrap(
        (values,), np.mean, confidence_level=1 - 2 * alpha, n_resamples=RESAMPLES, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    return float(interval.low), float(interval.high)


def unpaired(base: Sequence[float], new: Sequence[float], rule: Rule = Rule()) -> Decision:
    """The verdict on logs of times that were not measured side by side, by Welch's t-interval over replicates."""
    if min(len(base), len(new)) < 2:
        change = math.exp(float(np.mean(new)) - float(np.mean(base)))
        return Decision("UNDECIDED", change, reason="a single replicate bounds nothing; measure more", pairs=1)
    result = stats.ttest_ind(new, base, equal_var=False)
    difference = float(np.mean(new)) - float(np.mean(base))
    if np.ptp(base) == np.ptp(new) == 0:
        low = high = difference
    else:
        interval = result.confidence_interval(1 - 2 * ALPHA)
        low, high = float(interval.low), float(interval.high)
    verdict = _verdict(low, high, rule)
    reason = "not measured side by side: drift of the machine is not cancelled, and nothing confirms it"
    return Decision(verdict, math.exp(difference), math.exp(low), math.exp(high), min(len(base), len(new)), None, reason)


def over_cases(log_changes: Sequence[Mapping[int, float]]) -> Decision | None:
    """Geometric mean of the changes of several cases, bounded over the pairs that every case has; None without such pairs.

    Its interval is of measurement noise: the cases are chosen, not drawn.
    """
    shared = sorted(set.intersection(*(set(changes) for changes in log_changes))) if log_changes else []
    shared = [number for number in shared if number < FIRST_CONFIRMING]
    if len(shared) < 2:
        return None
    return _look(np.array([np.mean([changes[number] for changes in log_changes]) for number in shared]), Rule())


def pairs_needed(mean: float, deviation: float, rule: Rule = Rule()) -> int | None:
    """Pairs after which a change of this size and spread between pairs would be decided; None where none would.

    It would be SLOWER or FASTER where `mean` lies beyond the margin, SAME where it lies within what is tolerated.
    """
    rooms = [abs(mean) - rule.margin, rule.tolerated - abs(mean) if rule.floor < rule.tolerated else -1.0]
    counts = [_pairs_for(deviation, room) for room in rooms if room > 0]
    return min((count for count in counts if count is not None), default=None)


def _pairs_for(deviation: float, room: float) -> int | None:
    """Smallest n whose half-width t·s/√n fits into the room."""
    count = 3
    while count < PAIRS_LIMIT and _quantile(ALPHA, count - 1) * deviation / math.sqrt(count) > room:
        count = max(count + 1, int(count * 1.05))
    return count if count < PAIRS_LIMIT else None


def detectable(deviation: float, pairs: int, rule: Rule = Rule(), power: float = 0.95) -> float:
    """The slow-down, as a log ratio, that `pairs` pairs call slower with this power."""
    error = deviation / math.sqrt(pairs)
    return rule.margin + (_quantile(ALPHA, pairs - 1) + float(stats.norm.ppf(power))) * error


@lru_cache(maxsize=4096)
def _quantile(alpha: float, degrees: int) -> float:
    return float(stats.t.ppf(1 - alpha, degrees))
