"""What cannot fit is said before it is tried, with both numbers, and becomes a typed outcome; a plan says its peak first."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest

from bench import energy, forecast, matching, plan, prepare, room
from bench.case import Case
from bench.studies import scaling
from bench.worker import _answer
from impls import LSTMStackSpec, TransformerSpec


def test_a_case_beyond_what_is_free_is_not_tried(monkeypatch):
    case = Case(TransformerSpec(64, 72), 4096, 1, "forward_backward")
    monkeypatch.setattr(room, "free_bytes", lambda device: 1_000_000)
    monkeypatch.setattr(Case, "data", lambda self: pytest.fail("it was tried"))
    reply = _answer(lambda: prepare.load(case, "torch") and {}, {})
    assert reply["status"] == "failed" and reply["kind"] == "out_of_memory"
    assert "1000000 bytes" in reply["reason"] and f"({room.least_host_bytes(case)} bytes)" in reply["reason"]


def test_a_case_that_fits_or_whose_room_is_not_known_is_tried(monkeypatch):
    case = Case(TransformerSpec(64, 72), 64, 1)
    room.require(case)
    monkeypatch.setattr(room, "free_bytes", lambda device: None)
    room.require(case)


def test_at_cpu_scale_every_case_stays_below_the_hosts_limit():
    assert max(map(room.least_host_bytes, scaling.CASES["cpu"])) < room.HOST_LIMIT / 10


def test_the_plan_says_time_and_peak_before_it_starts(monkeypatch):
    monkeypatch.setattr(room, "free_bytes", lambda device: 10**9)
    said = forecast.statement(plan.make("scaling", scale="gpu"))
    assert said[0].startswith("predicted: about") and "1 GB free" in said[2] and "will not fit and are not tried" in said[2]
    assert forecast.statement(plan.make("quick")) == []
    assert (forecast.seconds(plan.make("scaling", scale="gpu")) or 1e9) <= 9 * 60


def test_the_forecast_counts_every_time_that_a_case_is_measured_alone(monkeypatch):
    chosen, own = plan.make("scaling", scale="cpu"), scaling.STUDY
    monkeypatch.setattr(scaling, "STUDY", dataclasses.replace(own, times=None))
    once = forecast.seconds(chosen)
    monkeypatch.setattr(scaling, "STUDY", own)
    of_memory = sum(scaling.forecast(case) for case in chosen.cases("scaling") if scaling.times_alone(case) == 2)
    assert once and forecast.seconds(chosen) == pytest.approx(once + of_memory / chosen.threads)


def test_tokens_are_constant_over_length_and_architectures_have_as_many_parameters():
    for scale, tokens in (("cpu", 4096), ("gpu", 65_536)):
        cases = [case for case in scaling.CASES[scale] if case.factor("sweep") == "tokens"]
        assert {case.tokens for case in cases if case.phase != "step"} == {tokens}
        counts = {case.spec.cell: case.spec.parameter_count() for case in cases}
        assert set(counts) == {"lstm_stack", "transformer", "minlstm", "ssm"}
        assert max(counts.values()) / min(counts.values()) < 1.02
        assert {case.steps for case in cases} >= {64, 4096}


def test_sizes_that_cannot_be_matched_are_refused_with_the_nearest():
    with pytest.raises(matching.Unmatched, match="the nearest, of width"):
        scaling.matched(LSTMStackSpec(8, 8))


def test_a_length_that_is_no_length_is_refused():
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1"):
        list(scaling._one_sequence(scaling.matched(LSTMStackSpec(16, 44), state_size=2), (0,)))


def test_energy_is_what_the_counter_says_a_call(monkeypatch):
    """A board that draws 100 W, by a clock that the calls move on."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(energy.time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(energy.time, "sleep", lambda seconds: setattr(clock, "now", clock.now + seconds))
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: 100e3 * clock.now,
    )
    prepared = SimpleNamespace(call=lambda: setattr(clock, "now", clock.now + 0.1), wait=lambda: None)
    found = {each.metric: each.samples[0] for each in energy.measure(prepared, nvml)}  # pyright: ignore[reportArgumentType]
    assert found["energy"] == pytest.approx(10.0) and found["energy_above_idle"] == pytest.approx(0.0, abs=1e-9)
