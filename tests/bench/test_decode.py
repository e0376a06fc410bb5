"""A stream is timed after its context, matched models are what they are matched to, and a long stream is looked at."""

from __future__ import annotations

import numpy as np

import impls
from bench import prepare, streaming
from bench.case import Case
from bench.studies import decode
from impls import LSTMSpec, LSTMStackSpec, TransformerSpec


def test_a_transformer_is_timed_with_its_cache_full() -> None:
    case = Case(TransformerSpec(4, 8, dtype="float64"), 9, 2, "step")
    prepared = prepare.load(case, "torch")
    stepped = impls.get("numpy").load(case.spec, *case.data())
    for _ in range(10):
        stepped.step()
    np.testing.assert_allclose(prepared.loaded.outputs(), stepped.outputs(), rtol=1e-10, atol=1e-12)
    assert prepared.loaded.cache_bytes() == case.spec.state_bytes(2, 9)  # pyright: ignore[reportAttributeAccessIssue]


def test_the_models_are_as_large_as_one_another() -> None:
    for scale in ("smoke", "cpu", "gpu"):
        cases = decode.CASES[scale]
        base = next(case for case in cases if case.factor("model") == "attention").counts()["parameters"]
        assert {case.factor("model") for case in cases} == {"attention", "grouped", "windowed", "lstm"}
        assert all(abs(case.counts()["parameters"] / base - 1) <= 0.01 for case in cases)


def test_a_long_stream_is_looked_at_ten_times() -> None:
    for spec in (LSTMSpec(4, 8), LSTMStackSpec(4, 8)):
        found = {item.metric: item for item in streaming.measure("torch", Case(spec, 5, 1, "step", factors=(("tokens", 60),)))}
        assert {name: len(item.samples) for name, item in found.items()} == dict.fromkeys(
            ("state_error", "state_size", "resident"), streaming.LOOKS
        )
        assert 0 < max(found["state_error"].samples) < 1e-4 and max(found["state_size"].samples) > 0
