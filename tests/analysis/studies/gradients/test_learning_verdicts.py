"""From records of study `horizon` to its claims: each verdict is reached on constructed data, by the study's own rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.report.groups import studied
from analysis.report.load import series_frame
from analysis.statistics import quantities, seeds
from analysis.studies import horizon as horizon_statistics
from analysis.studies.gradients import tables
from bench.harness import study
from results.record import Header, Record
from results.store import Run
from tests.analysis.learning_synthetic import learnt, record

SETTINGS = {"a-ten-steps-learnt": [("rnn", "pytorch"), ("rnn", "orthogonal"), ("rnn", "irnn")],
            "c-hundreds-learnt": [("lstm", init) for init in ("pytorch", "forget:1", "forget:3", "chrono:784")]}  # fmt: skip
STEEP = 40.0


def series(*records: Record) -> pd.DataFrame:
    return series_frame([Run(Path("x"), Header("r", "2026-11-20T12:00:00Z", 1, "imaginary", {}, {}), records, None)])


def judged(name: str, *records: Record) -> quantities.Verdict:
    (claim,) = (claim for claim in study.get("horizon").claims if claim.name == name)
    return quantities.judge(claim, series(*records))


def at(cell: str, init: str, lag: float, horizon: float, truncation: int = 0) -> Record:
    return record(cell, init, learnt(lag, STEEP, 8, 3), horizon, truncation)


@pytest.mark.parametrize(
    ("name", "reached", "word"),
    [
        ("a-ten-steps-learnt", [(12, 12), (12, 11), (8.4, 10)], "supported"),
        ("a-ten-steps-learnt", [(12, 12), (48, 50), (48, 12)], "mixed"),
        ("a-ten-steps-learnt", [(48, 12), (48, 50), (68, 12)], "refuted"),
        ("a-ten-steps-learnt", [(20, 12), (12, 12), (12, 12)], "inconclusive"),
        ("c-hundreds-learnt", [(999, 12)] * 4, "supported"),
        ("c-hundreds-learnt", [(12, 12), (24, 12), (999, 12), (999, 12)], "mixed"),
        ("c-hundreds-learnt", [(12, 12), (24, 12), (48, 12), (68, 12)], "refuted"),
        ("c-hundreds-learnt", [(999, 12), (999, 12), (100, 12), (999, 12)], "inconclusive"),
    ],
)
def test_each_of_the_four_verdicts_is_reached_by_learning(name, reached, word):
    made = [at(*setting, *lags) for setting, lags in zip(SETTINGS[name], reached, strict=True)]
    verdict = judged(name, *made)
    assert verdict.word == word, [(finding.label, finding.estimates) for finding in verdict.findings]


@pytest.mark.parametrize(
    ("lags", "word"),
    [((5.9, 12, 5.9, 12), "supported"), ((5.9, 12, 24, 48), "mixed"),
     ((24, 48, 80, 80), "refuted"), ((5.9, 14.5, 5.9, 12), "inconclusive")],
)  # fmt: skip
def test_each_of_the_four_verdicts_is_reached_by_truncation(lags, word):
    settings = [("rnn", "pytorch", 5), ("rnn", "pytorch", 10), ("lstm", "forget:3", 5), ("lstm", "forget:3", 10)]
    made = [at(cell, init, lag, 35.0, k) for lag, (cell, init, k) in zip(lags, settings, strict=True)]
    verdict = judged("c-truncated", *made)
    assert verdict.word == word, [(finding.label, finding.estimates) for finding in verdict.findings]


@pytest.mark.parametrize(
    ("order", "word"),
    [(range(12), "supported"), (range(12)[::-1], "refuted"), ((0, 7, 2, 9, 4, 1, 6, 3, 8, 5, 10, 11), "inconclusive")],
)
def test_the_rank_correlation_decides_only_where_it_is_clear(order, word):
    horizons = np.geomspace(8, 90, 12)
    made = [
        at("lstm", f"gaussian:{place}", lag, horizons[rank])
        for place, (lag, rank) in enumerate(zip(np.geomspace(8, 120, 12), order, strict=True))
    ]
    assert judged("a-foretold", *made).word == word


def test_the_interval_of_the_rank_correlation_covers_as_stated():
    """Spearman's ρ of normal pairs with correlation r is 6/π asin(r/2)."""
    truth, covered = 6 / np.pi * np.arcsin(0.35), 0
    for seed in range(300):
        drawn = np.random.default_rng(seed).multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], 16)
        low, high = seeds.spearman(drawn)[1:]
        covered += low <= truth <= high
    assert covered >= 270


def test_censored_values_share_the_highest_rank():
    made = [at("lstm", f"forget:{place}", lag, horizon) for place, (lag, horizon) in
            enumerate([(9, 10), (17, 20), (34, 40), (48, 80), (999, 5000), (999, 9000)])]  # fmt: skip
    made.append(record("rnn", "irnn", [np.zeros(8)] * 3, 12.0))
    found = horizon_statistics.rank_correlation(series(*made))
    assert found.seeds == 6 and found.value == pytest.approx(1.0, abs=1e-6)
    few = horizon_statistics.rank_correlation(series(*made[:4]))
    assert few.value is None and few.why == "4 initialisations with both numbers: too few for a correlation"
    alike = horizon_statistics.rank_correlation(series(*(at("lstm", f"forget:{place}", 999, 9) for place in range(5))))
    assert alike.value is None and "nothing to rank" in alike.why


def test_a_whole_gradient_is_not_judged_as_a_truncated_one():
    found = quantities.named("learnable_over_truncation").estimate(series(at("lstm", "forget:1", 12, 35)))
    assert found.value is None and found.why == "not truncated"


def test_the_figures_are_drawn_and_say_what_is_censored():
    made = [at("rnn", "pytorch", 24, 12), at("gru", "pytorch", 40, 30), at("lstm", "pytorch", 17, 12),
            at("lstm", "chrono:784", 999, 9000), at("lstm", "chrono:784", 12, 9000, 10),
            record("rnn", "irnn", [np.zeros(8)] * 3, 12.0)]  # fmt: skip
    drawn = {name: figures for name, _, figures in studied(series(*made), pd.DataFrame())}["learning"]
    captions = {name: drawing if isinstance(drawing, str) else drawing.caption for name, drawing in drawn}
    assert set(captions) == {"phase", "foretelling", "truncated_learning"}
    assert "all steps > 160 steps" in captions["truncated_learning"] and "k = 10 1" in captions["truncated_learning"]
    assert "8 networks a lag" in captions["phase"]
    assert studied(series(), pd.DataFrame()) == []


def test_the_audit_lists_the_learnable_lag_beside_the_horizon():
    texts = [[cell.text for cell in row] for row in tables.audit_table(series(at("lstm", "pytorch", 17, 12))).rows]
    assert texts[0][0] == "PyTorch default" and any(text.startswith("16") or text.startswith("17") for text in texts[0])
