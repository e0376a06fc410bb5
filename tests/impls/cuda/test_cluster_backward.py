"""The persistent-cluster backward kernel, emulated: every way to cut it, rows of any alignment, states, and what padding is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from bench.worker import agreement
from impls.cuda.emulator import Emulation, RuleBroken
from impls.cuda.runtime import BFLOAT16, TENSORFLOAT32, Refused
from impls.cuda.select import BACKWARD
from impls.cuda.select.cluster import BackwardShape
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


@pytest.mark.parametrize("number", range(len(CUTS)), ids=lambda number: str(CUTS[number]))
def test_every_cut_is_right(number):
    (hidden, cluster, batch, cut), dtype = CUTS[number], [*STORAGES][number % 3]
    check(case(hidden, 6, batch, dtype), cluster_plan(dtype, hidden, cluster, back=cut))


@pytest.mark.parametrize("hidden", [5, 6, 24])
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


@dataclass(frozen=True)
class Inputs:
    """What a backward pass of random numbers reads, in float64; gates are saved ones."""

    weights: Tensor
    gates: Tensor
    cells: Tensor
    c0: Tensor | None
    lengths: Tensor | None
    grads: tuple[Tensor, Tensor | None, Tensor | None]


def inputs(hidden: int, lengths: list[int], directions: int = 1, dtype: torch.dtype = torch.bfloat16) -> Inputs:
    generator, batch, steps = torch.Generator().manual_seed(3), len(lengths), max(lengths)

    def draw(*sizes: int, to: torch.dtype = torch.float32) -> Tensor:
        return (torch.rand(*sizes, generator=generator) - 0.3).to(to).double()

    weights = draw(directions, 4 * hidden, hidden, to=dtype) / 4
    gates, cells = draw(directions, steps, batch, 4, hidden, to=dtype), draw(directions, steps, batch, hidden)
    states = [draw(directions, batch, hidden) for _ in range(3)]
    of_y = draw(steps, batch, directions * hidden, to=dtype)
    return Inputs(weights, gates, cells, states[0], torch.tensor(lengths, dtype=torch.int32), (of_y, states[1], states[2]))


def gradients(shape: BackwardShape, given: Inputs, *, moved_by: int = 0, launcher=None) -> tuple[Tensor, ...]:
    """By the emulated kernel. Arrays that every step reads lie `moved_by` elements into storages of their own."""
    dtype = shape.storage.dtype
    plan = replace(cluster_plan("bfloat16", 16, 1), backward=shape)

    def moved(tensor: Tensor, to: torch.dtype = torch.float32) -> Tensor:
        room = tensor.new_zeros(tensor.numel() + moved_by, dtype=to)
        room[moved_by:] = tensor.flatten()
        return room[moved_by:].view(tensor.shape)

    weights = [moved(weight, dtype) for weight in given.weights]
    packed = recurrence.pack(plan, Emulation(), weights, backward=True)
    gates = [moved(of_direction, dtype) for of_direction in given.gates]
    states = [None if state is None else state.float() for state in given.grads[1:]]
    return recurrence.backward(
        plan, launcher or Emulation(), packed, gates, moved(given.cells), None if given.c0 is None else moved(given.c0),
        lengths=given.lengths, grads=(moved(given.grads[0], dtype), *states),
    )  # fmt: skip


def reference(given: Inputs) -> tuple[Tensor, ...]:
    """The equations of docs/cuda.md, in float64."""
    directions, steps, _, _, hidden = given.gates.shape
    grad_gates, dh, dc = torch.zeros_like(given.gates), given.grads[1].clone(), given.grads[2].clone()
    for direction in range(directions):
        for t in range(steps) if direction else reversed(range(steps)):
            before = t + 1 if direction else t - 1
            i, f, g, o = given.gates[direction, t].unbind(1)
            c, c_before = (
                given.cells[direction, t],
                given.cells[direction, before] if 0 <= before < steps else given.c0[direction],
            )
            live = (t < given.lengths)[:, None]
            into_h = dh[direction] + given.grads[0][t, :, direction * hidden : (direction + 1) * hidden]
            into_c = dc[direction] + into_h * o * (1 - c.tanh() ** 2)
            dz = (
                into_c * g * i * (1 - i),
                into_c * c_before * f * (1 - f),
                into_c * i * (1 - g * g),
                into_h * c.tanh() * o * (1 - o),
            )
            grad_gates[direction, t] = torch.where(live[..., None], torch.stack(dz, 1), 0.0)
            dh[direction] = torch.where(live, torch.cat(dz, 1) @ given.weights[direction], dh[direction])
            dc[direction] = torch.where(live, into_c * f, dc[direction])
    return grad_gates, dh, dc


RAGGED = [5, 0, 1, 4, 5, 2, 3]
ERROR = {"bfloat16": 2**-8, "float16": 2**-11, "tensorfloat32": 2**-11}


def disagreement(dtype: str, hidden: int, cluster: int, launcher=None, **cut) -> float:
    """The largest error of what a ragged batch of two directions sends back, in units of the largest and of its type's."""
    given = inputs(hidden, RAGGED, 2, STORAGES[dtype].dtype)
    found = gradients(backward_shape(dtype, hidden, cluster, **cut), given, launcher=launcher)
    pairs = zip(found, reference(given), strict=True)
    return max(float((one - other).abs().max() / other.abs().max()) for one, other in pairs) / ERROR[dtype]


