"""Crossovers in operations and bytes are exact: the records' counts give what the closed forms give."""

from __future__ import annotations

import math

import pytest

from analysis.statistics import quantities
from analysis.statistics.quantities import judge
from bench.studies import scaling
from impls import LSTMStackSpec, TransformerSpec
from tests.analysis.scaling_synthetic import series

TRAINING, DECODE = "study=scaling,sweep=tokens,phase=forward_backward", "study=scaling,sweep=tokens,phase=step"
COUNTED = (
    "crossover_flops", "attention_equals_rest", "attention_over_12d", "attention_over_6d", "cache_equals_weights",
    "cache_over_6d", "cache_passes_state",
)  # fmt: skip


def models(scale: str) -> tuple[LSTMStackSpec, TransformerSpec]:
    cases = [case for case in scaling.CASES[scale] if case.factor("sweep") == "tokens"]
    first, second = (next(case.spec for case in cases if case.spec.cell == cell) for cell in ("lstm_stack", "transformer"))
    assert isinstance(first, LSTMStackSpec) and isinstance(second, TransformerSpec)
    return first, second


@pytest.mark.parametrize("scale", ["cpu", "gpu"])
def test_where_attention_equals_the_rest_is_the_closed_form(scale):
    """Of weights (4d + 2F + I)·d products a token, of attention 2·d a token looked at: (T + 1)/2 of them, or T in decode."""
    rows, (_, transformer) = series(lambda case: 1.0, scale), models(scale)
    width = transformer.hidden_size
    rest = 4 * width + 2 * transformer.inner_size + transformer.input_size
    found = quantities.estimate("attention_equals_rest", rows, TRAINING)
    assert found.value == found.low == found.high == pytest.approx(rest + 1, rel=1e-9)
    assert quantities.estimate("attention_equals_rest", rows, DECODE).value == pytest.approx(rest / 2, rel=1e-9)
    over = quantities.estimate("attention_over_12d", rows, TRAINING)
    assert over.value == pytest.approx((rest + 1) / (12 * width))
    plain = TransformerSpec(width, width)  # a feed-forward of 4d and no projection of the input: 12 d and 6 d themselves
    assert plain.flops_per_token(context=6 * width) == 2 * (
        plain.flops_per_token(context=6 * width) - plain.context_flops(6 * width)
    )


@pytest.mark.parametrize("scale", ["cpu", "gpu"])
def test_where_the_kv_cache_equals_weights_and_passes_the_state(scale):
    rows, (lstm, transformer) = series(lambda case: 1.0, scale), models(scale)
    weights = quantities.estimate("cache_equals_weights", rows, DECODE)
    assert weights.value == pytest.approx(transformer.parameter_count() / (2 * transformer.hidden_size))
    assert quantities.estimate("cache_over_6d", rows, DECODE).value == pytest.approx(
        transformer.parameter_count() / (12 * transformer.hidden_size**2)
    )
    passes = quantities.estimate("cache_passes_state", rows, DECODE)
    assert passes.value == pytest.approx(lstm.hidden_size / transformer.hidden_size)
    assert passes.value == pytest.approx(math.sqrt(1.5), rel=0.1)


def test_operations_cross_exactly_or_are_below_throughout():
    rows = series(lambda case: 1.0)
    found = quantities.estimate("crossover_flops", rows, TRAINING)
    assert found.value is None and found.bounds == (0.0, 64.0) and found.high == 64
    dear = rows.assign(count_flops=rows["count_flops"] * (1 + 2 * (rows["cell"] == "lstm_stack")))  # 3·lstm = a + bT
    lstm, transformer = models("cpu")
    excess = 3 * 3 * lstm.flops_per_token() - transformer.sequence_flops(1, backward=True)
    exact = quantities.estimate("crossover_flops", dear, TRAINING)
    assert exact.value == exact.low == exact.high == pytest.approx(1 + excess / (3 * 2 * transformer.hidden_size), rel=1e-9)
    dearest = rows.assign(count_flops=rows["count_flops"] * (1 + 99 * (rows["cell"] == "lstm_stack")))
    beyond = quantities.estimate("crossover_flops", dearest, TRAINING)
    assert beyond.value is None and beyond.beyond == 4096


def test_the_claims_about_counts_are_judged_by_them_and_can_fail():
    words = {claim.name: judge(claim, series(lambda case: 1.0)).word for claim in scaling.CLAIMS}
    exact = ("e-operations", "e-attention-12d", "e-attention-6d", "e-cache-weights", "e-cache-state")
    assert {words[name] for name in exact} == {"supported"}
    rows = series(lambda case: 1.0)
    wrong = rows.assign(
        count_flops=rows["count_flops"] * (1 + (rows["cell"] == "lstm_stack") * 9),
        count_state_bytes=rows["count_state_bytes"] * (1 + (rows["cell"] == "lstm_stack") * 9),
        hidden_size=rows["hidden_size"] * 2,
    )
    assert {judge(claim, wrong).word for claim in scaling.CLAIMS if claim.name in exact} == {"refuted"}


def test_what_was_not_measured_is_said():
    rows = series(lambda case: 1.0)
    for name in COUNTED:
        assert not quantities.estimate(name, rows, f"{TRAINING},cell=minlstm").measured
