"""Rankings: what an interval decides, what pooling gains and when it is refused, and where further time goes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.statistics.pooling import LEAST_DEVIATION, Unit, pool
from analysis.statistics.rankings import (
    SPENT,
    START_SECONDS,
    START_SECONDS_EACH,
    WITHIN,
    Ranking,
    Verdict,
    confidence,
    decide,
    further_replicates,
    rank_grids,
    standings,
)

AT = ("cpu", "forward", "eager")
CASES = {AT: [("throughput", "a"), ("throughput", "b")]}


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.06, 0.2, "faster"),
        (-0.2, -0.01, "slower"),
        (-0.01, 0.04, "within"),
        (0.01, 0.04, "within"),
        (-0.01, 0.06, "open"),
        (-WITHIN, 0.0, "open"),
    ],
)
def test_an_interval_decides(low: float, high: float, verdict: Verdict):
    assert decide(low, high) == verdict


def test_the_two_looks_spend_the_error_of_95_percent():
    assert sum(SPENT) == pytest.approx(0.05)
    assert [confidence(count, 3) for count in (2, 3, 4, 9)] == pytest.approx([0.98, 0.98, 0.97, 0.97])
    assert confidence(9, None) == 0.95


def draws(deviations: np.ndarray, seed: int, replicates: int = 3) -> dict[int, Unit]:
    random = np.random.default_rng(seed)
    return {number: Unit(random.normal(0, scale, replicates)) for number, scale in enumerate(deviations)}


def misses(deviations: np.ndarray, suites: int = 150) -> float:
    missed = []
    for seed in range(suites):
        units = draws(deviations, seed)
        pooled = pool(units, most_freedom=6)
        missed += [abs(unit.values.mean()) > pooled.half_width(key, 0.95) for key, unit in units.items()]
    return float(np.mean(missed))


def test_pooled_intervals_are_narrower_and_miss_5_percent():
    alike = np.full(20, 0.02)
    assert 0.03 < misses(alike) < 0.07
    units = draws(alike, 0)
    pooled = pool(units, most_freedom=6)
    alone = [4.303 * unit.values.std(ddof=1) / math.sqrt(3) for unit in units.values()]
    assert pooled.freedom > 2 and np.mean([pooled.half_width(key, 0.95) for key in units]) < 0.8 * np.mean(alone)
    assert misses(np.geomspace(0.005, 0.1, 20)) < 0.07  # variances that differ by a factor of 400


def test_a_pair_that_scatters_far_more_keeps_its_own_variance():
    units = draws(np.full(20, 0.02), 1) | {"noisy": Unit(np.array([-3.0, 0.0, 3.0]))}
    pooled = pool(units, most_freedom=6)
    assert pooled.own == ("noisy",) and pooled.freedoms["noisy"] == 2 and not pooled.reason
    assert pooled.variances["noisy"] == pytest.approx(3.0)


def test_where_many_do_not_fit_nothing_is_pooled():
    units = {number: Unit(np.array([-1.0, 0.0, 1.0]) * (1e-3 if number < 15 else 10.0)) for number in range(20)}
    pooled = pool(units, most_freedom=6)
    assert pooled.reason and pooled.freedom == 0 and set(pooled.own) == set(units)
    assert {freedom for freedom in pooled.freedoms.values()} == {2}
    assert pool(dict(list(units.items())[:2]), 6).reason  # two units say nothing of a common variance


def test_equal_values_are_no_certainty():
    assert pool({"a": Unit(np.zeros(3))}, 6).variances["a"] == pytest.approx(LEAST_DEVIATION**2 / 3)


def grids(spread: float = 0.01, replicates: int = 3, **means: float) -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    return {name: mean + random.normal(0, spread, (replicates, 2)) for name, mean in means.items()}


def ranked(spread: float = 0.01, **means: float) -> Ranking:
    return rank_grids(grids(spread, **means), next(iter(means)), fixed=3)


def test_a_replicate_that_lacks_a_case_is_not_in_the_interval():
    logs = grids(jax=0.0, torch=0.3, numpy=0.6)
    logs["numpy"][2, 1] = np.nan
    found = rank_grids(logs, "torch")
    assert list(found.ratios) == ["jax", "torch", "numpy"]
    assert found.pair("jax", "numpy").speedup.replicates == 2 and found.pair("jax", "torch").speedup.replicates == 3
    assert found.pair("numpy", "jax").verdict == "slower" and found.pair("jax", "numpy").verdict == "faster"


def test_cases_that_share_a_disturbance_are_one_observation():
    """Of ten cases that a replicate disturbs together the interval is as wide as of one."""
    random = np.random.default_rng(5)
    shared = random.normal(0, 0.05, (3, 3, 1))
    one, ten = ({str(n): shared[n] + np.zeros((3, count)) for n in range(3)} for count in (1, 10))
    widths = [rank_grids(logs, "0").pair("0", "1").speedup for logs in (one, ten)]
    assert widths[0].low == pytest.approx(widths[1].low) and widths[0].high == pytest.approx(widths[1].high)


def test_standings_say_which_neighbours_are_not_separated():
    rows = standings(ranked(jax=0.0, flax=0.012, numpy=1.0))
    assert [(row.place, row.backend) for row in rows] == [(1, "jax"), (2, "flax"), (3, "numpy")]
    assert rows[0].beside is None and rows[1].beside in ("open", "within") and rows[2].beside == "faster"


SECONDS = {(*key, name): 1.0 for key in CASES[AT] for name in ("jax", "flax", "numpy", "torch")}


def test_further_replicates_are_of_open_pairs_alone():
    found = ranked(spread=0.03, jax=0.0, flax=0.03, numpy=2.0)
    (names,) = found.open
    wanted = found.pairs[names].wanted
    assert set(names) == {"jax", "flax"} and wanted is not None and wanted > 3
    chosen = further_replicates({AT: found}, CASES, SECONDS, 1e6)
    assert len(chosen) == wanted - 3
    assert all(parts == {(*key, name) for key in CASES[AT] for name in names} for parts, _ in chosen)
    assert {seconds for _, seconds in chosen} == {4.0 + START_SECONDS + 2 * START_SECONDS_EACH}
    assert further_replicates({AT: ranked(jax=0.0, numpy=2.0)}, CASES, SECONDS, 1e6) == []


@pytest.mark.parametrize("seconds", [0.0, 7.5, 7.7, 20.0, 40.0])
def test_further_replicates_keep_the_time_that_is_left(seconds: float):
    chosen = further_replicates({AT: ranked(spread=0.05, jax=0.0, flax=0.03, numpy=0.06)}, CASES, SECONDS, seconds)
    assert sum(each for _, each in chosen) <= seconds and (seconds < 7.6) == (chosen == [])
