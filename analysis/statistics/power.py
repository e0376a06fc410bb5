"""How many seeds a rule needs: the sample size at which a true effect of the stated size is decided with 80 % power."""

from __future__ import annotations

import functools

import numpy as np
from scipy import stats

from analysis.statistics import CONFIDENCE
from analysis.statistics.seeds import FEWEST_SEEDS
from results.claims import Test

POWER = 0.8
MOST = 100_000  # seeds beyond which no plan is worth stating
QUANTILES = (np.arange(400) + 0.5) / 400  # of the estimated standard deviation, over which the probability is averaged


def power(test: Test, seeds: int) -> float:
    """The probability that a rule is decided as its stated effect says, for normal values of that many seeds.

    Args:
        test: with `effect` and `spread`.
        seeds: over which the mean and its t-interval are taken, at least 2.

    Returns:
        That of all of the interval lying within the bounds where the effect does, and outside them where the effect does.

    Raises:
        ValueError: the test states no effect, or there are fewer than two seeds.
    """
    if test.effect is None or test.spread is None:
        raise ValueError(f"the rule on {test.quantity} states no effect; give Test both effect and spread")
    if seeds < 2:
        raise ValueError(f"an interval needs at least 2 seeds, got {seeds}")
    within = test.low <= test.effect <= test.high
    if test.spread == 0:
        return 1.0
    deviation = np.sqrt(stats.chi2.ppf(QUANTILES, seeds - 1) / (seeds - 1))
    half = stats.t.ppf(0.5 + CONFIDENCE / 2, seeds - 1) * deviation  # in standard errors of the mean, as all that follows
    error = test.spread / np.sqrt(seeds)
    above, below = (test.effect - test.low) / error, (test.high - test.effect) / error  # distances from the bounds, inwards
    if within:
        return float(np.maximum(0, stats.norm.cdf(below - half) - stats.norm.cdf(half - above)).mean())
    return float(stats.norm.cdf(max(-above, -below) - half).mean())


@functools.cache
def seeds_needed(test: Test) -> int | None:
    """The least number of seeds (or replicates) with a power of 80 %.

    Args:
        test: a rule.

    Returns:
        1 where the spread is zero (the quantity is found and not estimated), at least `FEWEST_SEEDS` otherwise; None where the
        rule states no effect, and where `MOST` seeds would not do.
    """
    if test.effect is None or test.spread is None:
        return None
    if test.spread == 0:
        return 1
    if power(test, MOST) < POWER:
        return None
    few, enough = FEWEST_SEEDS - 1, FEWEST_SEEDS
    while power(test, enough) < POWER:
        few, enough = enough, min(2 * enough, MOST)
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if power(test, middle) >= POWER else (middle, enough)
    return enough
