"""The persistent-cluster backward kernel, emulated: every way to cut it, rows of any alignment, states, and what padding is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bench.worker import agreement
from impls.cuda.emulator import Emulation, RuleBroken
from impls.cuda.runtime import BFLOAT16, Refused
from impls.cuda.select.configurations import BackwardShape, in_pairs
from impls.cuda.torch import recurrence
from tests.impls.cuda.emulated import STORAGES, Rewritten, backward_shape, case, check, cluster_plan

SOURCE = "cluster_backward.cu"
# hidden, blocks, batch, the cut: more or fewer warps than blocks, several tiles, any number of columns, weights in memory
CUTS = [
    (16, 1, 11, {}), (32, 1, 9, {"warps": 2, "tiles": 2}), (64, 1, 5, {"warps": 4, "resident": 3, "pairs": 3}),
    (64, 2, 11, {"warps": 4, "columns": 5}), (64, 2, 7, {"warps": 1, "resident": 5, "columns": 1}),
    (51, 2, 11, {"tiles": 2, "columns": 3}), (50, 2, 11, {"tiles": 3, "pairs": 1}), (128, 4, 19, {"warps": 8, "resident": 1}),
    (100, 2, 5, {"warps": 8, "columns": 4}), (96, 2, 7, {"warps": 2, "tiles": 2, "columns": 7, "resident": 0}),
    (128, 8, 17, {"warps": 2, "tiles": 3, "columns": 17}), (256, 16, 5, {"warps": 2, "pairs": 3}),
]  # fmt: skip


@pytest.mark.parametrize("hidden, cluster, batch, cut", CUTS, ids=str)
@pytest.mark.parametrize("dtype", ["bfloat16", "tensorfloat32"])
def test_every_cut_is_right(hidden, cluster, batch, cut, dtype):
    check(case(hidden, 6, batch, dtype), cluster_plan(dtype, hidden, cluster, back=cut))


@pytest.mark.parametrize("hidden", [5, 6, 8, 12, 31, 40])
@pytest.mark.parametrize("dtype", STORAGES)
def test_rows_of_any_alignment_are_read_and_written(hidden, dtype):
    """16 bytes at a time, words, or values one by one; and with directions of other alignments."""
    check(case(hidden, 6, 3, dtype, bidirectional=True), cluster_plan(dtype, hidden, 2, "saved"))


@pytest.mark.parametrize("hidden", [7, 24])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 33])
@pytest.mark.parametrize("memory", ["saved", "rebuilt"])
def test_sequences_shorter_and_longer_than_the_ring(hidden, steps, memory):
    check(case(hidden, steps, 3), cluster_plan("bfloat16", hidden, 1, memory, back={"tiles": 2, "pairs": 1}))


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_threads_sends_and_copies_gives_the_same(seed):
    check(case(64, 7, 9), cluster_plan("bfloat16", 64, 4, back={"tiles": 2, "columns": 9}), Emulation(seed))


def gradients(shape: BackwardShape, hidden: int, batch: int, moved_by: int = 0) -> tuple[Tensor, ...]:
    """Of three steps on random numbers; arrays that steps read lie `moved_by` elements into storages of their own."""
    generator = torch.Generator().manual_seed(3)
    dtype, steps = shape.storage.dtype, 3
    plan = replace(cluster_plan("bfloat16", hidden, 1), backward=shape)

    def draw(*sizes: int) -> Tensor:
        return torch.rand(*sizes, generator=generator) * 0.8 + 0.1

    def moved(tensor: Tensor) -> Tensor:
        room = tensor.new_zeros(tensor.numel() + moved_by)
        room[moved_by:] = tensor.flatten()
        return room[moved_by:].view(tensor.shape)

    weights = recurrence.pack(plan, moved(draw(1, 4 * hidden, hidden).to(dtype)), backward=True)
    gates, cells, c0 = draw(1, steps, batch, 4, hidden).to(dtype), draw(1, steps, batch, hidden), draw(1, batch, hidden)
    grads = moved(draw(steps, batch, hidden).to(dtype)), draw(1, batch, hidden), draw(1, batch, hidden)
    lengths = torch.full((batch,), steps, dtype=torch.int32)
    return recurrence.backward(
        plan, Emulation(), weights, moved(gates), moved(cells), moved(c0), lengths=lengths, grads=grads
    )  # fmt: skip


def same(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_cut_of_the_batch_changes_no_bit():
    """A column's numbers do not depend on its neighbours, nor on where in a cluster it lies."""
    whole = gradients(backward_shape("bfloat16", 32, 2), 32, 7)
    for cut in ({"columns": 1}, {"columns": 3}, {"tiles": 2, "columns": 7}, {"pairs": 2, "tiles": 2, "columns": 5}):
        assert same(whole, gradients(backward_shape("bfloat16", 32, 2, **cut), 32, 7)), cut


