"""Every shipped configuration compiles for the GPUs it is for, without spilling a register. Needs no GPU."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from impls import Unavailable
from impls.cuda.runtime import BFLOAT16, TENSORFLOAT32, Kernel
from impls.cuda.runtime import compile as compiler
from impls.cuda.runtime.compile import CompilationFailed, architecture, compile_kernel, cubin
from impls.cuda.select import BACKWARD, FORWARD, TENSOR_STEP_TILES
from impls.cuda.select.cluster import BackwardShape, ForwardShape
from impls.cuda.select.steps import EXACT_STORAGE, ExactSteps, GemmSteps, TensorSteps
from impls.cuda.torch.stream import CLUSTERS, COLUMNS, Stream
from tests.impls.cuda.compiled import compiled

pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC is not installed: pip install cuda-bindings nvidia-cuda-nvrtc")
REGISTERS_OF_AN_SM = 65536
# Blocks of one multiprocessor that registers have to leave room for. Persistent-cluster and streaming kernels have a
# multiprocessor a block, so that their budget is to spill nothing.
BLOCKS_OF_AN_SM = {
    "lstm_cluster_forward": 1, "lstm_cluster_backward": 1, "lstm_stream": 1,
    "lstm_tensor_step_forward": 2, "lstm_tensor_step_backward": 4, "lstm_step_forward": 4, "lstm_step_backward": 3,
    "lstm_pack": 6, "lstm_gemm_step_forward": 6, "lstm_gemm_step_backward": 5,
}  # fmt: skip
# Registers a thread of the forward kernels may take on sm_90a, by storage, H and blocks of a cluster, in steps of 8 as they
# are given out.
FORWARD_REGISTERS = {
    (BFLOAT16, 64, 1): 112, (BFLOAT16, 64, 2): 88, (BFLOAT16, 128, 1): 120, (BFLOAT16, 128, 2): 160, (BFLOAT16, 128, 4): 112,
    (BFLOAT16, 256, 4): 216, (BFLOAT16, 256, 8): 144, (BFLOAT16, 256, 16): 112, (BFLOAT16, 384, 8): 160,
    (BFLOAT16, 384, 16): 120, (BFLOAT16, 512, 8): 255, (BFLOAT16, 512, 16): 208, (BFLOAT16, 768, 16): 255,
    (TENSORFLOAT32, 64, 1): 144, (TENSORFLOAT32, 128, 2): 216, (TENSORFLOAT32, 128, 4): 136, (TENSORFLOAT32, 256, 8): 208,
    (TENSORFLOAT32, 256, 16): 144, (TENSORFLOAT32, 384, 16): 160, (TENSORFLOAT32, 512, 16): 255,
}  # fmt: skip
# Registers a thread of the backward kernels may take on sm_90a, by storage, H, blocks of a cluster and columns, in steps of 8
# as they are given out. With 128 or fewer two blocks share a multiprocessor.
BACKWARD_REGISTERS = {
    (BFLOAT16, 64, 1, 8): 248, (BFLOAT16, 64, 4, 8): 112, (BFLOAT16, 128, 2, 8): 216, (BFLOAT16, 128, 4, 8): 128,
    (BFLOAT16, 128, 8, 8): 112, (BFLOAT16, 256, 4, 8): 255, (BFLOAT16, 256, 8, 8): 176, (BFLOAT16, 256, 8, 16): 192,
    (BFLOAT16, 256, 8, 24): 208, (BFLOAT16, 256, 16, 8): 128, (BFLOAT16, 384, 8, 8): 255, (BFLOAT16, 512, 8, 4): 255,
    (BFLOAT16, 512, 16, 8): 232, (BFLOAT16, 512, 16, 16): 255, (BFLOAT16, 512, 16, 24): 255, (BFLOAT16, 768, 16, 4): 255,
    (BFLOAT16, 768, 16, 6): 255,
    (TENSORFLOAT32, 64, 2, 8): 240, (TENSORFLOAT32, 64, 4, 8): 152, (TENSORFLOAT32, 128, 4, 8): 184,
    (TENSORFLOAT32, 128, 8, 8): 128, (TENSORFLOAT32, 256, 8, 8): 248, (TENSORFLOAT32, 256, 8, 16): 248,
    (TENSORFLOAT32, 256, 16, 8): 168, (TENSORFLOAT32, 384, 8, 4): 255, (TENSORFLOAT32, 512, 16, 8): 255,
}  # fmt: skip
WITHOUT_LOCAL_MEMORY = {
    "lstm_cluster_forward", "lstm_cluster_backward", "lstm_gemm_step_forward", "lstm_gemm_step_backward", "lstm_stream",
}  # fmt: skip
# Registers a thread of the pointwise kernels may take on any architecture, in steps of 8, by values of 16 bytes, units of a
# thread and whether it is the backward pass.
POINTWISE_REGISTERS = {(8, 8, False): 80, (8, 8, True): 96, (4, 4, False): 56, (4, 4, True): 56, (8, 1, False): 32,
                       (8, 1, True): 32, (4, 1, False): 32, (4, 1, True): 32}  # fmt: skip
SHARED_OF_A_BLOCK, BLOCKS_OF_A_CLUSTER = {"sm_120": 99 << 10}, {"sm_120": 8}  # where they are less than on sm_90


def cluster_kernels() -> list[Kernel]:
    shipped = (*FORWARD.values(), *BACKWARD.values())
    return [shape.kernel() for shapes in shipped for shape in shapes]


def cluster_kernels_for(target: str) -> list[Kernel]:
    """Those that a GPU of this target has room for."""
    shared, blocks = SHARED_OF_A_BLOCK.get(target, 227 << 10), BLOCKS_OF_A_CLUSTER.get(target, 16)
    return [kernel for kernel in cluster_kernels() if kernel.shared_bytes <= shared and kernel.cluster_blocks <= blocks]


def step_kernels() -> list[Kernel]:
    designs = [*map(ExactSteps, EXACT_STORAGE), *(TensorSteps(storage, n) for storage in FORWARD for n in TENSOR_STEP_TILES)]
    return [design.kernel(backward) for design in designs for backward in (False, True)]


def gemm_kernels() -> list[Kernel]:
    """The pointwise kernels beside a GEMM: by 16 bytes, and for an odd H."""
    return [
        GemmSteps(storage).kernel(hidden, backward) for storage in FORWARD for hidden in (8, 7) for backward in (False, True)
    ]


def pack_kernels() -> list[Kernel]:
    return [TensorSteps(storage, 1).packing(1, backward=True).kernel() for storage in FORWARD]


def stream_kernels(largest: int) -> list[Kernel]:
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    cuts = [(size, columns) for size in CLUSTERS if size <= largest for columns in COLUMNS]
    return [Stream(dtype, 64, 64, 1, size, columns).kernel() for dtype in dtypes for size, columns in cuts]


@pytest.mark.parametrize(
    "target, kernels",
    [
        ("sm_80", [*step_kernels(), *gemm_kernels(), *pack_kernels(), *stream_kernels(1)]),
        ("sm_90a", [*step_kernels(), *gemm_kernels(), *pack_kernels(), *cluster_kernels(), *stream_kernels(16)]),
        ("sm_100", [*step_kernels(), *gemm_kernels(), *pack_kernels(), *cluster_kernels(), *stream_kernels(16)]),
        ("sm_120", [*gemm_kernels(), *cluster_kernels_for("sm_120")]),
    ],
    ids=["sm_80", "sm_90a", "sm_100", "sm_120"],
)
def test_every_shipped_configuration_compiles_and_spills_nothing(target, kernels):
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        results = list(pool.map(lambda kernel: compiled(kernel, target), kernels))
    for kernel, found in zip(kernels, results, strict=True):
        assert found.spill_bytes == 0, (kernel, found.spill_bytes)
        assert kernel.function not in WITHOUT_LOCAL_MEMORY or ".local" not in found.assembly, kernel
        assert found.registers * kernel.threads * BLOCKS_OF_AN_SM[kernel.function] <= REGISTERS_OF_AN_SM, kernel
        assert found.code[:4] == b"\x7fELF"


def test_forward_kernels_of_clusters_take_no_more_registers():
    """bfloat16 stands for float16, which differs in conversions."""
    shapes = [*FORWARD[BFLOAT16], *FORWARD[TENSORFLOAT32]]
    assert {(shape.storage, shape.hidden, shape.cluster) for shape in shapes} == FORWARD_REGISTERS.keys()
    for shape in shapes:
        allowed = FORWARD_REGISTERS[shape.storage, shape.hidden, shape.cluster]
        assert compiled(shape.kernel(), "sm_90a").registers <= allowed, shape


def test_backward_kernels_of_clusters_take_no_more_registers():
    """bfloat16 stands for float16, which differs in conversions."""
    shapes = [*BACKWARD[BFLOAT16], *BACKWARD[TENSORFLOAT32]]
    assert {(shape.storage, shape.hidden, shape.cluster, shape.room) for shape in shapes} == BACKWARD_REGISTERS.keys()
    for shape in shapes:
        allowed = BACKWARD_REGISTERS[shape.storage, shape.hidden, shape.cluster, shape.room]
        assert compiled(shape.kernel(), "sm_90a").registers <= allowed, shape


@pytest.mark.parametrize("target", ["sm_80", "sm_90a", "sm_100", "sm_120"])
def test_pointwise_kernels_take_no_more_registers(target):
    for storage in FORWARD:
        for hidden in (8, 7):
            for backward in (False, True):
                shape = GemmSteps(storage)
                allowed = POINTWISE_REGISTERS[4 * storage.per_word, shape.width(hidden), backward]
                assert compiled(shape.kernel(hidden, backward), target).registers <= allowed, (shape, hidden, backward)


def test_a_configuration_that_spills_is_seen():
    too_much = BackwardShape(storage=BFLOAT16, hidden=128, cluster=1).kernel()
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
