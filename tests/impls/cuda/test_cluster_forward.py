"""The forward kernel of a cluster: unpadded columns, weights as they are kept, states of any size, every shipped cut."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from bench.harness.case import Case
from impls.cuda.emulator import Emulation
from impls.cuda.runtime import BFLOAT16, FOLDER, TENSORFLOAT32, Refused
from impls.cuda.select import FORWARD, Plan
from impls.cuda.select.cluster import ForwardShape
from impls.cuda.torch import recurrence
from tests.impls.cuda.emulated import STORAGES, backward_shape, case, check, cluster_plan

DOCUMENTED = re.compile(r"^\| (?:16 bits|TF32) \|.*\|$", re.MULTILINE)
SHIPPED = {
    f"{name}-H{shape.hidden}-C{shape.cluster}": (name, shape)
    for name in ("bfloat16", "tensorfloat32")
    for shape in FORWARD[STORAGES[name]]
}


class Large(Case):
    """A case whose initial states are far beyond the outputs of an LSTM."""

    @property
    def key(self) -> str:
        return f"{super().key} large"

    def data(self):
        params, batch = super().data()
        assert batch.h0 is not None and batch.c0 is not None
        batch.h0[:] *= 30.0
        batch.c0[:] *= 30.0
        return params, batch


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_cut_is_right(name):
    """With H itself and one unit less in turn, so that rows are read in 16 bytes and value by value."""
    dtype, shape = SHIPPED[name]
    odd = [*SHIPPED].index(name) % 2
    hidden, columns = shape.hidden - odd, 2 + odd
    back = backward_shape(dtype, hidden, 1)
    plan = Plan(replace(shape, columns=columns), back, shape.storage.dtype, "saved", "for a test")
    check(case(hidden, 3, 4, dtype, "forward"), plan)


@pytest.mark.parametrize("columns", range(1, 9))
@pytest.mark.parametrize("batch", [1, 11])
def test_clusters_take_any_number_of_columns(columns, batch):
    check(case(32, 4, batch, phase="forward", bidirectional=True), cluster_plan("bfloat16", 32, 2, columns=columns))
    check(case(32, 4, batch, phase="forward"), cluster_plan("bfloat16", 32, 2, row_tiles=4, columns=columns))  # in four rounds


@pytest.mark.parametrize("hidden", [1, 2, 5, 7, 8, 20, 28, 37, 40, 51, 63])
@pytest.mark.parametrize("dtype", STORAGES)
def test_rows_of_any_length(hidden, dtype):
    check(case(hidden, 3, 3, dtype, bidirectional=True), cluster_plan(dtype, hidden, 4, columns=2))


@pytest.mark.parametrize("dtype", STORAGES)
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 33])
def test_any_number_of_steps(steps, dtype):
    """Fewer and more than are read ahead, for both ways of reading ahead."""
    plan = cluster_plan(dtype, 64, 2, columns=2)
    for hidden in (61, 64):
        check(case(hidden, steps, 3, dtype, "forward", bidirectional=True), plan)


@pytest.mark.parametrize("dtype", STORAGES)
def test_large_initial_states(dtype):
    check(case(32, 4, 3, dtype, "forward", of=Large), cluster_plan(dtype, 32, 2))


def run(plan: Plan, weights: list[torch.Tensor], projected: list[torch.Tensor], steps: int, lengths: torch.Tensor | None):
    batch, hidden = len(projected[0]) // steps, projected[0].shape[1] // 4
    return recurrence.forward(
        plan, Emulation(), weights, projected, states_of(len(weights), batch, hidden, weights[0].dtype), steps=steps,
        lengths=lengths,
    )  # fmt: skip


def states_of(directions: int, batch: int, hidden: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    h0 = torch.linspace(-1, 1, directions * batch * hidden, dtype=dtype).view(directions, batch, hidden)
    return h0, 2 * h0.float()


@pytest.mark.parametrize("dtype", STORAGES)
def test_weights_and_products_that_begin_anywhere(dtype):
    """Views whose rows are a multiple of 16 bytes long and begin beside one."""
    plan, kind = cluster_plan(dtype, 32, 2, columns=2), STORAGES[dtype].dtype
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([4, 1, 3], dtype=torch.int32)
    weights = (torch.randn(1 + 4 * 32 * 32, generator=generator).to(kind) / 6)[1:].view(4 * 32, 32)
    projected = torch.randn(1 + 4 * 3 * 4 * 32, generator=generator).to(kind)[1:].view(4 * 3, 4 * 32)
    found = run(plan, [weights], [projected], 4, lengths)
    expected = run(plan, [weights.clone()], [projected.clone()], 4, lengths)
    assert torch.equal(found.y, expected.y) and torch.equal(found.h_n, expected.h_n) and torch.equal(found.c_n, expected.c_n)


def test_a_sequence_of_no_steps_keeps_its_state():
    plan = cluster_plan("bfloat16", 32, 2, columns=2)
    weights, projected = torch.ones(4 * 32, 32, dtype=torch.bfloat16), torch.ones(3 * 2, 4 * 32, dtype=torch.bfloat16)
    found = run(plan, [weights, weights], [projected, projected], 3, torch.tensor([0, 3], dtype=torch.int32))
    h0, c0 = states_of(2, 2, 32, torch.bfloat16)
    assert torch.equal(found.h_n[:, 0], h0[:, 0]) and torch.equal(found.c_n[:, 0], c0[:, 0])
    assert not found.y[:, 0].any() and found.y[:, 1].all()


def test_absent_states_and_lengths_are_zeros_and_all_steps():
    plan = cluster_plan("bfloat16", 32, 2, columns=2)
    weights, projected = torch.ones(4 * 32, 32).bfloat16() / 8, torch.ones(3 * 3, 4 * 32).bfloat16()
    zeros, lengths = torch.zeros(1, 3, 32), torch.full((3,), 3, dtype=torch.int32)
    absent = recurrence.forward(plan, Emulation(), [weights], [projected], (None, None), steps=3, lengths=None)
    given = recurrence.forward(plan, Emulation(), [weights], [projected], (zeros.bfloat16(), zeros), steps=3, lengths=lengths)
    assert torch.equal(absent.y, given.y) and torch.equal(absent.h_n, given.h_n) and torch.equal(absent.c_n, given.c_n)


def test_a_kernel_is_the_same_for_all_columns():
    shape = next(iter(FORWARD[TENSORFLOAT32]))
    assert replace(shape, columns=3).kernel() == shape.kernel()


@pytest.mark.parametrize(
    "sizes, complaint",
    [
        ({"columns": 0}, "1 to 8 columns"),
        ({"columns": 9}, "1 to 8 columns"),
        ({"stages": 4}, "in 4 stages"),
        ({"row_tiles": 3}, "divided over warps of 3"),
        ({"split": 3}, "split 3 ways"),
    ],
)
def test_what_cannot_be_cut_is_refused(sizes, complaint):
    with pytest.raises(Refused, match=complaint):
        ForwardShape(storage=TENSORFLOAT32, hidden=64, cluster=2, **sizes)


def test_the_documented_cuts_are_the_shipped_ones():
    rows = [line.strip("| ").split(" | ") for line in DOCUMENTED.findall((FOLDER.parents[2] / "docs/cuda.md").read_text())]
    rows = [row for row in rows if "×" in row[3]]  # the backward kernel has a table of its own
    expected = []
    for values, storage in (("16 bits", BFLOAT16), ("TF32", TENSORFLOAT32)):
        for shape in FORWARD[storage]:
            kernel, of = shape.kernel(), shape.fragments
            kept = of if shape.resident is None else shape.resident
            fits = kernel.shared_bytes <= 99 << 10 and shape.cluster <= 8
            targets = "sm_90a, sm_100" + (", sm_120" if fits else "")
            cut = [f"{shape.row_tiles} × {shape.split}", shape.stages, f"{kept} of {of}", shape.threads, kernel.shared_bytes]
            expected.append([str(cell) for cell in (values, shape.hidden, shape.cluster, *cut, targets)])
    assert rows == expected