@pytest.mark.parametrize("dtype", ["bfloat16", "tensorfloat32"])
def test_arrays_may_lie_anywhere(dtype):
    shape = backward_shape(dtype, 32, 2)
    aligned = gradients(shape, 32, 2)
    for by in (1, 2, 3, 8):
        assert same(aligned, gradients(shape, 32, 2, by)), by


def test_only_what_needs_it_is_copied_for_the_backward_kernel():
    even = torch.arange(64.0).reshape(1, 16, 4)
    assert in_pairs(even) is even
    odd = in_pairs(even[..., :3])
    assert odd.shape == (1, 16, 4) and torch.equal(odd[..., :3], even[..., :3]) and not odd[..., 3].any()
    late = torch.arange(65.0)[1:].view(1, 16, 4)
    assert in_pairs(late) is not late and torch.equal(in_pairs(late), late)


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("k < hidden && unit < hidden)", "k < hidden)"),  # columns beyond a row
        ("k < hidden && unit < hidden)", "unit < hidden)"),  # rows beyond a gate
        ("rank * UNITS + unit[i] >= hidden) column[i] = columns;", "false) column[i] = columns;"),
        ("if (first + u < hidden) global_write", "global_write"),
    ],
)
def test_what_padding_is_not_is_never_touched(right, wrong):
    def rewrite(text: str) -> str:
        assert text.count(right) == 1
        return text.replace(right, wrong)

    with pytest.raises((RuleBroken, agreement.Disagreement)):
        check(case(21, 4, 3), cluster_plan("bfloat16", 21, 2), Rewritten(SOURCE, rewrite))


@pytest.mark.parametrize(
    "sizes, complaint",
    [
        ({"hidden": 40, "cluster": 2}, "multiple of 16 · 2"),
        ({"hidden": 64, "cluster": 2, "warps": 3}, "cannot be divided over 3 warps"),
        ({"hidden": 64, "cluster": 4, "warps": 8}, "16 units of each of 4 blocks cannot"),
        ({"hidden": 64, "cluster": 4, "warps": 4, "pairs": 5}, "1 to 4 pairs"),
        ({"hidden": 64, "cluster": 4, "warps": 4, "resident": 3}, "2 fragments"),
        ({"hidden": 64, "cluster": 4, "warps": 4, "columns": 9}, "9 columns, where a cluster has room for 8"),
    ],
)
def test_a_cut_that_cannot_be_is_refused(sizes, complaint):
    with pytest.raises(Refused, match=complaint):
        BackwardShape(storage=BFLOAT16, **sizes)


def test_a_batch_is_spread_over_the_clusters_that_run_at_once():
    shape = BackwardShape(storage=BFLOAT16, hidden=512, cluster=16)
    assert [shape.spread(batch, 7).columns for batch in (1, 7, 8, 32, 56, 57, 128)] == [1, 1, 2, 5, 8, 5, 7]
    assert shape.spread(32, 7).kernel() == shape.kernel()
    three = BackwardShape(storage=BFLOAT16, hidden=512, cluster=16, tiles=3)
    assert [three.spread(batch, 7).columns for batch in (1, 128, 256)] == [1, 19, 19]
