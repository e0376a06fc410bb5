"""Both designs' own source, run under the emulation, against the float64 oracle: every awkward shape."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.worker import agreement
from impls.cuda.emulator import Emulation
from impls.cuda.torch.network import Network
from tests.impls.cuda.emulated import (
    STORAGES,
    Remembering,
    Rewritten,
    case,
    check,
    cluster_plan,
    step_plan,
    tensor_step_plan,
    with_headers,
)

PLANS = [cluster_plan("bfloat16", 32, 2), tensor_step_plan("bfloat16"), step_plan("bfloat16")]
# hidden (51 is padded), blocks, the cut; `back` is that of the backward kernel
CUTS = [
    (16, 1, {}), (32, 1, {"row_tiles": 4, "back": {"tiles": 2}}), (64, 1, {"row_tiles": 2, "split": 2}),
    (32, 2, {"columns": 1}), (64, 2, {"row_tiles": 4, "split": 2, "back": {"tiles": 2}}), (51, 4, {"columns": 5}),
    (128, 4, {"row_tiles": 2, "split": 4}), (64, 4, {"split": 2, "resident": 1, "back": {"resident": 1}}),
    (96, 4, {"row_tiles": 3, "columns": 3}), (128, 8, {"split": 2, "stages": 2, "columns": 6}),
    (64, 8, {"back": {"resident": 0}}), (128, 16, {}), (128, 16, {"stages": 4, "columns": 7, "back": {"tiles": 2}}),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(CUTS)), ids=lambda number: str(CUTS[number]))
def test_a_cluster_trains_whatever_the_cut(number):
    """Each cut in one type; every shipped one is tried in bfloat16 or TF32 by the tests of its kernel."""
    (hidden, cluster, cut), dtype = CUTS[number], [*STORAGES][number % 3]
    check(case(hidden, 5, 11, dtype), cluster_plan(dtype, hidden, cluster, **cut))


@pytest.mark.parametrize("steps", [1, 2, 33])
@pytest.mark.parametrize("batch", [1, 8, 19])
@pytest.mark.parametrize("memory", ["saved", "rebuilt"])
@pytest.mark.parametrize("hidden, cluster", [(16, 1), (32, 2), (64, 8)])
def test_a_cluster_takes_any_length_and_batch_in_both_directions(steps, batch, memory, hidden, cluster):
    check(case(hidden, steps, batch, bidirectional=True), cluster_plan("bfloat16", hidden, cluster, memory))


@pytest.mark.parametrize("hidden, cluster", [(16, 1), (51, 4), (128, 16)])
@pytest.mark.parametrize("memory", ["saved", "rebuilt"])
def test_stacked_layers_of_two_directions(hidden, cluster, memory):
    check(case(hidden, 6, 3, num_layers=2, bidirectional=True), cluster_plan("bfloat16", hidden, cluster, memory))


@pytest.mark.parametrize("dtype, memory_of_steps", [*zip(STORAGES, ["saved", "rebuilt", "saved"], strict=True)])
def test_a_long_memory(dtype, memory_of_steps):
    long = case(32, 1024, 2, dtype, of=Remembering)
    for memory in ("saved", "rebuilt"):
        check(long, cluster_plan(dtype, 32, 2, memory))
    check(long, tensor_step_plan(dtype, memory_of_steps))  # 2048 launches


def test_a_long_memory_in_exact_numbers():
    check(case(32, 1024, 2, "float32", of=Remembering), step_plan("float32"))


def test_a_float32_cell_state_remembers_better_than_a_naive_one():
    long = case(32, 1024, 2, phase="forward", of=Remembering)
    params, batch = long.data()
    network = Network(long.spec, params, batch, cluster_plan("bfloat16", 32, 2), Emulation(), torch.device("cpu"))
    oracle = agreement.reference(long, "float64")
    error = np.abs(agreement.answer(network, long)["outputs"] - oracle["outputs"]).max()
    assert error < 0.5 * agreement.naive_errors(long, oracle)["outputs"]


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("memory", ["saved", "rebuilt"])
@pytest.mark.parametrize("hidden, steps, batch", [(1, 1, 1), (19, 7, 5), (33, 2, 35)])
def test_steps_take_any_size(dtype, memory, hidden, steps, batch):
    check(case(hidden, steps, batch, dtype, num_layers=2, bidirectional=True), step_plan(dtype, memory))


@pytest.mark.parametrize("dtype", STORAGES)
@pytest.mark.parametrize("memory", ["saved", "rebuilt"])
@pytest.mark.parametrize(
    "hidden, steps, batch, tiles", [(1, 1, 1, 1), (19, 7, 5, 1), (33, 2, 35, 4), (40, 3, 3, 1), (300, 3, 9, 1)]
)
def test_steps_on_tensor_cores_take_any_size(dtype, memory, hidden, steps, batch, tiles):
    whole = case(hidden, steps, batch, dtype, num_layers=1 + (hidden < 100), bidirectional=True)
    check(whole, tensor_step_plan(dtype, memory, tiles))


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.design)
def test_streaming_carries_the_state_on(plan):
    check(case(32, 5, 3, phase="step", num_layers=2), plan)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.design)
def test_without_bias_and_without_training(plan):
    check(case(32, 5, 3, phase="forward", bias=False), plan)


@pytest.mark.parametrize("seed", range(8))
def test_any_order_of_threads_and_sends_gives_the_same(seed):
    check(case(64, 6, 9), cluster_plan("bfloat16", 64, 4, split=2), Emulation(seed))


WRONG = [
    ("cluster_forward.cu", "gate.f * c_before", "gate.i * c_before"),  # this and the next of lstm_pointwise.cuh
    ("cluster_forward.cu", "if (d.cells) global_write", "if (false) global_write"),
    ("cluster_backward.cu", "(1 - gate.g * gate.g)", "(1 - gate.g)"),
    ("step_forward.cu", "S::forget_sigmoid(z.f)", "S::sigmoid(z.i)"),
    ("tensor_step_forward.cu", "recurrent.o + projected.o", "recurrent.o"),
    ("cluster_backward.cu", "live[i] ? value(4) : 0.0f", "value(4)"),
    ("cluster_backward.cu", "gate & 1 ? even >> 16", "true ? even >> 16"),
    # Outputs that are left as they were beyond a sequence's length, or altogether.
    ("cluster_forward.cu", "global_write(d.y + token", "if (live) global_write(d.y + token"),
    ("tensor_step_forward.cu", "global_write(d.y + token", "if (live) global_write(d.y + token"),
    ("step_forward.cu", "global_write(d.y + token", "if (live) global_write(d.y + token"),
    ("cluster_forward.cu", "if (d.gates) S::write_gates", "if (d.gates && unit) S::write_gates"),
    ("tensor_step_forward.cu", "if (d.cells) global_write", "if (d.cells && unit) global_write"),
    ("step_forward.cu", "if (d.gates) S::write_gates", "if (d.gates && unit) S::write_gates"),
    ("tensor_step_backward.cu", "S::write_gates(d.grad_gates", "if (live) S::write_gates(d.grad_gates"),
    ("step_backward.cu", "S::write_gates(d.grad_gates", "if (live) S::write_gates(d.grad_gates"),
    ("cluster_backward.cu", "global_write(d.grad_c0 + at", "if (unit[i]) global_write(d.grad_c0 + at"),
]


@pytest.mark.parametrize("source, right, wrong", WRONG)
def test_a_wrong_kernel_disagrees(source, right, wrong):
    def rewrite(text):
        whole = with_headers(text)
        assert right in whole
        return whole.replace(right, wrong)

    plan = next(plan for plan in PLANS if source.startswith(plan.design))
    with pytest.raises(agreement.Disagreement):
        check(case(32, 5, 3), plan, Rewritten(source, rewrite))
