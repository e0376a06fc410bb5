"""pack.cu, emulated, gives bit for bit what PyTorch's own operations give; what needs no packing is read where it lies."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from impls.cuda.emulator import Emulation
from impls.cuda.runtime import BFLOAT16, FLOAT16, TENSORFLOAT32, Launch, Storage
from impls.cuda.select import BACKWARD
from impls.cuda.select.cluster import BackwardShape
from impls.cuda.select.steps import PACKING_AXES, Packing, TensorSteps
from impls.cuda.torch import recurrence
from tests.impls.cuda import packed
from tests.impls.cuda.emulated import STORAGES, cluster_plan, step_plan, tensor_step_plan

Orders = dict[str, tuple[int, Callable[[Storage], Packing | None], Callable[[Storage, Tensor], Tensor]]]


def cluster_backward(hidden: int) -> tuple:
    def cut(storage: Storage) -> BackwardShape:
        return BackwardShape(storage=storage, hidden=32, cluster=1, warps=2)

    return hidden, lambda storage: cut(storage).packing(hidden), lambda storage, w: packed.cluster_backward(cut(storage), w)


def tensor_step(hidden: int, backward: bool) -> tuple:
    return (
        hidden,
        lambda storage: TensorSteps(storage, 1).packing(hidden, backward),
        lambda storage, w: packed.tensor_step(TensorSteps(storage, 1), w, backward),
    )


ORDERS: Orders = {
    "cluster backward, padded": cluster_backward(27), "cluster backward, one unit": cluster_backward(1),
    "tensor step backward": tensor_step(40, True), "tensor step backward, padded": tensor_step(37, True),
    "tensor step forward, padded": tensor_step(37, False), "tensor step forward, one unit": tensor_step(1, False),
}  # fmt: skip


def drawn(hidden: int, storage: Storage) -> Tensor:
    return torch.randn(4 * hidden, hidden, generator=torch.Generator().manual_seed(hidden)).to(storage.dtype)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("storage", STORAGES.values(), ids=STORAGES)
def test_packed_as_by_pytorch(order, storage):
    hidden, packing, expected = ORDERS[order]
    weights, launches = [drawn(hidden, storage), drawn(hidden, storage) * 2], []
    asked = packing(storage)
    assert asked is not None

    def launcher(launch: Launch) -> None:
        launches.append(launch)
        Emulation()(launch)

    found = recurrence.Packer.of(asked, hidden).run(launcher, weights)
    assert len(launches) == 1, "both directions by one launch"
    for weight, one in zip(weights, found, strict=True):
        right = expected(storage, weight)
        assert torch.equal(one.flatten().view(torch.uint8), right.flatten().view(torch.uint8))


def test_the_axes_of_every_shipped_configuration_fit_the_kernel():
    for storage in (BFLOAT16, FLOAT16, TENSORFLOAT32):
        orders = [cut.packing(cut.hidden - 1) for cut in BACKWARD[storage]]
        orders.append(TensorSteps(storage, 1).packing(1150, True))
        assert all(order is not None and len(order.axes) <= PACKING_AXES for order in orders)


def test_what_can_be_read_where_it_lies_is_not_packed():
    weight = drawn(16, BFLOAT16)
    refuse: Callable[[Launch], None] = lambda launch: pytest.fail(f"{launch.kernel.function} was launched")  # noqa: E731
    for plan, backward in (
        (step_plan("bfloat16"), False),
        (step_plan("bfloat16"), True),
        (tensor_step_plan("bfloat16"), False),
        (cluster_plan("bfloat16", 16, 1), True),
        (cluster_plan("bfloat16", 16, 1), False),
    ):
        assert recurrence.pack(plan, refuse, [weight], backward)[0] is weight


def test_a_view_that_begins_anywhere_is_moved():
    weight = torch.zeros(16 * 64 + 1, dtype=torch.bfloat16)[1:].view(64, 16)
    assert weight.data_ptr() % 16
    (moved,) = recurrence.pack(tensor_step_plan("bfloat16"), Emulation(), [weight])
    assert moved.data_ptr() % 16 == 0 and torch.equal(moved, weight)


def test_nothing_that_was_packed_is_kept():
    weight, plan = drawn(16, BFLOAT16), cluster_plan("bfloat16", 16, 1)
    for backward in (False, True):
        first = recurrence.pack(plan, Emulation(), [weight], backward)[0].clone()
        weight.data.mul_(2.0)
        assert torch.equal(recurrence.pack(plan, Emulation(), [weight], backward)[0], first * 2)
