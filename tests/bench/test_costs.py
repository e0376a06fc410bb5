"""What cannot fit is said before it is tried, with both numbers, and becomes a typed outcome; a plan says its peak first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bench import costs
from bench.harness import forecast, plan, study
from bench.harness.case import Case
from bench.machine import system
from bench.studies import matching, scaling
from bench.worker import memory, prepare
from bench.worker.__main__ import _answer
from impls import LSTMStackSpec, SSMSpec, TransformerSpec
from impls.frameworks.torch import models
from impls.params import random_params
from results import store

STORED = Path(__file__).parents[2] / "results/runs"


def test_a_case_beyond_what_is_free_is_not_tried(monkeypatch):
    case = Case(TransformerSpec(64, 72), 4096, 1, "forward_backward")
    monkeypatch.setattr(costs, "free_bytes", lambda device: 1_000_000)
    monkeypatch.setattr(Case, "data", lambda self: pytest.fail("it was tried"))
    reply, _ = _answer(lambda: prepare.load(case, "torch") and {}, {})
    assert reply["status"] == "failed" and reply["kind"] == "out_of_memory"
    assert "1000000 bytes" in reply["reason"] and f"({costs.least_host_bytes(case)} bytes)" in reply["reason"]


def test_a_case_that_fits_or_whose_room_is_not_known_is_tried(monkeypatch):
    case = Case(TransformerSpec(64, 72), 64, 1)
    costs.require(case)
    monkeypatch.setattr(costs, "free_bytes", lambda device: None)
    costs.require(case)


@pytest.mark.parametrize("name", ["scaling", "decode", "stream", "quality", "context"])
def test_at_cpu_scale_every_case_stays_below_the_hosts_limit(name: str):
    """The prediction is on the high side and has the framework in it; two that run side by side stay below it too."""
    peaks = sorted(map(costs.expected_host_bytes, study.get(name).cases["cpu"]))
    assert peaks[0] > costs.FRAMEWORK_BYTES and sum(peaks[-2:]) < costs.HOST_LIMIT


def test_stored_peaks_lie_between_bound_and_prediction():
    """In the checkout's `results/runs`, of one worker's peak above what it held before the network was loaded."""
    runs = [store.read(path) for path in store.find(STORED)]
    found = [(record, one) for run in runs for record in run.records for one in record.measurements if one.metric == "rss_peak"]
    assert found, "the stored runs of memory and scaling are gone"
    for record, one in found:
        case = Case.from_dict(record.parameters)
        assert costs.least_device_bytes(case) < max(one.samples) < costs.expected_host_bytes(case), record.case


def test_the_scan_of_a_state_space_model_is_in_the_bound():
    """What autograd keeps of a block, counted: one array of the five is in the closed form of saved activations."""
    spec = SSMSpec(8, 8, 2, state_size=4)
    case = Case(spec, 64, 4, "forward_backward")
    weights = {name: value.astype(np.float32) for name, value in random_params(spec).items()}
    array, kept = 4 * 64 * 4 * spec.state_size * spec.channels, {}

    def keep(value: torch.Tensor) -> torch.Tensor:
        kept[value.untyped_storage().data_ptr()] = value
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        models.build(spec, weights)(torch.zeros(64, 4, 8))
    arrays = sum(value.untyped_storage().nbytes() == array for value in kept.values())
    assert arrays == 5 * spec.num_layers
    in_the_scan_backward = 3  # the gradients of h, a and b
    of_arrays = costs.least_device_bytes(case) - case.model_bytes() + spec.num_layers * array
    assert of_arrays == (arrays + in_the_scan_backward) * array
    assert costs.least_device_bytes(replace(case, phase="step")) == replace(case, phase="step").model_bytes()


@pytest.mark.parametrize("older", [False, True])
def test_a_control_groups_limit_is_what_is_free(tmp_path, older: bool):
    """The tightest of a group and those above it; what the page cache holds can be taken back."""
    limit, used, reclaimable = system.OLDER if older else system.UNIFIED
    own = tmp_path / "own"
    own.write_text("4:memory:/a/b\n1:cpu:/\n" if older else "0::/a/b\n")
    top = tmp_path / "memory" if older else tmp_path
    for folder, allowed in ((top / "a", "5000"), (top / "a" / "b", "9000")):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in ((limit, allowed), (used, "1500"), ("memory.stat", f"anon 7\n{reclaimable} 500\n")):
            (folder / name).write_text(text)
    assert system.free_bytes(tmp_path, own) == 5000 - 1500 + 500
    (top / "a" / limit).write_text("max")
    assert system.free_bytes(tmp_path, own) == 9000 - 1500 + 500
    assert system.free_bytes(tmp_path / "nowhere", own) is None


def test_the_host_has_no_more_free_than_its_control_group_leaves(monkeypatch):
    monkeypatch.setattr(system, "free_bytes", lambda: 12345)
    assert costs.free_bytes("cpu") == 12345


def test_the_plan_says_time_and_peak_before_it_starts(monkeypatch):
    monkeypatch.setattr(costs, "free_bytes", lambda device: 10**9)
    said = forecast.statement(plan.make("scaling", scale="gpu"))
    assert said[0].startswith("predicted: about") and "1 GB free" in said[2] and "will not fit and are not tried" in said[2]
    assert forecast.statement(plan.make("quick")) == []
    assert (forecast.seconds(plan.make("scaling", scale="gpu")) or 1e9) <= 9 * 60


def test_the_forecast_counts_every_repetition():
    chosen = plan.make("scaling", scale="cpu")
    (its,) = chosen.studies
    once = forecast.seconds(replace(chosen, studies=(replace(its, repetitions=None),)))
    of_memory = sum(scaling.forecast(case) for case in chosen.cases(its) if scaling.repetitions(case) == 2)
    assert once and forecast.seconds(chosen) == pytest.approx(once + of_memory / chosen.threads)


def test_tokens_and_parameters_are_constant_over_length():
    for scale, tokens, within in (("cpu", 4096, 0.01), ("gpu", 65_536, 0.02)):
        cases = [case for case in scaling.CASES[scale] if case.factor("sweep") == "tokens"]
        assert {case.tokens for case in cases if case.phase != "step"} == {tokens}
        counts = {case.spec.cell: case.spec.parameter_count() for case in cases}
        assert set(counts) == {"lstm_stack", "transformer", "minlstm", "ssm"}
        assert all(abs(count / counts["lstm_stack"] - 1) <= within for count in counts.values())
        assert {case.steps for case in cases} >= {64, 4096}


def test_sizes_without_a_match_are_refused_with_the_nearest():
    with pytest.raises(matching.Unmatched, match="the nearest, of width"):
        scaling.matched(LSTMStackSpec(8, 8))


def test_a_length_that_is_no_length_is_refused():
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1"):
        list(scaling._one_sequence(scaling.matched(LSTMStackSpec(16, 44), state_size=2), (0,)))


def test_energy_is_what_the_counter_says_a_call(monkeypatch):
    """A board that draws 100 W, by a clock that the calls move on."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(memory.time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(memory.time, "sleep", lambda seconds: setattr(clock, "now", clock.now + seconds))
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: 100e3 * clock.now,
    )
    prepared = SimpleNamespace(call=lambda: setattr(clock, "now", clock.now + 0.1), wait=lambda: None)
    found = {each.metric: each.samples[0] for each in memory.measure_energy(prepared, nvml)}  # pyright: ignore[reportArgumentType]
    assert found["energy"] == pytest.approx(10.0) and found["energy_above_idle"] == pytest.approx(0.0, abs=1e-9)
