"""The door: nothing wrong, NaN, unfinished or fallen back gets through, and refusals keep their reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

import impls
from bench.harness.case import Case
from bench.worker.prepare import Rejected, Skip, prepare, validated_in_full
from impls import LSTMSpec


def test_a_right_backend_comes_in_ready(case: Case):
    prepared = prepare(case, "numpy")
    assert prepared.provenance["ran"] == "numpy"
    assert prepared.first_call_seconds > 0


@pytest.mark.parametrize(("backend", "phase", "message"), [
    ("slightly_wrong", "forward_backward", "gradient of weight_hh_l0 is off by"),
    ("not_a_number", "forward", "outputs that are NaN or infinite"),
    ("forgetful", "forward", "does not wait: reading the outputs after wait"),
    ("fallen_back", "forward", "fell back: 'numpy' ran where it promises fused kernel"),
])  # fmt: skip
def test_a_misbehaving_backend_is_never_timed(misbehaving: None, case: Case, backend: str, phase: str, message: str):
    with pytest.raises(Rejected, match=message):
        prepare(replace(case, phase=phase), backend)


@pytest.mark.parametrize(("backend", "phase", "message"), [
    ("slightly_wrong", "forward_backward", "gradient of weight_hh_l0 is off by"),
    ("late_error", "forward", "outputs is off by"),
    ("late_error", "step", "outputs is off by"),
])  # fmt: skip
def test_what_only_the_loaded_case_gets_wrong_is_found(misbehaving: None, backend: str, phase: str, message: str):
    """`late_error` is wrong after 12 steps: the reduced case and the prefix would let it pass."""
    long = Case(LSTMSpec(4, 5), steps=32, batch=3, phase=phase)
    assert validated_in_full(long)
    with pytest.raises(Rejected, match=message):
        prepare(long, backend)


def test_a_large_case_is_validated_by_its_reduced_case(misbehaving: None, monkeypatch):
    large = Case(LSTMSpec(4, 5), steps=32, batch=3, phase="forward_backward")
    monkeypatch.setattr("bench.worker.prepare.IN_FULL_FLOPS", 0)
    assert not validated_in_full(large)
    with pytest.raises(Rejected, match=r"T12-B3-forward_backward.*gradient of weight_hh_l0 is off by"):
        prepare(large, "slightly_wrong")


@pytest.mark.parametrize("spec", [LSTMSpec(4, 5, dtype="bfloat16"), LSTMSpec(4, 5, dtype="tensorfloat32")])
def test_what_numpy_computes_slowly_is_not_validated_in_full(spec: LSTMSpec):
    assert not validated_in_full(Case(spec, 4, 2))


def test_a_slow_but_right_backend_comes_in(misbehaving: None, case: Case):
    prepare(case, "slowed")


def test_what_no_backend_can_do_is_refused_for_all(case: Case):
    bidirectional = replace(case, spec=replace(case.spec, bidirectional=True), phase="step")
    with pytest.raises(Skip, match="a bidirectional network cannot stream"):
        prepare(bidirectional, "numpy")


def test_a_refusal_says_what_to_ask_for(case: Case):
    on_gpu = replace(case, spec=LSTMSpec(4, 5, device="cuda"))
    with pytest.raises(Skip, match="runs on cpu, not on cuda; ask for device=cpu"):
        prepare(on_gpu, "numpy")


def test_the_backend_that_does_a_little_more_counts_what_it_does(misbehaving: None):
    """What a real slow-down of about 3 % is measured with; see docs/comparison-accuracy.md."""
    case = Case(LSTMSpec(64, 64), 32, 32)
    loaded = impls.get("a_little_more").load(case.spec, *case.data())
    for _ in range(3):
        loaded.forward()
    assert loaded.provenance()["more"] == "1 of 32 steps"
