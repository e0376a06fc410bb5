"""A residual stack of LSTMs on the kernels, emulated, against the float64 reference and against PyTorch's own stack."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.harness.case import Case
from bench.worker.agreement import Disagreement, answer, check_against
from impls import LSTMStackSpec
from impls.cuda.torch import network as torch_network
from impls.cuda.torch import ops
from impls.cuda.torch.network import SteppedLSTM

SPECS = [LSTMStackSpec(5, 20, 2), LSTMStackSpec(32, 32), LSTMStackSpec(1, 5)]
DTYPES = ("float32", "bfloat16", "float16", "float64")


def loaded(case: Case, **choice):
    return torch_network.load(case.spec, *case.data(), **choice)


@pytest.mark.parametrize("phase", ["forward", "forward_backward", "step"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: "-".join(spec.key_parts()))
def test_answers_as_the_reference(spec, dtype, phase):
    case = Case(replace(spec, dtype=dtype), 7, 3, phase, initial_state=True)
    network = loaded(case)
    check_against(answer(network, case), case)
    if phase != "step":
        check_against(answer(network, case), case)  # a second call neither adds up gradients nor carries a state on


def test_every_gradient_is_compared():
    case = Case(SPECS[0], 7, 3, "forward_backward", initial_state=True)
    network = loaded(case)
    network.forward_backward()
    assert set(network.gradients()) == {*case.spec.parameter_shapes(), "x", "h0", "c0"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_a_stream_goes_on_where_the_batch_ended(dtype):
    """After `prefill` as after T steps; and in pieces."""
    case = Case(replace(SPECS[0], dtype=dtype), 6, 2, "step")
    stepped, filled, pieces = (loaded(case) for _ in range(3))
    for _ in range(6):
        stepped.step()
    filled.prefill()
    for _ in range(3):
        pieces.advance(2)
    tolerance = 0.03 if dtype == "bfloat16" else 1e-5
    for network in (filled, pieces):
        for name, expected in stepped.final_state().items():
            np.testing.assert_allclose(network.final_state()[name], expected, rtol=tolerance, atol=tolerance)
    stepped.step()
    filled.step()
    np.testing.assert_allclose(filled.outputs(), stepped.outputs(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("phase", "dtype", "ran"), [
    ("forward", "bfloat16", "cluster"), ("forward_backward", "bfloat16", "cluster"), ("step", "bfloat16", "stream"),
    ("forward", "float32", "step"), ("step", "float32", "stream"), ("step", "float64", "step"),
])  # fmt: skip
def test_what_ran_is_of_the_last_call(phase, dtype, ran):
    case = Case(replace(SPECS[1], dtype=dtype), 4, 2, phase)
    network = loaded(case)
    for call in (network.step, network.forward_backward, network.forward, getattr(network, phase)):
        call()
    said = network.provenance()
    assert said["ran"] == ran and said["plan"].startswith(ran) and said["chosen_because"]


def test_looking_does_not_disturb_a_stream():
    case = Case(replace(SPECS[0], dtype="bfloat16"), 3, 2, "step")
    looked_at, undisturbed = loaded(case), loaded(case)
    for _ in range(4):
        looked_at.step()
        looked_at.provenance()
        undisturbed.step()
    looked_at.step()
    undisturbed.step()
    assert (looked_at.outputs() == undisturbed.outputs()).all()


@pytest.mark.parametrize(("names", "planned", "ran"), [
    ({"lstm_bench::lstm_layer", "lstm_cluster_forward"}, {"cluster"}, "cluster"),
    ({"lstm_stream"}, {"stream"}, "stream"),
    ({"lstm_tensor_step_backward"}, {"tensor_step"}, "tensor_step"),
    ({"lstm_tensor_step_backward"}, {"step"}, "no step"),
    ({"aten::_cudnn_rnn", "RNN_blockPersist"}, {"cluster"}, "cudnn+no cluster"),
    ({"aten::_cudnn_rnn", "lstm_cluster_forward"}, {"cluster"}, "cluster+cudnn"),
    ({"lstm_stream"}, {"cluster"}, "no cluster"),
])  # fmt: skip
def test_on_a_gpu_a_planned_kernel_that_did_not_run_is_noticed(names, planned, ran):
    assert torch_network.named(names, planned, on_gpu=True) == ran


def test_a_design_of_ones_own_is_kept():
    case = Case(replace(SPECS[0], dtype="bfloat16"), 3, 2, "step")
    network = loaded(case, design="tensor_step", memory="rebuilt")
    network.step()
    assert network.provenance()["ran"] == "tensor_step" and "rebuilt" in network.provenance()["plan"]


@pytest.mark.parametrize("steps", [3, 1])
def test_only_what_was_asked_to_be_kept_outlives_a_write(steps):
    """By `.data`, which moves no version counter. One step takes the weights of the last `keep`, where that was asked for."""
    torch.manual_seed(0)
    layer, theirs = SteppedLSTM(4, 8), torch.nn.LSTM(4, 8)
    state, x = (torch.zeros(1, 2, 8), torch.zeros(1, 2, 8)), torch.randn(steps, 2, 4)
    with torch.no_grad():
        first = layer(x, state)[0]
        for kept in (False, True):
            if kept:
                layer.keep(2)
                first = layer(x, state)[0]
            layer.weight_hh_l0.data.mul_(0.5)
            layer.bias_ih_l0.data.add_(1.0)
            theirs.load_state_dict(layer.state_dict())
            second, expected = layer(x, state)[0], theirs(x, state)[0]
            stays = kept and steps == 1
            assert layer.ran["ran"] == ("stream" if stays else "step") and torch.equal(first, second) == stays
            if stays:
                layer.keep(2)
                second = layer(x, state)[0]
            torch.testing.assert_close(second, expected, rtol=1e-4, atol=1e-5)
            first = second


def test_a_state_that_is_not_carried_is_a_wrong_answer(monkeypatch):
    right = SteppedLSTM._step
    monkeypatch.setattr(SteppedLSTM, "_step", lambda self, x, h, *rest: right(self, x, torch.zeros_like(h), *rest))
    case = Case(SPECS[1], 7, 3, "step", initial_state=True)
    with pytest.raises(Disagreement, match="outputs is off by"):
        check_against(answer(loaded(case), case), case)


def test_without_the_emulation_a_cpu_is_refused(monkeypatch):
    monkeypatch.delenv(ops.EMULATE)
    with pytest.raises(RuntimeError, match="run on cuda, not on cpu"):
        loaded(Case(SPECS[1], 3, 2)).forward()


def test_a_copy_in_another_dtype_steps_by_its_own_kernels():
    torch.manual_seed(0)
    layer = SteppedLSTM(4, 8)
    layer.keep(2)
    x, state = torch.randn(1, 2, 4), (torch.randn(1, 2, 8), torch.randn(1, 2, 8))
    with torch.no_grad():
        layer(x, state)
        double = copy.deepcopy(layer).double()
        theirs = torch.nn.LSTM(4, 8).double()
        theirs.load_state_dict(double.state_dict())
        found, right = (each(x.double(), tuple(s.double() for s in state))[0] for each in (double, theirs))
    assert (layer.ran["ran"], double.ran["ran"]) == ("stream", "step")
    torch.testing.assert_close(found, right, rtol=1e-12, atol=1e-12)
