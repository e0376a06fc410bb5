"""Sizes are matched within what is promised, and where none is within it, that is said."""

from __future__ import annotations

import pytest

from bench.case import Case
from bench.matching import Unmatched, by_flops, by_parameters, by_time, match
from impls import LSTMSpec, LSTMStackSpec, MinLSTMSpec, Spec, SSMSpec, TransformerSpec

LIKE = TransformerSpec(256, 256, 4, num_heads=4)


@pytest.mark.parametrize("spec", [LSTMStackSpec(8, 8, 4), MinLSTMSpec(8, 8, 4), LSTMSpec(8, 8, 4), SSMSpec(8, 8, 4)])
def test_matched_by_parameters(spec: Spec) -> None:
    found = by_parameters(spec, LIKE)
    assert found.spec.parameter_count() == pytest.approx(LIKE.parameter_count(), rel=0.01)
    assert abs(found.mismatch) <= 0.01
    assert found.spec.input_size == found.spec.hidden_size
    case = Case(found.spec, 4, 1, factors=found.factors)
    assert case.factor("matched") == "parameters" and f"mismatch={found.mismatch:.2g}" in case.key


@pytest.mark.parametrize("context", [1, 2048])
def test_matched_by_operations(context: int) -> None:
    found = by_flops(LSTMStackSpec(8, 8, 4), LIKE, context)
    assert found.spec.flops_per_token() == pytest.approx(LIKE.flops_per_token(context=context), rel=0.01)


def test_an_lstm_of_as_many_parameters_is_wider_by_the_root_of_three_halves() -> None:
    """12d² = 8H²."""
    found = by_parameters(LSTMStackSpec(8, 8, 4), TransformerSpec(2000, 2000, 4, num_heads=20))
    assert found.spec.hidden_size / 2000 == pytest.approx(1.2247, rel=1e-3)


def test_a_transformer_tunes_its_feed_forward() -> None:
    lstm = LSTMStackSpec(100, 100, 2)
    found = by_parameters(TransformerSpec(8, 8, 2), lstm)
    assert found.spec.parameter_count() == pytest.approx(lstm.parameter_count(), rel=0.01)
    assert isinstance(found.spec, TransformerSpec) and found.spec.hidden_size % 8 == 0


def test_what_cannot_be_matched_is_said() -> None:
    with pytest.raises(
        Unmatched, match=r"no lstm has 1000 parameters within 1\.0%: the nearest, of width 11, has 1056 \(\+5\.6%\)"
    ):
        by_parameters(LSTMSpec(4, 4), _Counted())  # pyright: ignore[reportArgumentType]


class _Counted:
    def parameter_count(self) -> int:
        return 1000


def test_matched_by_time() -> None:
    """The search by a clock that always tells the same: seconds proportional to the weights."""
    found = match(MinLSTMSpec(8, 8), "time", lambda spec: spec.parameter_count() * 1e-9, 1e-3)
    assert found.found == pytest.approx(1e-3, rel=0.01) and found.factors[0] == ("matched", "time")


def test_a_real_clock_is_asked() -> None:
    case = Case(LSTMStackSpec(24, 24), 16, 4)
    found = by_time(case, MinLSTMSpec(8, 8), "numpy", tolerance=10.0)
    assert found.wanted > 0 and found.found > 0 and found.by == "time"
