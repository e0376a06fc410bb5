"""The closed forms of work and critical path are those of the program itself, followed operator by operator."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.studies.parallel import CASES, counts, measures, newton

POINTWISE = {"mul", "add", "sub", "rsub", "sigmoid", "tanh", "abs"}
MOVED = {
    "cat", "stack", "clone", "copy_", "zeros_like", "new_zeros", "empty_like", "diag_embed", "_to_copy", "repeat", "fill_",
    "zero_", "expand", "detach", "lift_fresh", "new_empty", "zeros", "empty_strided", "empty", "_unsafe_view",
}  # fmt: skip


class Following(TorchDispatchMode):
    """Counts the operations of all that runs, and how deep each memory's last value lies."""

    def __init__(self) -> None:
        super().__init__()
        self.work, self.path = 0, 0
        self.depths: dict[int, int] = {}
        self.held: list[Tensor] = []  # so that no memory is used twice

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        if func.is_view or not isinstance(out, Tensor) or not out.numel():
            return out
        before = [self.depths.get(each.untyped_storage().data_ptr(), 0) for each in given]
        self.held += [*given, out]
        deep = max(before, default=0)
        if name in ("mm", "bmm"):
            terms = given[0].shape[-1]
            self.work += 2 * terms * out.numel()
            deep += 1 + math.ceil(math.log2(terms))
        elif name == "addcmul":
            self.work += 2 * out.numel()
            deep = max(before[0] + 1, max(before[1:]) + 2)
        elif name == "max":
            self.work += given[0].numel()
            deep += math.ceil(math.log2(given[0].numel()))
        elif name in POINTWISE:
            self.work += out.numel()
            deep += 1
        else:
            assert name in MOVED, f"{name} is not counted"
        self.depths[out.untyped_storage().data_ptr()] = deep
        self.path = max(self.path, deep)
        return out


@pytest.mark.parametrize(("jacobian", "diagonal"), [("full", False), ("blocks", False), ("quasi", False), ("blocks", True)])
@pytest.mark.parametrize(("hidden", "steps", "rounds"), [(4, 8, 2), (5, 13, 1), (3, 1, 1)])
def test_counts_are_those_of_the_program(jacobian: str, diagonal: bool, hidden: int, steps: int, rounds: int) -> None:
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(steps, 4 * hidden, generator=random)
    recurrent = torch.randn(*(() if diagonal else (hidden,)), 4 * hidden, generator=random)
    cell = newton.Cell(inputs, recurrent, jacobian)
    start = cell.zeros()
    with Following() as followed:
        found = newton.solve(cell, start, tolerance=-1.0, most=rounds)
    expected = counts.newton(hidden, steps, rounds, diagonal, jacobian)
    assert found.rounds == rounds and followed.work == expected.work
    assert followed.path == expected.path


@pytest.mark.parametrize("diagonal", [False, True])
def test_stepping_is_counted_as_the_loop_runs_it(diagonal: bool) -> None:
    hidden, steps = 6, 9
    case = next(case for case in CASES["smoke"] if (case.factor("weights") == "diagonal") == diagonal)
    drawn = measures.network(case, 0)
    recurrent = torch.zeros(4 * hidden) if diagonal else torch.zeros(hidden, 4 * hidden)
    own = measures.Network(torch.zeros(steps, 1), torch.zeros(1, 4 * hidden), torch.zeros(4 * hidden), recurrent, drawn.params)
    inputs = own.inputs()
    with Following() as followed:
        measures.step_by_step(inputs, recurrent)
    expected = counts.stepped(hidden, steps, diagonal)
    assert (followed.work, followed.path) == (expected.work, expected.path)


def test_orders_of_growth_are_the_published_ones() -> None:
    """Work O(T H³) in full and O(T H) in blocks; a path that log T lengthens."""
    for jacobian, diagonal, power in (("full", False, 3), ("blocks", True, 1)):
        small, large = (counts.newton(hidden, 1024, 4, diagonal, jacobian).work for hidden in (256, 512))
        assert math.log2(large / small) == pytest.approx(power, abs=0.06)
        short, long = (counts.newton(64, steps, 4, diagonal, jacobian) for steps in (1024, 2048))
        assert long.work == pytest.approx(2 * short.work, rel=1e-2)
        longer = counts.newton(64, 4096, 4, diagonal, jacobian)
        assert longer.path - long.path == long.path - short.path > 0
    steps = [counts.stepped(64, steps, False).path for steps in (1024, 2048)]
    assert steps[1] == 2 * steps[0]


def test_brents_bound_crosses_where_it_says() -> None:
    stepped, at_once = counts.stepped(64, 1024, True), counts.newton(64, 1024, 5, True, "blocks")
    found = counts.processors(stepped, at_once)
    assert found is not None
    for share, faster in ((0.99, False), (1.01, True)):
        one, other = (each.work / (share * found) + each.path for each in (stepped, at_once))
        assert (other < one) == faster
    assert counts.processors(stepped, counts.newton(64, 1024, 1000, True, "blocks")) is None
    assert counts.processors(counts.Cost(5, 5, 1), counts.Cost(4, 4, 1)) == 1.0


def test_memory_is_that_of_the_maps_of_all_levels() -> None:
    full, diagonal = counts.newton(32, 100, 4, False, "full"), counts.newton(32, 100, 4, True, "blocks")
    assert np.isclose(full.values / (100 * 2 * 64 * 64), 1, atol=0.05) and diagonal.values == 100 * (2 * 4 + 4 + 7) * 32
