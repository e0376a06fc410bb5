"""The backend's own door, on a machine without a GPU: it refuses in full sentences and loads nothing."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from types import SimpleNamespace

import pytest
import torch

import impls
from bench import agreement, prepare
from bench.case import Case
from impls import GRUSpec, LSTMSpec, Unavailable
from impls.backends import cuda
from impls.backends._cuda import compile as compiler
from impls.backends._cuda import driver, emulate
from impls.backends._cuda.kernels import Kernel, Launch
from impls.backends._cuda.network import Network
from impls.backends._cuda.plan import choose
from tests.impls.cuda.emulated import cluster_plan, step_plan, tensor_step_plan

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU, and there is one")


def test_it_is_found_and_its_parts_are_no_backends():
    assert "cuda" in impls.names() and "_cuda" not in impls.names()
    assert impls.get("cuda").RUNS == ("cluster", "tensor_step", "step", "stream")


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


def test_without_nvrtc_driver_or_compiler_it_says_what_to_install(monkeypatch):
    for name in ("cuda.bindings.nvrtc", "cuda.bindings.driver"):
        monkeypatch.setitem(sys.modules, name, None)  # makes its import fail
    compiler.nvrtc.cache_clear()
    driver.bindings.cache_clear()
    with pytest.raises(Unavailable, match="pip install cuda-bindings"):
        compiler.nvrtc()
    with pytest.raises(Unavailable, match="pip install cuda-bindings"):
        driver.bindings()
    monkeypatch.setattr("shutil.which", lambda name: None)
    emulate.compiler_version.cache_clear()
    with pytest.raises(Unavailable, match=r"needs g\+\+"):
        emulate.compiler_version()


def test_provenance_names_the_plan_and_why():
    case = Case(LSTMSpec(4, 32, dtype="bfloat16"), 2, 2, phase="forward")
    for plan in (cluster_plan("bfloat16", 32, 2), tensor_step_plan("bfloat16"), step_plan("bfloat16")):
        network = Network(case.spec, *case.data(), plan, emulate.Emulation(), torch.device("cpu"))
        said = network.provenance()
        assert said["ran"] in impls.get("cuda").RUNS and said["plan"].startswith(said["ran"])
        assert said["chosen_because"] == "for a test"
        assert not network.cuda_stream_timed


def test_recorded_calls_give_their_own_answers_when_replayed():
    def record(compute):
        kept = compute()
        replayed.append(compute)
        return lambda: kept

    replayed, case = [], Case(LSTMSpec(4, 8), 3, 2, phase="forward_backward")
    network = Network(case.spec, *case.data(), step_plan("float32"), emulate.Emulation(), torch.device("cpu"), record)
    for _ in range(2):
        network.forward()
        assert not network.gradients()
        agreement.check_against(agreement.answer(network, case), case)
    assert replayed == [network._forward, network._forward_backward]


def test_a_launch_tells_the_driver_its_sizes_cluster_and_stream(monkeypatch):
    real = pytest.importorskip("cuda.bindings.driver", reason="pip install cuda-bindings")
    calls = []
    recording = SimpleNamespace(**{name: getattr(real, name) for name in dir(real) if name.startswith("CU")})
    recording.cuLaunchKernelEx = lambda *arguments: calls.append(arguments) or (real.CUresult.CUDA_SUCCESS,)
    recording.cuFuncSetAttribute = lambda *arguments: calls.append(arguments) or (real.CUresult.CUDA_SUCCESS,)
    monkeypatch.setattr(driver, "bindings", lambda: recording)

    class Arguments(ctypes.Structure):
        _fields_ = [("number", ctypes.c_int)]

    kernel = Kernel("", "function", (), threads=64, shared_bytes=100_000, cluster=16)
    driver.start(Launch(kernel, (32, 2, 1), Arguments(7), [], []), real.CUfunction(5), 11)
    config, function, parameters, extra = calls.pop()
    assert (config.gridDimX, config.gridDimY, config.gridDimZ, config.blockDimX, config.sharedMemBytes) == (
        32,
        2,
        1,
        64,
        100_000,
    )
    assert (int(function), int(config.hStream), extra, config.numAttrs, config.attrs[0].value.clusterDim.x) == (5, 11, 0, 1, 16)
    assert parameters > 0
    driver.allow(kernel, real.CUfunction(5))
    names = real.CUfunction_attribute
    assert [call[1:] for call in calls] == [
        (names.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 100_000),
        (names.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1),
    ]


def test_the_driver_is_asked_how_many_clusters_run_at_once(monkeypatch):
    real = pytest.importorskip("cuda.bindings.driver", reason="pip install cuda-bindings")
    asked = []
    recording = SimpleNamespace(**{name: getattr(real, name) for name in dir(real) if name.startswith("CU")})
    recording.cuOccupancyMaxActiveClusters = lambda function, config: (
        asked.append((function, config.attrs[0].value.clusterDim.x, config.sharedMemBytes)) or (real.CUresult.CUDA_SUCCESS, 6)
    )
    monkeypatch.setattr(driver, "bindings", lambda: recording)
    monkeypatch.setattr(driver, "_function", lambda kernel, device: (kernel.function, device))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(multi_processor_count=78))
    plan = choose(256, 8, 1, torch.bfloat16, (9, 0), resident=driver.resident_clusters)
    assert {call[:2] for call in asked} == {(("lstm_cluster_forward", 1), size) for size in (4, 8, 16)}
    assert "asked of the driver" in plan.reason
    assert driver.resident_clusters(Kernel("", "", (), 64, 0)) == 78
    driver.occupancy.cache_clear()


def test_a_backend_of_ones_own_may_choose_the_design(monkeypatch):
    asked = {}
    monkeypatch.setattr(cuda.driver, "missing", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    monkeypatch.setattr(cuda, "Network", lambda *arguments: asked.update(plan=arguments[3], stream=arguments[-1]))
    case = Case(LSTMSpec(4, 32, dtype="bfloat16", device="cuda"), 2, 1)
    cuda.load(case.spec, *case.data(), design="step", memory="rebuilt")
    assert (asked["plan"].words(), asked["stream"]) == ("step, rebuilt", None)
    cuda.load(case.spec, *case.data())
    assert asked["plan"].design == "tensor_step" and asked["stream"].cluster == 1


def test_a_step_streams_all_layers_in_one_launch_and_says_so():
    launches = []

    def launcher(launch):
        launches.append(launch.kernel.function)
        emulate.Emulation()(launch)

    case = Case(LSTMSpec(4, 20, num_layers=2, dtype="bfloat16"), 3, 2, phase="step", initial_state=True)
    network = Network(
        case.spec, *case.data(), step_plan("bfloat16"), launcher, torch.device("cpu"),
        stream=cuda.stream_of(case.spec, 2, (9, 0)),
    )  # fmt: skip
    assert network.provenance()["ran"] == "step"
    agreement.check_against(agreement.answer(network, case), case)
    assert launches == ["lstm_stream"] * 3
    assert network.provenance()["ran"] == "stream" and "one launch" in network.provenance()["plan"]


def test_errors_of_the_driver_are_pytorchs_own_or_say_the_call():
    real = pytest.importorskip("cuda.bindings.driver", reason="pip install cuda-bindings")
    assert driver.require("cuCall", (real.CUresult.CUDA_SUCCESS, 3)) == 3
    with pytest.raises(torch.OutOfMemoryError, match="cuCall"):
        driver.require("cuCall", (real.CUresult.CUDA_ERROR_OUT_OF_MEMORY,))
    with pytest.raises(driver.DriverError, match="cuCall failed: CUDA_ERROR_INVALID_VALUE"):
        driver.require("cuCall", (real.CUresult.CUDA_ERROR_INVALID_VALUE,))
