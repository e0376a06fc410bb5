"""Newton's method gives the states that stepping gives; fading memories need few rounds; what did not converge is said."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.studies import scaling
from bench.studies.gradients import cells, inits
from bench.studies.scaling import newton
from impls import LSTMSpec

SPEC = LSTMSpec(4, 6, dtype="float64")


def weights(init: str, seed: int = 0) -> cells.Weights:
    return cells.stacked(SPEC, [inits.params(SPEC, init, seed)])


def inputs(steps: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).standard_normal((steps, 4)))


@pytest.mark.parametrize("init", ["pytorch", "forget:1", "forget:5", "chrono:784"])
@pytest.mark.parametrize("steps", [1, 2, 31, 128])
def test_all_at_once_is_one_after_the_other_to_rounding(init, steps):
    x = inputs(steps)
    found = newton.solve(weights(init), x)
    assert found.converged and found.residual <= newton.TOLERANCE
    assert float((found.states - newton.sequential_states(weights(init), x)).abs().max()) < 1e-8


def test_a_memory_that_decays_needs_fewer_rounds():
    x = inputs(512)
    assert newton.solve(weights("pytorch"), x).rounds < newton.solve(weights("forget:5"), x).rounds


def test_rounds_that_do_not_suffice_are_said_not_to():
    found = newton.solve(weights("forget:5"), inputs(256), most=2)
    assert not found.converged and found.rounds == 2 and found.residual > newton.TOLERANCE


def test_the_linearisation_is_the_derivative():
    network, x = weights("forget:1"), inputs(3)
    bias = x @ network.w_x[0] + network.b_x[0] + network.b_h[0]
    before = torch.from_numpy(np.random.default_rng(5).standard_normal((3, 12)))
    _, jacobians = newton.linearised(network, bias, before)
    for t in range(3):
        exact = torch.autograd.functional.jacobian(lambda s, t=t: newton._step(network, bias[t], s)[0], before[t])
        assert torch.allclose(jacobians[t], torch.as_tensor(exact), atol=1e-13)


def test_rounds_residual_times_and_exponent_are_recorded():
    (case,) = scaling._newton((16,), 3, ("pytorch",))
    found = {each.metric: each for each in newton.measure(case)}
    assert set(found) == {"rounds", "residual", "difference", "newton_time", "sequential_time", "lyapunov"}
    assert all(len(each.samples) == 3 for each in found.values()) and max(found["difference"].samples) < 1e-10
    assert max(found["lyapunov"].samples) < 0
