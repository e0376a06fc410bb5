"""One step back and one step forward are the transpose and the Jacobian that autograd has, and a path is the oracle's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import impls
from bench.harness.case import Case
from bench.studies.gradients import cells, inits
from impls import Batch, GRUSpec, LSTMSpec, RNNSpec

SPECS = (LSTMSpec(3, 5, dtype="float64"), GRUSpec(3, 5, dtype="float64"), RNNSpec(3, 5, dtype="float64"))


def case(spec, steps=7, batch=2, seeds=2, init="pytorch") -> Case:
    return Case(spec, steps, batch, "forward_backward", factors=(("init", init), ("seeds", seeds)))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.cell)
def test_the_path_is_that_of_the_oracle(spec):
    opened = case(spec)
    path, _ = inits.path(opened)
    for seed, params in enumerate(inits.weights(spec, "pytorch", 2)):
        loaded = impls.get("numpy").load(spec, params, Batch(inits.inputs(opened, seed)))
        loaded.forward()
        assert path.last[0][seed].numpy() == pytest.approx(loaded.final_state()["h_n"][0], abs=1e-14)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.cell)
def test_a_step_back_is_the_transpose_of_a_step_forward(spec):
    path, _ = inits.path(case(spec))
    random = torch.Generator().manual_seed(1)
    for t in (1, 6):
        tangents, grads = (
            tuple(torch.randn(2, 2, 5, dtype=torch.float64, generator=random) for _ in range(path.parts)) for _ in range(2)
        )
        forwards = sum((grad * moved).sum() for grad, moved in zip(grads, path.jvp(t, tangents), strict=True))
        backwards = sum((moved * tangent).sum() for moved, tangent in zip(path.vjp(t, grads)[2], tangents, strict=True))
        assert float(forwards) == pytest.approx(float(backwards), abs=1e-13)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.cell)
def test_a_step_forward_is_the_jacobian_of_autograd(spec):
    opened = case(spec)
    path, _ = inits.path(opened)
    x = torch.from_numpy(np.stack([inits.inputs(opened, seed) for seed in range(2)], 1))
    inputs = x[0] @ path.weights.w_x + path.weights.b_x
    fresh = type(path)(path.weights, x[:1])
    state = tuple(
        torch.randn(2, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) for _ in range(path.parts)
    )
    tangents = tuple(torch.randn_like(part) for part in state)
    _, expected = torch.func.jvp(lambda *at: fresh._step(inputs, at), state, tangents)
    fresh.saved.clear()
    fresh._step(inputs, state)
    for found, wanted in zip(fresh.jvp(0, tangents), expected, strict=True):
        assert torch.allclose(found, wanted, atol=1e-13)


def test_rectified_units_pass_a_gradient_or_stop_it():
    path, cotangent = inits.path(case(SPECS[2], init="irnn"))
    assert isinstance(path, cells.RectifiedPath)
    _, _, (before,) = path.vjp(3, cotangent)
    stopped = path.saved[3][0] == 0
    assert stopped.any() and torch.equal(before == 0, stopped)
