"""Gaps and contexts of constructed data whose truth is known; what was not seen is censored."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.statistics import quantities
from analysis.studies import context as context_statistics
from analysis.studies import quality as quality_statistics
from analysis.studies.context import figures as context_figures
from analysis.studies.quality import figures as quality_figures

CONTEXTS = np.array([1, 2, 4, 8, 16, 32, 64, 128.0])


def rows(cell: str, probe: str = "context", **metrics: np.ndarray) -> pd.DataFrame:
    """One row a metric; values [S, K]."""
    return pd.DataFrame(
        {
            "probe": probe, "source": "text", "cell": cell, "case": cell, "size": "small", "steps": 128, "backend": "reference",
            "count_parameters": 1000, "metric": name, "samples": values.ravel(), "blocks": (values.shape[1],) * len(values),
        }
        for name, values in metrics.items()
    )  # fmt: skip


def decaying(scale: float, gain: float = 1.0, seeds: int = 4, noise: float = 0.0) -> np.ndarray:
    random = np.random.default_rng(3)
    scales = scale * np.exp(noise * random.standard_normal((seeds, 1)))
    return 2.0 + gain * np.exp(-CONTEXTS / scales)


@pytest.mark.parametrize("scale", [2.0, 5.0, 10.0])
def test_the_context_for_nine_tenths_of_a_known_decay(scale):
    at = np.geomspace(1, 256, 60)
    known = {"context": at[None], "context_loss": 2.0 + np.exp(-at / scale) * np.ones((4, 1))}
    found, gain = context_statistics.context_for_nine_tenths(rows("lstm_stack", **known)), np.exp(-1 / scale)
    assert found.value == pytest.approx(scale * np.log(10 / gain), rel=0.05)
    within = context_statistics.context_within_percent(rows("lstm_stack", **known))
    assert within.value == pytest.approx(scale * np.log(1 / np.log(1.01)), rel=0.05)


def test_the_interval_of_a_context_covers_as_stated():
    covered, at = 0, np.geomspace(1, 512, 40)
    for seed in range(200):
        scales = 10 * np.exp(0.1 * np.random.default_rng(seed).standard_normal((5, 1)))
        values = np.exp(-at / scales) - np.exp(-at[-1] / scales)
        found = context_statistics.context_for_nine_tenths(rows("lstm_stack", context=at[None], context_loss=values))
        assert found.low is not None and found.high is not None
        covered += found.low <= 10 * np.log(10 / np.exp(-1 / 10)) <= found.high
    assert covered >= 180


def test_an_unseen_end_is_censored_and_no_gain_gives_no_context():
    found = context_statistics.context_for_nine_tenths(
        rows("x", context=CONTEXTS[None], context_loss=3 - np.log(CONTEXTS)[None] * np.ones((3, 1)) / 5)
    )
    assert (
        found.value is None
        and found.beyond == 64
        and quantities.named("context_for_nine_tenths").format(found).startswith("> 64 tokens")
    )
    flat = context_statistics.context_for_nine_tenths(rows("x", context=CONTEXTS[None], context_loss=decaying(5, gain=0.001)))
    assert flat.value is None and flat.why == "context gains less than 0.01 nat"
    few = context_statistics.context_for_nine_tenths(rows("x", context=CONTEXTS[None], context_loss=decaying(5, seeds=2)))
    assert few.why == "2 seeds: too few for an interval"


def test_the_truth_of_a_ruler_is_read_by_the_same_estimator():
    true = {"context": CONTEXTS[None], "optimum_context_loss": decaying(5.0, seeds=1)}
    found = context_statistics.nine_tenths_over_truth(rows("lstm_stack", context_loss=decaying(5.0, noise=0.01), **true))
    assert found.value == pytest.approx(1.0, rel=0.02)
    half = context_statistics.nine_tenths_over_truth(rows("lstm_stack", context_loss=decaying(2.5), **true))
    assert half.value == pytest.approx(0.55, abs=0.1)
    assert (
        context_statistics.nine_tenths_over_truth(rows("x", context=CONTEXTS[None], context_loss=decaying(5.0))).why
        == "the true context is not known"
    )


def test_the_optimums_relative_context_is_a_truth():
    """Its gain from 4 to 8 tokens is below a hundredth of perplexity; of a run that did not keep its targets there is none."""
    optimum = np.array([3.0, 2.5, 2.0, 1.995, 1.99, 1.99, 1.99, 1.99])
    targets = np.repeat(optimum[:, None], 5, 1).reshape(1, -1)
    known = rows("lstm_stack", context=CONTEXTS[None], optimum_target_loss=targets)
    assert context_statistics.truth(known, "relative") == 4.0
    assert context_statistics.truth(rows("lstm_stack", context=CONTEXTS[None]), "relative") is None


def test_the_relative_context_of_dai_by_hand():
    """Two models, one target: the first stops gaining at 4 tokens, the second goes on to the end."""
    first = np.array([3.0, 2.5, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0])[:, None]
    second = np.array([3.0, 2.4, 1.9, 1.7, 1.5, 1.3, 1.1, 0.9])[:, None]
    assert context_statistics.relative(np.stack([first, second]), CONTEXTS) == [4.0, None]
    # the best of the group is the baseline: a model that trails it gains nothing by what the other had before
    trailing = np.array([3.0, 2.9, 2.8, 2.7, 2.6, 2.5, 2.4, 2.3])[:, None]
    assert context_statistics.relative(np.stack([trailing, second]), CONTEXTS) == [2.0, None]
    assert context_statistics.relative(trailing[None], CONTEXTS) == [None]


def test_only_the_hardest_targets_count_where_asked():
    """The hard target gains for long, the easy one not at all."""
    losses = np.stack([np.linspace(4, 1, 8), np.full(8, 0.5)], 1)[None]
    assert context_statistics.relative(losses, CONTEXTS, hardest=0.5) == [None]


def test_influence_that_falls_to_a_hundredth():
    at = np.geomspace(1, 128, 60)
    values = np.exp(-at / 4.0)[None] * np.ones((3, 1))
    found = context_statistics.influence_reach(rows("x", influence_lag=at[None], influence=values))
    assert found.value == pytest.approx(1 + 4 * np.log(100), rel=0.05)


def index_rows(late: float, noise: float = 0.01, seeds: int = 4) -> pd.DataFrame:
    """A Transformer, and an LSTM as good for ten tokens and worse by `late` from then on."""
    random = np.random.default_rng(5)
    base = np.linspace(3, 2, 128)
    extra = np.where(np.arange(128) < quality_statistics.EARLY_TOKENS, 0.0, late)
    cost = {"curve_seconds": np.array([[1.0, 2, 4]] * seeds), "curve_loss": np.array([[3.0, 2.5, 2]] * seeds)}
    made = []
    for cell, more in (("transformer", 0 * extra), ("lstm_stack", extra)):
        values = base + more + noise * random.standard_normal((seeds, 1))
        slower = {name: each * (2 if (cell, name) == ("transformer", "curve_seconds") else 1) for name, each in cost.items()}
        made.append(rows(cell, "quality", loss_by_index=values, loss=values.mean(1, keepdims=True), **slower))
    return pd.concat(made, ignore_index=True)


def test_a_gap_is_found_where_it_was_put():
    of = index_rows(0.2)
    early, late, whole = quality_statistics.early_gap(of), quality_statistics.late_gap(of), quality_statistics.loss_gap(of)
    assert early.low < 0 < early.high and late.low <= 0.2 <= late.high and whole.low <= 0.2 * 118 / 128 <= whole.high
    shares = quality_statistics.shares(of)
    assert shares is not None and shares[0].value + shares[1].value == pytest.approx(whole.value)


def test_a_gap_at_equal_time_reads_both_at_their_common_time():
    """Twice as slow with the same losses: after 4 s the one is at 2, the other at 2.5."""
    found = quality_statistics.gap_at_equal("curve_seconds")(index_rows(0.0))
    assert (
        found.value == pytest.approx(-0.5)
        and quality_statistics.loss_gap(rows("lstm_stack", "quality", loss_by_index=np.ones((3, 4)))).why
    )


def test_the_figures_draw_what_there_is_and_nothing_else():
    of = index_rows(0.2)
    assert (
        "from the first ten" in quality_figures.draw_by_index(of).caption
        and "small: " in quality_figures.draw_quality(of).caption
    )
    used = rows("lstm_stack", context=CONTEXTS[None], context_loss=decaying(5.0))
    caption = context_figures.draw(used).caption
    assert "memory span (L50) not measured" in caption and "90 % of the gain" in caption
    nothing = pd.DataFrame(columns=["metric"])
    assert [draw(nothing) for draw in (quality_figures.draw_by_index, quality_figures.draw_quality, context_figures.draw)] == [
        None
    ] * 3
