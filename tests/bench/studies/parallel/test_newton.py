"""Newton's method gives the states and gradients that stepping gives, for every structure of the Jacobian; closed forms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.studies.gradients import inits
from bench.studies.parallel import newton
from impls import LSTMSpec, UnknownName

SPEC = LSTMSpec(4, 6, dtype="float64")
KINDS = [("full", False), ("blocks", False), ("quasi", False), ("blocks", True), ("quasi", True)]


def cell(init: str, steps: int, jacobian: str = "full", diagonal: bool = False) -> newton.Cell:
    params = inits.params(SPEC, init, 0)
    x = torch.from_numpy(np.random.default_rng(3).standard_normal((steps, 4)))
    inputs = x @ torch.from_numpy(params["weight_ih_l0"].T) + torch.from_numpy(params["bias_ih_l0"] + params["bias_hh_l0"])
    recurrent = torch.from_numpy(params["weight_hh_l0"].T.copy())
    if diagonal:
        recurrent = torch.from_numpy(np.random.default_rng(4).uniform(-1, 1, 24))
    return newton.Cell(inputs, recurrent, jacobian)


def solved(of: newton.Cell, most: int = newton.MOST_ROUNDS) -> newton.Solution:
    return newton.solve(of, of.zeros(), most=most)


@pytest.mark.parametrize("init", ["pytorch", "forget:1", "forget:5", "chrono:784"])
@pytest.mark.parametrize("steps", [1, 2, 31, 128])
def test_all_at_once_is_one_after_the_other_to_rounding(init: str, steps: int) -> None:
    of = cell(init, steps)
    found = solved(of)
    assert found.converged and found.residual <= newton.TOLERANCES[torch.float64]
    assert float((found.states - newton.sequential_states(of.inputs, of.recurrent)).abs().max()) < 1e-10


@pytest.mark.parametrize(("jacobian", "diagonal"), KINDS)
@pytest.mark.parametrize("steps", [1, 2, 50])
def test_every_structure_converges_to_the_same_states(jacobian: str, diagonal: bool, steps: int) -> None:
    of = cell("forget:1", steps, jacobian, diagonal)
    found = solved(of)
    assert found.converged
    assert float((found.states - newton.sequential_states(of.inputs, of.recurrent)).abs().max()) < 1e-10


@pytest.mark.parametrize("jacobian", ["full", "blocks", "quasi"])
def test_one_step_takes_one_round(jacobian: str) -> None:
    assert solved(cell("pytorch", 1, jacobian)).rounds == 1


@dataclass(frozen=True)
class Linear:
    """s_t = M_t s_{t−1} + v_t."""

    structure: newton.Structure
    maps: Tensor
    offsets: Tensor

    def step(self, before: Tensor) -> tuple[Tensor, newton.Slopes]:
        return self.structure.apply(self.maps, before) + self.offsets, ()

    def jacobians(self, slopes: newton.Slopes) -> Tensor:
        return self.maps


def linear(name: str, steps: int) -> Linear:
    random = torch.Generator().manual_seed(steps)
    shape = {"full": (6, 6), "blocks": (2, 2, 3), "quasi": (6,)}[name]
    maps = 0.5 * torch.randn(steps, *shape, generator=random, dtype=torch.float64)
    return Linear(newton.structure(name), maps, torch.randn(steps, 6, generator=random, dtype=torch.float64))


def dense(of: Linear) -> Tensor:
    """The maps as matrices, [T, 6, 6]."""
    if of.maps.ndim == 4:
        return torch.cat([torch.cat([torch.diag_embed(each) for each in row.unbind(1)], -1) for row in of.maps.unbind(1)], -2)
    return of.maps if of.maps.ndim == 3 else torch.diag_embed(of.maps)


@pytest.mark.parametrize("name", newton.STRUCTURES)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 8, 21])
def test_scans_are_loops(name: str, steps: int) -> None:
    of, state, ahead = linear(name, steps), torch.zeros(6, dtype=torch.float64), []
    for matrix, offset in zip(dense(of), of.offsets, strict=True):
        state = matrix @ state + offset
        ahead.append(state)
    torch.testing.assert_close(newton.prefixes(of.structure, of.maps, of.offsets), torch.stack(ahead), rtol=1e-12, atol=1e-12)
    grad, back = torch.zeros(6, dtype=torch.float64), []
    following = [*dense(of)[1:], torch.zeros(6, 6, dtype=torch.float64)]
    for matrix, offset in zip(reversed(following), of.offsets.flip(0), strict=True):
        grad = matrix.T @ grad + offset
        back.append(grad)
    expected = torch.stack(back).flip(0)
    torch.testing.assert_close(newton.suffixes(of.structure, of.maps, of.offsets), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", newton.STRUCTURES)
def test_a_linear_recurrence_takes_one_round(name: str) -> None:
    of = linear(name, 40)
    found = newton.solve(of, torch.zeros_like(of.offsets))
    assert found.converged and found.rounds == 1


@pytest.mark.parametrize(("jacobian", "diagonal"), KINDS)
def test_jacobians_are_those_of_autograd(jacobian: str, diagonal: bool) -> None:
    """All of it for the full and the diagonal cell; of the others the entries that their structure has."""
    of = cell("forget:1", 3, jacobian, diagonal)
    before = torch.from_numpy(np.random.default_rng(5).standard_normal((3, 12)))
    _, slopes = of.step(before)
    maps = dense(Linear(of.structure, of.jacobians(slopes), before)) if jacobian != "blocks" else of.jacobians(slopes)
    if jacobian == "blocks":
        maps = torch.cat([torch.cat([torch.diag_embed(each) for each in row.unbind(1)], -1) for row in maps.unbind(1)], -2)
    for t in range(3):
        alone = newton.Cell(of.inputs[t : t + 1], of.recurrent, jacobian)
        exact = torch.as_tensor(torch.autograd.functional.jacobian(lambda s, own=alone: own.step(s[None])[0][0], before[t]))
        kept = torch.ones_like(exact) if of.exact else (maps[t] != 0).to(exact)
        torch.testing.assert_close(maps[t], exact * kept, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("jacobian", "diagonal"), [("full", False), ("blocks", True)])
@pytest.mark.parametrize("steps", [1, 40])
def test_one_scan_gives_the_gradients_of_autograd(jacobian: str, diagonal: bool, steps: int) -> None:
    of = cell("forget:1", steps, jacobian, diagonal)
    grad_h = torch.from_numpy(np.random.default_rng(6).standard_normal((steps, 6)))
    inputs, recurrent = of.inputs.clone().requires_grad_(), of.recurrent.clone().requires_grad_()
    (newton.sequential_states(inputs, recurrent)[:, :6] * grad_h).sum().backward()
    for own, expected in zip(of.gradients(solved(of).states, grad_h), (inputs.grad, recurrent.grad), strict=True):
        assert expected is not None
        torch.testing.assert_close(own, expected, rtol=1e-10, atol=1e-11)


def test_a_diagonal_cell_is_an_lstm_with_diagonal_matrices() -> None:
    of = cell("pytorch", 30, "blocks", diagonal=True)
    whole = torch.cat([torch.diag(each) for each in of.recurrent.chunk(4)], 1)
    torch.testing.assert_close(
        newton.sequential_states(of.inputs, of.recurrent), newton.sequential_states(of.inputs, whole), rtol=0, atol=1e-15
    )


def test_a_longer_memory_needs_more_rounds() -> None:
    assert solved(cell("pytorch", 512)).rounds < solved(cell("forget:5", 512)).rounds


def test_rounds_that_do_not_suffice_are_said_not_to() -> None:
    found = solved(cell("forget:5", 256), most=2)
    assert not found.converged and found.rounds == 2 and found.residual > newton.TOLERANCES[torch.float64]


def test_states_that_overflow_end_the_rounds() -> None:
    of = linear("quasi", 600)
    of = Linear(of.structure, torch.full_like(of.maps, 20.0), of.offsets)
    found = newton.solve(of, torch.zeros_like(of.offsets))
    assert not found.converged and found.rounds < 5 and np.isfinite(found.residual)


def test_structures_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UnknownName, match="structure"):
        cell("pytorch", 4, "half")
    with pytest.raises(UnknownName, match="diagonal cell"):
        cell("pytorch", 4, "full", diagonal=True)
    of = cell("pytorch", 4, "quasi")
    with pytest.raises(UnknownName, match="gradients"):
        of.gradients(of.zeros(), of.zeros()[:, :6])
