"""The backend's own door, on a machine without a GPU: it refuses in full sentences and loads nothing."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

import impls
from bench.harness.case import Case
from bench.worker import agreement, prepare
from impls import GRUSpec, LSTMSpec, LSTMStackSpec, Unavailable
from impls.backends import cuda
from impls.cuda import emulator
from impls.cuda.runtime import Refused, driver
from impls.cuda.runtime import compile as compiler
from impls.cuda.torch.network import Network
from tests.impls.cuda.emulated import cluster_plan, step_plan, tensor_step_plan

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU, and there is one")


def test_it_is_found_and_its_parts_are_no_backends():
    assert "cuda" in impls.names()
    assert impls.get("cuda").RUNS == ("cluster", "grid", "gemm_step", "tensor_step", "step", "stream")


@pytest.mark.parametrize(
    "spec, reason",
    [
        (GRUSpec(4, 8, device="cuda"), "no gru"),
        (LSTMSpec(4, 8, device="cpu"), "device=cuda"),
    ],
)
def test_what_it_cannot_do_it_refuses(spec, reason):
    assert reason in (impls.get("cuda").refuses(spec, "forward", False) or "")


@without_gpu
def test_without_a_gpu_it_says_so():
    case = Case(LSTMSpec(4, 8, device="cuda"), 3, 2)
    with pytest.raises(prepare.Skip, match="finds no CUDA device"):
        prepare.prepare(case, "cuda")
    with pytest.raises(Unavailable, match="finds no CUDA device"):
        impls.get("cuda").load(case.spec, *case.data())


def test_a_missing_tool_is_named_with_its_install_command(monkeypatch):
    for name in ("cuda.bindings.nvrtc", "cuda.bindings.driver"):
        monkeypatch.setitem(sys.modules, name, None)  # makes its import fail
    compiler.nvrtc.cache_clear()
    driver.bindings.cache_clear()
    with pytest.raises(Unavailable, match="pip install cuda-bindings"):
        compiler.nvrtc()
    with pytest.raises(Unavailable, match="pip install cuda-bindings"):
        driver.bindings()
    monkeypatch.setattr("shutil.which", lambda name: None)
    emulator.compiler_version.cache_clear()
    with pytest.raises(Unavailable, match=r"needs g\+\+"):
        emulator.compiler_version()


def test_provenance_names_the_plan_and_why():
    case = Case(LSTMSpec(4, 32, dtype="bfloat16"), 2, 2, phase="forward")
    for plan in (cluster_plan("bfloat16", 32, 2), tensor_step_plan("bfloat16"), step_plan("bfloat16")):
        network = Network(case.spec, *case.data(), plan, emulator.Emulation(), torch.device("cpu"))
        said = network.provenance()
        assert said["ran"] in impls.get("cuda").RUNS and said["plan"].startswith(said["ran"])
        assert said["chosen_because"] == "for a test"
        assert not network.cuda_stream_timed


def test_a_backend_of_ones_own_may_choose_the_design(monkeypatch):
    asked = {}
    monkeypatch.setattr(cuda.driver, "missing", lambda: None)
    monkeypatch.setattr(cuda.driver, "room", lambda: {"resident": lambda kernel: 1, "shared_limit": 99 << 10})
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "an imagined GPU")
    monkeypatch.setattr(cuda, "Network", lambda *arguments, **named: asked.update(plan=arguments[3], **named))
    case = Case(LSTMSpec(4, 32, dtype="bfloat16", device="cuda"), 2, 1)
    cuda.load(case.spec, *case.data(), design="step", memory="rebuilt", wavefront=2)
    assert (asked["plan"].words(), asked["stream"], asked["wavefront"]) == ("step, rebuilt", None, 2)
    cuda.load(case.spec, *case.data())
    assert asked["plan"].design == "tensor_step" and asked["stream"].cluster == 1 and not asked["wavefront"]
    stack = Case(LSTMStackSpec(4, 32, dtype="bfloat16", device="cuda"), 2, 1)
    with pytest.raises(Refused, match="nothing between them"):
        cuda.load(stack.spec, *stack.data(), wavefront=2)


def test_a_step_streams_all_layers_in_one_launch_and_says_so():
    launches = []

    def launcher(launch):
        launches.append(launch.kernel.function)
        emulator.Emulation()(launch)

    case = Case(LSTMSpec(4, 20, num_layers=2, dtype="bfloat16"), 3, 2, phase="step", initial_state=True)
    network = Network(
        case.spec, *case.data(), step_plan("bfloat16"), launcher, torch.device("cpu"),
        stream=cuda.stream_of(case.spec, 2, (9, 0)),
    )  # fmt: skip
    assert network.provenance()["ran"] == "step"
    agreement.check_against(agreement.answer(network, case), case)
    assert launches == ["lstm_stream"] * 3
    assert network.provenance()["ran"] == "stream" and "one launch" in network.provenance()["plan"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_a_stream_in_pieces_is_the_stream(dtype):
    """One that forgot its state between pieces, or read other tokens, would end elsewhere."""
    case = Case(LSTMSpec(4, 20, num_layers=2, dtype=dtype), 6, 2, phase="step", initial_state=True)
    plan, stream = step_plan(dtype), cuda.stream_of(case.spec, 2, (9, 0))
    stepped, advanced = (
        Network(case.spec, *case.data(), plan, emulator.Emulation(), torch.device("cpu"), stream=stream) for _ in range(2)
    )
    for _ in range(8):
        stepped.step()
    for _ in range(4):
        advanced.advance(2)
    tolerance = 0.03 if dtype == "bfloat16" else 1e-5
    for name, expected in stepped.final_state().items():
        np.testing.assert_allclose(advanced.final_state()[name], expected, rtol=tolerance, atol=tolerance)
    stepped.step()
    advanced.step()
    np.testing.assert_allclose(advanced.outputs(), stepped.outputs(), rtol=tolerance, atol=tolerance)
    with pytest.raises(ValueError, match="must divide the batch's 6 steps; got 4"):
        advanced.advance(4)