@pytest.mark.parametrize(
    "hidden, cluster, cut", [(32, 2, {}), (21, 1, {"tiles": 2, "pairs": 2}), (40, 2, {"columns": 3})], ids=str
)
@pytest.mark.parametrize("dtype", STORAGES)
def test_gradients_of_states_pass_sequences_of_any_length(hidden, cluster, cut, dtype):
    assert disagreement(dtype, hidden, cluster, **cut) < 4


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("live[i] ? grad.c_before : only[i].dc", "grad.c_before"),
        ("live[i] ? 0.0f : into_h", "0.0f"),
        ("live[i] ? S::gates(grad.preactivations) : Gates{}", "S::gates(grad.preactivations)"),
        ("d.grad_h_n ? global_read(d.grad_h_n + at)", "true ? 0.0f"),
        ("d.grad_c_n ? global_read(d.grad_c_n + at)", "true ? 0.0f"),
        ("? d.cells + (long long)before * batch * hidden : d.c0", "? d.cells + (long long)before * batch * hidden : d.cells"),
    ],
)
def test_a_kernel_that_forgets_a_state_disagrees(right, wrong):
    def rewrite(text: str) -> str:
        assert text.count(right) == 1
        return text.replace(right, wrong)

    assert disagreement("bfloat16", 32, 2, Rewritten(SOURCE, rewrite)) > 16


def same(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_cut_of_the_batch_changes_no_bit():
    """A column's numbers do not depend on its neighbours, nor on where in a cluster it lies."""
    given = inputs(32, RAGGED)
    whole = gradients(backward_shape("bfloat16", 32, 2), given)
    for cut in ({"columns": 1}, {"columns": 3}, {"tiles": 2, "columns": 7}, {"pairs": 2, "tiles": 2, "columns": 5}):
        assert same(whole, gradients(backward_shape("bfloat16", 32, 2, **cut), given)), cut


@pytest.mark.parametrize("dtype", ["bfloat16", "tensorfloat32"])
def test_arrays_may_lie_anywhere(dtype):
    shape = backward_shape(dtype, 32, 2)
    given = inputs(32, [3, 2])
    aligned = gradients(shape, given)
    for by in (1, 2, 3, 8):
        assert same(aligned, gradients(shape, given, moved_by=by)), by


def test_what_is_absent_is_zero_and_lengths_are_all_steps():
    given = inputs(32, [4, 4, 4])
    zero = torch.zeros_like(given.grads[1])
    absent = replace(given, c0=None, lengths=None, grads=(given.grads[0], None, None))
    filled = replace(given, c0=zero, grads=(given.grads[0], zero, zero))
    for shape in (backward_shape("bfloat16", 32, 2), backward_shape("bfloat16", 32, 2, tiles=2)):
        assert same(gradients(shape, absent), gradients(shape, filled))


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


SHIPPED = [*BACKWARD[BFLOAT16], *BACKWARD[TENSORFLOAT32]]


@pytest.mark.parametrize("number", range(len(SHIPPED)))
def test_every_shipped_cut_is_right(number):
    """Every second at a hidden size that has to be padded; bfloat16 stands for float16, which differs in conversions."""
    shape = SHIPPED[number]
    given = inputs(shape.hidden - number % 2, [2, 1, 2], dtype=shape.storage.dtype)
    found = gradients(shape.spread(3, 2), given)
    for one, other in zip(found, reference(given), strict=True):
        assert float((one - other).abs().max() / other.abs().max()) < 4 * ERROR[shape.storage.name.lower()], shape
