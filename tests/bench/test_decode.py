"""A stream is timed after its context, matched models are what they are matched to, and a long stream is looked at."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

import impls
from bench import prepare, streaming
from bench.case import Case
from bench.studies import decode, stream
from impls import LSTMSpec, LSTMStackSpec, Phase, Spec, TransformerSpec


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


def _looked_at(spec: Spec, steps: int, phase: Phase, tokens: int, piece: int) -> dict[str, tuple[float, ...]]:
    case = Case(spec, steps, 1, phase, factors=(("tokens", tokens), ("piece", piece)))
    return {item.metric: item.samples for item in streaming.measure("torch", case)}


@pytest.mark.parametrize("spec", [LSTMSpec(4, 8), LSTMStackSpec(4, 8)], ids=lambda spec: spec.cell)
@pytest.mark.parametrize(("steps", "phase", "piece"), [(5, "step", 1), (6, "forward", 2)])
def test_a_long_stream_is_looked_at_ten_times(spec: Spec, steps: int, phase: Phase, piece: int) -> None:
    found = _looked_at(spec, steps, phase, 60, piece)
    assert {name: len(samples) for name, samples in found.items()} == dict.fromkeys(
        ("state_error", "state_size", "resident"), streaming.LOOKS
    )
    assert 0 < max(found["state_error"]) < 1e-4 and max(found["state_size"]) > 0


def test_a_stream_in_pieces_is_the_stream() -> None:
    """One that forgot its state between pieces, or read other tokens, would end elsewhere."""
    for spec in (LSTMSpec(4, 8, 2, dtype="float64"), LSTMStackSpec(4, 8, 2, dtype="float64")):
        case = Case(spec, 6, 2, "step")
        stepped, advanced = (impls.get(name).load(spec, *case.data()) for name in ("numpy", "torch"))
        for _ in range(10):
            stepped.step()
        for _ in range(5):
            cast(impls.Advances, advanced).advance(2)
        for name, expected in stepped.final_state().items():
            np.testing.assert_allclose(advanced.final_state()[name], expected, rtol=1e-10, atol=1e-12)
        with pytest.raises(ValueError, match="must divide the batch's 6 steps; got 4"):
            cast(impls.Advances, advanced).advance(4)


def test_a_stream_is_whole_pieces_and_looks() -> None:
    with pytest.raises(ValueError, match="whole pieces of 4 tokens; got 60"):
        _looked_at(LSTMSpec(4, 8), 8, "forward", 60, 4)
    for cases in stream.CASES.values():
        for case in cases:
            tokens, piece = int(case.factor("tokens")), int(case.factor("piece"))
            looks = {look * (tokens // streaming.LOOKS) % case.steps for look in range(streaming.LOOKS)}
            assert tokens % (streaming.LOOKS * piece) == case.steps % piece == 0
            assert tokens < 1000 * streaming.LOOKS or len(looks) == streaming.LOOKS


def test_at_cpu_scale_a_million_tokens_go_by() -> None:
    longest = {case.spec.cell: int(case.factor("tokens")) for case in stream.CASES["cpu"] if case.phase == "forward"}
    assert longest == {"lstm": 1_000_000, "lstm_stack": 1_000_000}
