"""Every shipped configuration compiles for the GPUs it is for, without spilling a register. Needs no GPU."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from impls import Unavailable
from impls.cuda.runtime import BFLOAT16, Kernel
from impls.cuda.runtime import compile as compiler
from impls.cuda.runtime.compile import CompilationFailed, architecture, compile_kernel, cubin
from impls.cuda.select import BACKWARD, FORWARD, TENSOR_STEP_TILES
from impls.cuda.select.configurations import EXACT_STORAGE, BackwardShape, ExactSteps, ForwardShape, TensorSteps
from impls.cuda.torch.streaming import CLUSTERS, COLUMNS, Stream
from tests.impls.cuda.compiled import compiled

pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC is not installed: pip install cuda-bindings nvidia-cuda-nvrtc")
REGISTERS_OF_AN_SM = 65536
# Blocks of one multiprocessor that registers have to leave room for. Persistent-cluster and streaming kernels have a
# multiprocessor a block, so that their budget is to spill nothing.
BLOCKS_OF_AN_SM = {
    "lstm_cluster_forward": 1, "lstm_cluster_backward": 1, "lstm_stream": 1,
    "lstm_tensor_step_forward": 2, "lstm_tensor_step_backward": 4, "lstm_step_forward": 4, "lstm_step_backward": 3,
    "lstm_pack": 6,
}  # fmt: skip


def cluster_kernels() -> list[Kernel]:
    shipped = (*FORWARD.values(), *BACKWARD.values())
    return [shape.kernel() for shapes in shipped for shape in shapes]


def step_kernels() -> list[Kernel]:
    designs = [*map(ExactSteps, EXACT_STORAGE), *(TensorSteps(storage, n) for storage in FORWARD for n in TENSOR_STEP_TILES)]
    return [design.kernel(backward) for design in designs for backward in (False, True)]


def pack_kernels() -> list[Kernel]:
    return [TensorSteps(storage, 1).packing(1, backward=True).kernel() for storage in FORWARD]


def stream_kernels(largest: int) -> list[Kernel]:
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    cuts = [(size, columns) for size in CLUSTERS if size <= largest for columns in COLUMNS]
    return [Stream(dtype, 64, 64, 1, size, columns).kernel() for dtype in dtypes for size, columns in cuts]


@pytest.mark.parametrize(
    "target, kernels",
    [
        ("sm_80", [*step_kernels(), *pack_kernels(), *stream_kernels(1)]),
        ("sm_90a", [*step_kernels(), *pack_kernels(), *cluster_kernels(), *stream_kernels(16)]),
        ("sm_100", [*step_kernels(), *pack_kernels(), *cluster_kernels(), *stream_kernels(16)]),
    ],
    ids=["sm_80", "sm_90a", "sm_100"],
)
def test_every_shipped_configuration_compiles_and_spills_nothing(target, kernels):
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        results = list(pool.map(lambda kernel: compiled(kernel, target), kernels))
    for kernel, found in zip(kernels, results, strict=True):
        assert found.spill_bytes == 0, (kernel, found.spill_bytes)
        assert found.registers * kernel.threads * BLOCKS_OF_AN_SM[kernel.function] <= REGISTERS_OF_AN_SM, kernel
        assert found.code[:4] == b"\x7fELF"


def test_a_configuration_that_spills_is_seen():
    too_much = BackwardShape(storage=BFLOAT16, hidden=128, cluster=1, tiles=4, warps=8).kernel()
    assert compile_kernel(too_much, "sm_90a").spill_bytes > 0


def test_a_kernel_is_compiled_once(tmp_path, monkeypatch):
    monkeypatch.setenv("LSTM_BENCH_CACHE", str(tmp_path))
    kernel = ExactSteps(torch.float32).kernel(backward=False)
    path = cubin(kernel, "sm_80")
    monkeypatch.setattr(compiler, "compile_kernel", lambda *_: pytest.fail("compiled again"))
    assert cubin(kernel, "sm_80") == path


def test_a_plan_that_disagrees_with_its_kernel_does_not_compile():
    kernel = ForwardShape(storage=BFLOAT16, hidden=64, cluster=1).kernel()
    wrong = Kernel(kernel.source, kernel.function, kernel.defines, kernel.threads, kernel.shared_bytes + 16)
    with pytest.raises(CompilationFailed, match="disagree about shared memory"):
        compile_kernel(wrong, "sm_90a")


def test_architectures():
    assert architecture((9, 0)) == "sm_90a"
    assert architecture((8, 6)) == "sm_86"
    with pytest.raises(Unavailable, match="or newer"):
        architecture((7, 5))
