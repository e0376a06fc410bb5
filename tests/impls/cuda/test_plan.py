"""The chooser: by shape, with its reason, overridable, refusing with a sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from impls.cuda.runtime import BFLOAT16, FLOAT16, Refused
from impls.cuda.select import LEAST_GRID_HIDDEN, choose
from impls.cuda.select.cluster import BACKWARD, FORWARD, BackwardShape, ForwardShape
from impls.cuda.select.grid import GRID, GRID_BACKWARD, GridShape
from impls.cuda.select.steps import GemmSteps, TensorSteps

HOPPER, AMPERE = (9, 0), (8, 0)


@pytest.mark.parametrize("hidden", [1, 64, 65, 200, 512, 700, 768])
@pytest.mark.parametrize("batch", [1, 8, 33, 256])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_on_hopper_go_to_a_shipped_cluster_or_grid(hidden, batch, dtype):
    plan = choose(hidden, batch, 1, dtype, HOPPER)
    storage = {torch.bfloat16: BFLOAT16, torch.float16: FLOAT16}[dtype]
    for shape, clusters, grids in ((plan.forward, FORWARD, GRID), (plan.backward, BACKWARD, GRID_BACKWARD)):
        if isinstance(shape, GemmSteps):
            assert hidden >= 700 and batch == 256
            continue
        if isinstance(shape, GridShape):
            assert any(replace(shape, copies=cut.copies) == cut for cut in grids[storage]) and hidden >= LEAST_GRID_HIDDEN
        else:
            assert any(replace(cut, columns=shape.columns) == shape for cut in clusters[storage] if fits(cut, shape.columns))
        assert shape.hidden >= hidden
    assert "µs a step" in plan.reason


def fits(cut, columns: int) -> bool:
    return not isinstance(cut, BackwardShape) or columns <= cut.room


def test_forward_and_backward_are_chosen_each_for_itself():
    plan = choose(768, 8, 1, torch.bfloat16, HOPPER)
    assert (plan.forward.design, plan.backward.design, plan.design) == ("grid", "cluster", "grid")
    assert plan.words() == ("grid, saved: forward Bfloat16 H768 U8 N8 G1 P1, backward cluster Bfloat16 H768 C16 N2")


@pytest.mark.parametrize(
    "hidden, dtype, capability, design, reason",
    [
        (2049, torch.bfloat16, HOPPER, "tensor_step", "do not fit into a cluster"),
        (64, torch.float16, AMPERE, "tensor_step", "compute capability 9.0"),
        (64, torch.float32, HOPPER, "step", "exact float32"),
        (64, torch.float64, AMPERE, "step", "exact float64"),
    ],
)
def test_everything_else_goes_step_by_step_and_says_why(hidden, dtype, capability, design, reason):
    plan = choose(hidden, 8, 1, dtype, capability)
    assert plan.design == plan.backward.design == design and reason in plan.reason
    with pytest.raises(Refused, match=reason):
        choose(hidden, 8, 1, dtype, capability, design="cluster")


def test_wide_batches_take_wide_blocks():
    plans = [choose(1024, batch, 1, torch.bfloat16, HOPPER, design="tensor_step") for batch in (1, 8, 9, 256)]
    assert (
        [plan.forward for plan in plans]
        == [plan.backward for plan in plans]
        == [TensorSteps(BFLOAT16, n) for n in (1, 1, 4, 4)]
    )


def test_the_choice_can_be_overridden():
    for design in ("step", "tensor_step", "gemm_step", "cluster", "grid"):
        plan = choose(64, 8, 1, torch.bfloat16, HOPPER, design=design)
        assert plan.design == design and plan.reason.startswith("asked for")
    assert choose(64, 8, 1, torch.float32, HOPPER, tf32=True).design == "cluster"
    assert "rebuilt" in choose(64, 8, 1, torch.bfloat16, HOPPER, memory="rebuilt").words()


def test_small_batches_take_one_cluster_and_large_ones_many():
    few, many = (choose(256, batch, 1, torch.bfloat16, HOPPER).forward for batch in (1, 256))
    assert isinstance(few, ForwardShape) and isinstance(many, ForwardShape) and few.cluster > many.cluster


@pytest.mark.parametrize(
    "sizes, complaint",
    [
        ({"hidden": 160, "cluster": 16}, "multiple of 32 and of 8 · 16"),
        ({"hidden": 48, "cluster": 1}, "multiple of 32"),
        ({"hidden": 64, "cluster": 2, "split": 3}, "cannot be split 3 ways"),
        ({"hidden": 1024, "cluster": 1}, "8192 threads and can have 1024"),
    ],
)
def test_a_cut_that_does_not_fit_is_refused(sizes, complaint):
    with pytest.raises(Refused, match=complaint):
        ForwardShape(storage=BFLOAT16, **sizes)


def test_a_cut_with_too_much_shared_memory_is_refused():
    with pytest.raises(Refused, match="bytes of shared memory"):
        ForwardShape(storage=BFLOAT16, hidden=768, cluster=8, row_tiles=3, split=2, resident=1).kernel()


def test_a_gpu_without_room_for_a_cluster_gets_another_design():
    assert "assumed" in choose(256, 8, 1, torch.bfloat16, HOPPER).reason
    small = choose(256, 8, 1, torch.bfloat16, HOPPER, resident=lambda kernel: int(kernel.cluster < 8))
    assert small.forward is not None and small.forward.cluster == 4
    none = choose(256, 8, 1, torch.bfloat16, HOPPER, resident=lambda kernel: 0)
    assert none.design == "tensor_step" and "no room" in none.reason
    with pytest.raises(Refused, match="no room for a cluster"):
        choose(256, 8, 1, torch.bfloat16, HOPPER, design="cluster", resident=lambda kernel: 0)


@pytest.mark.parametrize(
    "batch, clusters, columns",
    [(1, 7, 1), (7, 7, 1), (8, 7, 2), (32, 7, 5), (56, 7, 8), (57, 7, 5), (128, 7, 7), (256, 15, 6), (9, 1, 5), (8, 1, 8)],
)
def test_the_batch_is_spread_over_the_clusters(batch, clusters, columns):
    shape = FORWARD[BFLOAT16][-1].spread(batch, clusters)
    assert shape.columns == columns and shape.kernel() == FORWARD[BFLOAT16][-1].kernel()
    assert -(-batch // columns) <= clusters * -(-batch // (8 * clusters)), "no more waves than with eight columns"


def test_directions_share_the_clusters():
    one, two = (choose(768, 14, directions, torch.bfloat16, HOPPER, design="cluster").forward for directions in (1, 2))
    assert isinstance(one, ForwardShape) and isinstance(two, ForwardShape) and (one.columns, two.columns) == (2, 5)
