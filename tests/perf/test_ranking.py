"""The proof of the rankings bites: sound intervals pass, too narrow ones do not, and contradicting runs are counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.statistics import rankings
from analysis.statistics.pooling import Pooled
from analysis.statistics.rankings import Pair
from analysis.statistics.ratios import Ratio
from tests.perf import ranking
from tests.perf.ranking import LEAST_COVERAGE, adaptive, processes, repeated, simulate

AT = ("cpu", "forward", "eager")
SUITES = 25


@pytest.fixture(scope="module")
def sources() -> list[np.ndarray]:
    return processes(ranking.SOURCES[1:])


def test_intervals_of_the_adaptive_procedure_hold_the_truth(sources: list[np.ndarray]):
    for ratio in (1.0, 1.05):
        drawn = simulate(sources, ratio, SUITES)
        assert drawn.coverage >= LEAST_COVERAGE and drawn.flips <= 0.02
        assert drawn.further > 0  # it did adapt


def test_too_narrow_intervals_are_found_out(sources: list[np.ndarray], monkeypatch: pytest.MonkeyPatch):
    sound = Pooled.half_width
    monkeypatch.setattr(Pooled, "half_width", lambda self, key, confidence: 0.6 * sound(self, key, confidence))
    assert simulate(sources, 1.0, SUITES).coverage < LEAST_COVERAGE


def test_looking_after_each_replicate_at_95_percent_is_found_out():
    """Stopping as soon as an interval of 95 % excludes 1, which is what the spent error guards against."""
    random = np.random.default_rng(0)
    missed = 0
    for _ in range(200):
        values = random.normal(0, 0.3, (2, 12, 1))
        looks = (rankings.rank_grids({"a": values[0, :n], "b": values[1, :n]}, "a").pairs for n in range(3, 13))
        missed += any(pair.verdict in ("faster", "slower") for look in looks for pair in look.values())
    assert missed / 200 > 0.07


def test_what_is_decided_gets_no_further_replicate():
    random = np.random.default_rng(0)
    apart = np.arange(4)[:, None, None] * 0.5 + random.normal(0, 0.01, (4, 8, 2))
    found, further = adaptive({AT: apart}, 3)
    assert further == 0 and {pair.verdict for pair in found[AT].pairs.values()} == {"faster"}
    close = np.array([0.0, 0.5, 0.52, 1.0])[:, None, None] + random.normal(0, 0.02, (4, 8, 2))
    found, further = adaptive({AT: close}, 3)
    assert further > 0
    counts = {names: pair.speedup.replicates for names, pair in found[AT].pairs.items()}
    assert counts["0", "3"] == 3 and max(counts.values()) == counts["1", "2"] == 3 + further


def test_runs_that_contradict_each_other_are_counted():
    ratio = Ratio(1.1, 1.05, 1.15, 3, "lower_quartile")
    pair, key = Pair(ratio, "faster"), (AT, "jax", "torch")
    same = repeated([{key: pair}] * 3)
    assert (same.flips, same.compared, same.covered, same.intervals, same.decided) == (0, 3, 3, 3, (1.0, 1.0, 1.0))
    other = repeated([{key: pair}, {key: pair}, {key: pair.inverse}])
    assert (other.flips, other.compared, other.covered) == (2, 3, 0)
    undecided = repeated([{key: pair}, {key: replace(pair, verdict="open")}])
    assert undecided.decided == (1.0, 0.0) and undecided.compared == 0
