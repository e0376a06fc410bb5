"""The door: nothing wrong, NaN, unfinished or fallen back gets through, and refusals keep their reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

import impls
from bench.case import Case
from bench.prepare import Rejected, Skip, prepare
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
    """What a real slow-down of about 3 % is measured with; see docs/history.md."""
    case = Case(LSTMSpec(64, 64), 32, 32)
    loaded = impls.get("a_little_more").load(case.spec, *case.data())
    for _ in range(3):
        loaded.forward()
    assert loaded.provenance()["more"] == "1 of 32 steps"
