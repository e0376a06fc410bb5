"""A stream is timed after its context, matched models are what they are matched to, and a long stream is looked at."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

import impls
from bench import costs
from bench.harness import forecast, plan
from bench.harness.case import Case
from bench.studies import decode, matching, stream
from bench.worker import memory, prepare
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
        within = matching.TOLERANCE[cases[0].spec.device]
        assert all(abs(case.counts()["parameters"] / base - 1) <= within for case in cases)


def _looked_at(spec: Spec, steps: int, phase: Phase, tokens: int, piece: int) -> dict[str, tuple[float, ...]]:
    case = Case(spec, steps, 1, phase, factors=(("tokens", tokens), ("piece", piece)))
    return {item.metric: item.samples for item in stream.measure("torch", case)}


@pytest.mark.parametrize("spec", [LSTMSpec(4, 8), LSTMStackSpec(4, 8)], ids=lambda spec: spec.cell)
@pytest.mark.parametrize(("steps", "phase", "piece"), [(5, "step", 1), (6, "forward", 2)])
def test_a_long_stream_is_looked_at_ten_times(spec: Spec, steps: int, phase: Phase, piece: int) -> None:
    found = _looked_at(spec, steps, phase, 60, piece)
    assert {name: len(samples) for name, samples in found.items()} == dict.fromkeys(
        ("state_error", "state_size", "resident"), stream.LOOKS
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
            cast(impls.SupportsMultiStep, advanced).advance(2)
        for name, expected in stepped.final_state().items():
            np.testing.assert_allclose(advanced.final_state()[name], expected, rtol=1e-10, atol=1e-12)
        with pytest.raises(ValueError, match="must divide the batch's 6 steps; got 4"):
            cast(impls.SupportsMultiStep, advanced).advance(4)


def test_a_stream_is_whole_pieces_and_looks() -> None:
    with pytest.raises(ValueError, match="whole pieces of 4 tokens; got 60"):
        _looked_at(LSTMSpec(4, 8), 8, "forward", 60, 4)
    for cases in stream.CASES.values():
        for case in cases:
            tokens, piece = int(case.factor("tokens")), int(case.factor("piece"))
            looks = {look * (tokens // stream.LOOKS) % case.steps for look in range(stream.LOOKS)}
            assert tokens % (stream.LOOKS * piece) == case.steps % piece == 0
            assert tokens < 1000 * stream.LOOKS or len(looks) == stream.LOOKS


def test_at_cpu_scale_a_million_tokens_go_by() -> None:
    longest = {case.spec.cell: int(case.factor("tokens")) for case in stream.CASES["cpu"] if case.phase == "forward"}
    assert longest == {"lstm": 1_000_000, "lstm_stack": 1_000_000}


@pytest.mark.parametrize("spec", [TransformerSpec(4, 8, window=5), TransformerSpec(4, 8), LSTMSpec(4, 8, 2)])
def test_a_network_goes_on_with_more_streams(spec: Spec) -> None:
    loaded = impls.get("torch").load(spec, *Case(spec, 1, 1, "step").data())
    for streams in (3, 2):
        cast(impls.SupportsBatchResize, loaded).widen(streams, 9)
        loaded.step()
        assert loaded.outputs().shape == (1, streams, 8) and np.isfinite(loaded.outputs()).all()
        if isinstance(spec, TransformerSpec):
            assert loaded.cache_bytes() == spec.state_bytes(streams, 9)  # pyright: ignore[reportAttributeAccessIssue]
        assert sum(value.nbytes for value in loaded.final_state().values()) == (
            0 if isinstance(spec, TransformerSpec) else spec.state_bytes(streams)
        )


class Holding:
    """A network whose memory holds so many streams; `error` is what one more raises."""

    def __init__(self, most: int, error: Exception) -> None:
        self.most, self.error, self.asked = most, error, 0

    def load(self, spec: Spec, params: object, batch: object) -> Holding:
        return self

    def widen(self, streams: int, context: int) -> None:
        assert context == 16
        self.asked = streams

    def step(self) -> None:
        if self.asked > self.most:
            raise self.error

    wait = step


@pytest.mark.parametrize("most", [0, 1, 7, 1000, 54_321])
def test_streams_are_counted_until_memory_runs_out(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(LSTMSpec(4, 8, device="cuda"), 16, 1, "step")
    monkeypatch.setattr(impls, "get", lambda name: Holding(most, torch.OutOfMemoryError("CUDA out of memory")))
    monkeypatch.setattr(costs, "free_bytes", lambda device: 10**9)
    found = {item.metric: item.samples[0] for item in decode.measure_streams("torch", case)}
    assert found["streams"] <= most < found["streams_over"] and found["free_bytes"] == 1e9
    assert found["streams_over"] - found["streams"] <= max(1, most / decode.CAPACITY_RESOLUTION)


def test_what_is_no_lack_of_memory_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(LSTMSpec(4, 8, device="cuda"), 16, 1, "step")
    monkeypatch.setattr(impls, "get", lambda name: Holding(5, RuntimeError("CUDNN_STATUS_NOT_SUPPORTED")))
    monkeypatch.setattr(costs, "free_bytes", lambda device: 10**9)
    with pytest.raises(RuntimeError, match="NOT_SUPPORTED"):
        list(decode.measure_streams("torch", case))
    with pytest.raises(prepare.Skip, match="ask for device=cuda"):
        list(decode.measure_streams("torch", replace(case, spec=LSTMSpec(4, 8))))


def test_on_a_gpu_energy_is_replicated_and_graphs_are_asked() -> None:
    energy = [case for case in decode.CASES["gpu"] if decode.sweep(case) == "energy"]
    for model in ("attention", "lstm"):
        assert len({case.steps for case in energy if case.factor("model") == model}) == 3
    assert {decode.STUDY.repetitions_of(case) for case in energy} == {3} and all(map(decode.STUDY.is_standalone, energy))
    assert {decode.select_backends(case, impls.names()) for case in energy} == {("torch",), ("cudnn",)}
    assert {case.launch for case in energy} == {"graph"}
    timed = [case for case in decode.CASES["gpu"] if decode.sweep(case) == "time"]
    assert {(case.launch, decode.select_backends(case, impls.names())) for case in timed} == {
        (launch, names) for launch in ("eager", "graph") for names in (("torch",), ("cuda", "cudnn"))
    }
    assert all(decode.sweep(case) == "time" for scale in ("smoke", "cpu") for case in decode.CASES[scale])
    assert (forecast.seconds(plan.make("decode", scale="gpu")) or 1e9) <= 9 * 60


def test_the_energy_of_a_token_is_what_the_counter_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """A board that draws 100 W; a token takes 20 ms, and what ran is looked at first."""
    clock, looked = SimpleNamespace(now=0.0), []
    counter = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: 100e3 * clock.now,
    )
    token = SimpleNamespace(call=lambda: setattr(clock, "now", clock.now + 0.02), wait=lambda: None)
    monkeypatch.setitem(sys.modules, "pynvml", counter)
    monkeypatch.setattr(memory.time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(memory.time, "sleep", lambda seconds: setattr(clock, "now", clock.now + seconds))
    monkeypatch.setattr(prepare, "load", lambda case, backend: token)
    monkeypatch.setattr(prepare, "verify", lambda prepared: looked.append(prepared) or prepared)
    case = next(case for case in decode.CASES["gpu"] if decode.sweep(case) == "energy")
    found = {each.metric: each.samples[0] for each in decode.measure("torch", case)}
    assert found["energy"] == pytest.approx(2.0) and looked == [token]
