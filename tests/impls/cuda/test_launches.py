"""Every kernel as its own host code launches it, through the fake driver with the code that NVRTC makes of its source, and then
under the emulation: what the real driver refused would be refused here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch

from bench.worker import agreement
from impls.cuda import microbenchmarks
from impls.cuda.emulator import Emulation
from impls.cuda.runtime import BFLOAT16, Kernel, Launch, driver
from impls.cuda.runtime.compile import CLUSTER_INSTRUCTIONS, CompilationFailed, compile_kernel
from impls.cuda.torch.network import Network
from impls.cuda.torch.stream import GridStream, Stream
from tests.impls.cuda.compiled import compiled
from tests.impls.cuda.emulated import case, check, cluster_plan, gemm_step_plan, step_plan, tensor_step_plan
from tests.impls.cuda.fake_driver import Devices, install
from tests.impls.cuda.test_compile import cluster_kernels, step_kernels, stream_kernels

pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC is not installed: pip install cuda-bindings nvidia-cuda-nvrtc")


@dataclass(slots=True)
class Both:
    """A launcher for tensors of the CPU: first the driver, as if they were a GPU's, then the emulation."""

    launched: list[str]

    def __call__(self, launch: Launch) -> None:
        driver.Driver()(replace(launch, writes=[SimpleNamespace(device=torch.device("cuda", 0))]))
        self.launched.append(launch.kernel.function)
        Emulation()(launch)


@pytest.fixture
def devices(monkeypatch, tmp_path) -> Iterator[Devices]:
    yield from install(monkeypatch, tmp_path)


def trained(plan) -> Callable[[Both], object]:
    return lambda launcher: check(case(32, 3, 3), plan, launcher)


def streamed(cluster: int) -> Callable[[Both], object]:
    def run(launcher: Both) -> None:
        asked = case(64, 2, 1, phase="step")
        stream = Stream(torch.bfloat16, 5, 64, 1, cluster, 1) if cluster else GridStream(torch.bfloat16, 5, 64, 1, 8)
        network = Network(
            asked.spec, *asked.data(), step_plan("bfloat16"), launcher, torch.device("cpu"), stream=stream
        )  # fmt: skip
        agreement.check_against(agreement.answer(network, asked), asked)

    return run


def probe(measure: Callable[[microbenchmarks.Bench], float]) -> Callable[[Both], object]:
    return lambda launcher: measure(microbenchmarks.Bench(launcher, torch.device("cpu")))


RUNS: dict[str, tuple[Callable[[Both], object], set[str]]] = {
    "cluster of one block": (
        trained(cluster_plan("bfloat16", 32, 1)),
        {"lstm_cluster_forward", "lstm_cluster_backward"},
    ),
    "cluster of two": (
        trained(cluster_plan("bfloat16", 32, 2)),
        {"lstm_cluster_forward", "lstm_cluster_backward"},
    ),
    "tensor step": (
        trained(tensor_step_plan("bfloat16")),
        {"lstm_tensor_step_forward", "lstm_tensor_step_backward", "lstm_pack"},
    ),
    "GEMM step": (trained(gemm_step_plan("bfloat16")), {"lstm_gemm_step_forward", "lstm_gemm_step_backward"}),
    "step": (trained(step_plan("bfloat16")), {"lstm_step_forward", "lstm_step_backward"}),
    "stream of one block": (streamed(1), {"lstm_stream"}),
    "stream of a cluster": (streamed(8), {"lstm_stream"}),
    "stream over the grid": (streamed(0), {"lstm_stream_grid"}),
    "latency": (probe(lambda bench: microbenchmarks.latency(bench, 4, 3)), {"probe_latency"}),
    "ingress": (
        probe(lambda bench: microbenchmarks.ingress(bench, 2, 3, 4, check=True, clusters=2, threads=64)),
        {"probe_ingress"},
    ),
    "grid": (
        probe(lambda bench: microbenchmarks.grid(bench, "BARRIER", blocks=3, payload=2, steps=4, threads=32)),
        {"probe_grid"},
    ),
    "products": (probe(lambda bench: microbenchmarks.multiply(bench, BFLOAT16, 4, 1, 3, 16)), {"probe_multiply"}),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_driver_takes_every_launch(name, devices):
    run, functions = RUNS[name]
    launcher = Both([])
    run(launcher)
    assert set(launcher.launched) == functions


@pytest.mark.parametrize("name", ["cluster of one block", "cluster of two", "stream of a cluster", "latency", "ingress"])
def test_without_the_cluster_attribute_it_does_not(name, devices, monkeypatch):
    configuration = driver.configuration
    monkeypatch.setattr(driver, "configuration", lambda kernel, *rest: configuration(replace(kernel, cluster=None), *rest))
    with pytest.raises(driver.DriverError, match="CUDA_ERROR_ILLEGAL_INSTRUCTION"):
        RUNS[name][0](Both([]))


def test_a_kernel_says_whether_its_code_has_cluster_instructions():
    of_clusters = [kernel for kernel in cluster_kernels() if kernel.cluster == 1]
    for kernel in (*of_clusters, *step_kernels(), *stream_kernels(16), *(kernel for kernel, _ in microbenchmarks.kernels())):
        assembly = compiled(kernel, "sm_90a").assembly
        assert (kernel.cluster is not None) == bool(CLUSTER_INSTRUCTIONS.search(assembly)), kernel


@pytest.mark.parametrize("kernel", [microbenchmarks.latency_kernel(4), cluster_kernels()[0], stream_kernels(16)[-1]])
def test_undeclared_cluster_instructions_do_not_compile(kernel: Kernel):
    with pytest.raises(CompilationFailed, match=r"uses .*barrier\.cluster.*how many blocks its cluster has"):
        compile_kernel(replace(kernel, cluster=None), "sm_90a")
