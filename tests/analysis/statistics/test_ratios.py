"""Ratios against known truth: coverage of the interval, invariances, and what happens when something is missing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import AnalysisError
from analysis.statistics.rankings import rank
from analysis.statistics.ratios import (
    STATISTICS,
    Statistic,
    aggregate,
    case_ratios,
    log_ratio,
    log_ratios,
    over_replicates,
    t_interval,
)

positive = st.floats(1e-7, 1e3)
samples = st.lists(positive, min_size=3, max_size=30).map(np.array)


def frame(times: dict[tuple[str, str, int], list[float]], blocks: tuple[int, ...] = ()) -> pd.DataFrame:
    rows = [
        ("throughput", case, backend, f"r/{replicate}", np.array(values), blocks)
        for (case, backend, replicate), values in times.items()
    ]
    return pd.DataFrame(rows, columns=["study", "case", "backend", "replicate_key", "samples", "blocks"])


def test_the_t_interval_covers_the_truth_95_times_in_100() -> None:
    random = np.random.default_rng(0)
    draws = random.normal(0.3, 0.05, (4000, 5))
    bounds = [t_interval(draw)[1:] for draw in draws]
    covered = np.mean([low <= 0.3 <= high for low, high in bounds if low is not None and high is not None])
    assert abs(covered - 0.95) < 3 * (0.95 * 0.05 / 4000) ** 0.5


def test_intervals_cover_a_known_ratio_despite_shared_drift() -> None:
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(150):
        times = {}
        for replicate in range(4):
            drift = random.normal(0, 0.2, (3, 1))
            for name, truth in (("torch", 2.0), ("jax", 1.0)):
                noise = random.normal(0, 0.02, (3, 5)) + drift + random.normal(0, 0.01)
                times["case", name, replicate] = list((truth * np.exp(noise)).ravel())
        ratio = case_ratios(log_ratios(frame(times, (5, 5, 5)), "torch", "median"), "median")["throughput", "case", "jax"]
        assert ratio.low is not None and ratio.high is not None
        covered += ratio.low <= 2.0 <= ratio.high
    assert 0.89 <= covered / 150 <= 0.99


@given(samples, samples, st.sampled_from(STATISTICS), st.floats(0.01, 100))
def test_ratio_is_antisymmetric_and_free_of_units(a: np.ndarray, b: np.ndarray, statistic: Statistic, unit: float) -> None:
    forward = log_ratio(a, b, (), (), statistic)
    assert forward == pytest.approx(-log_ratio(b, a, (), (), statistic), abs=1e-9)
    assert forward == pytest.approx(log_ratio(a * unit, b * unit, (), (), statistic), abs=1e-6)


def test_turns_cancel_drift_that_whole_samples_do_not() -> None:
    drift = np.repeat([1.0, 2.0, 8.0, 8.0], 5)
    baseline, own = 3.0 * drift, drift.copy()
    blocks = (5, 5, 5, 5)
    assert log_ratio(baseline, own, blocks, blocks, "minimum") == pytest.approx(np.log(3))
    shifted = np.concatenate([own[5:], own[:5]])  # adjacent turns no longer match: the whole samples still do
    assert log_ratio(baseline, shifted, (5, 5, 5, 5), (), "median") == pytest.approx(np.log(3))


def test_blocks_that_do_not_add_up_are_ignored() -> None:
    assert log_ratio(np.full(6, 2.0), np.ones(6), (4, 4), (3, 3), "median") == pytest.approx(np.log(2))


def test_locations() -> None:
    values = np.array([4.0, 1.0, 3.0, 2.0, 5.0])
    assert [aggregate(values, name) for name in ("median", "lower_quartile", "minimum")] == [3.0, 2.0, 1.0]
    with pytest.raises(AnalysisError, match=r"no statistic 'mean'; choose from median, p25, min"):
        aggregate(values, "mean")  # pyright: ignore[reportArgumentType]


def test_one_replicate_has_no_interval_and_no_verdict() -> None:
    ratio = over_replicates([0.7], "median")
    assert (ratio.low, ratio.high, ratio.verdict) == (None, None, None)


@pytest.mark.parametrize(
    ("logs", "verdict"), [([0.5, 0.51, 0.49], "faster"), ([-0.5, -0.51, -0.49], "slower"), ([0.5, -0.4, 0.1], None)]
)
def test_a_verdict_needs_an_interval_without_one(logs: list[float], verdict: str | None) -> None:
    assert over_replicates(logs, "median").verdict == verdict
    inverse = {"faster": "slower", "slower": "faster", None: None}[verdict]
    assert over_replicates([-value for value in logs], "median").verdict == inverse


def test_only_equal_replicate_numbers_are_paired_and_never_null() -> None:
    times = {
        ("c", "torch", 0): [2.0],
        ("c", "torch", 1): [2.0],
        ("c", "jax", 1): [1.0],
        ("c", "jax", 7): [1.0],
        ("c", "null", 0): [0.1],
    }
    logs = log_ratios(frame(times), "torch", "median")
    assert sorted(logs["backend"]) == ["jax", "torch", "torch"]
    assert case_ratios(logs, "median")["throughput", "c", "jax"].replicates == 1


def ranked(times: dict[tuple[str, str, int], list[float]]):
    return rank(frame(times), "torch", "median")


def test_ranking_takes_the_geometric_mean_over_shared_cases_only() -> None:
    times = {(case, "torch", replicate): [1.0] for case in "abcd" for replicate in range(3)}
    times |= {(case, "jax", replicate): [0.5 if case == "a" else 2.0] for case in "abc" for replicate in range(3)}
    times |= {(case, "flax", replicate): [0.25] for case in "ab" for replicate in range(3)}
    times |= {("a", "numpy", replicate): [9.0] for replicate in range(3)}
    found = ranked(times)
    assert (found.shared, found.total, found.left_out) == (2, 4, {"numpy": 1})
    assert {name: round(ratio.value, 6) for name, ratio in found.ratios.items()} == {"flax": 4.0, "torch": 1.0, "jax": 1.0}
    assert next(iter(found.ratios)) == "flax"
    assert {ratio.cases for ratio in found.ratios.values()} == {2}


def test_replicates_that_lack_a_case_bound_nothing() -> None:
    times = {(case, "torch", replicate): [1.0] for case in "ab" for replicate in range(2)}
    times |= {("a", "jax", 0): [0.5], ("b", "jax", 1): [0.5]}
    ratio = ranked(times).ratios["jax"]
    assert ratio.value == pytest.approx(2.0) and ratio.low is None
