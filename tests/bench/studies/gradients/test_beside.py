"""What stands beside the curves in closed form: rounding to zero, layers, a Transformer's causality, training; and states
through backends."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import impls
from bench.gpu_check.groups import EMULATED_BACKEND, EMULATED_FOLDER
from bench.harness.case import Case, InvalidCase
from bench.studies.gradients import attenuation, cells, controls, inits, segments
from bench.studies.horizon import learning
from impls import Batch, GRUSpec, LSTMSpec, RNNSpec, Spec, UnknownName, backends


def case(spec: Spec, steps: int, batch: int = 2, seeds: int = 2, init: str = "pytorch", **more: str | int) -> Case:
    return Case(spec, steps, batch, "forward_backward", factors=(("init", init), ("seeds", seeds), *more.items()))


@pytest.mark.parametrize(
    ("dtype", "denormal_after", "zero_from"),
    [(torch.float16, 14, 25), (torch.bfloat16, 126, 134), (torch.float32, 126, 150)],
)
def test_halves_are_exact_down_to_the_smallest_number(dtype, denormal_after, zero_from):
    """h' = h/2 at rest: after k steps 2^-k, exactly; half of the smallest number rounds to the even one, zero."""
    zeros = torch.zeros(1, 1, 2, dtype=dtype)
    half = cells.Weights(torch.zeros(1, 1, 2, dtype=dtype), torch.eye(2, dtype=dtype)[None] / 2, zeros, zeros)
    path = cells.RNNPath(half, torch.zeros(160, 1, 1, 1, dtype=dtype))
    for shift in (0, 4):  # the loss scaled by 2^shift: so many lags more
        found = attenuation.largest(path, (torch.ones(1, 1, 2, dtype=dtype) * 2**shift,))[:, 0].double()
        zero = min(zero_from + shift, len(found))
        assert torch.equal(found[:zero], 2.0 ** (shift - torch.arange(zero, dtype=torch.float64)))
        assert not found[zero:].any()
        normal = found >= torch.finfo(dtype).tiny
        assert int(normal.sum()) == denormal_after + shift + 1


def test_a_forget_gate_above_half_keeps_the_smallest_number():
    smallest = torch.tensor(2.0**-24, dtype=torch.float16)
    assert smallest * 0.73 == smallest and smallest * 0.49 == 0


def test_a_gradient_that_underflows_ends_its_curve():
    measured = {each.metric: each for each in attenuation.measure_precision(case(RNNSpec(4, 8, dtype="float16"), 60, seeds=3))}
    found = measured["log_largest"]
    assert next(iter(measured)) == "lags_not_zero" and measured["lags_not_zero"].samples == tuple(map(float, found.blocks))
    assert max(found.blocks) < 60 and len(found.notes) == 3
    assert found.notes[1] == f"log_largest is exactly zero at lag {found.blocks[1]} for seed 1"
    assert all(more > few for more, few in zip(measured["log_largest_scaled"].blocks, found.blocks, strict=True))


@pytest.mark.parametrize("network", controls.SHORTCUTS)
def test_the_curve_through_layers_is_that_of_autograd(network):
    opened = case(RNNSpec(6, 6, dtype="float64"), 12, network=network)
    found = controls.through_layers(network, opened)
    for seed in range(2):
        random = [np.random.default_rng([seed, 6])]
        layers = [controls._linear(random, 6, 6) for _ in range(12)]
        h = torch.from_numpy(inits.inputs(opened, seed)[:1])
        outputs = []
        for each in layers:
            h = controls.layer(network, h, each).requires_grad_()
            outputs.append(h)
        grads = torch.autograd.grad(h, outputs, torch.from_numpy(inits.readout(opened, seed))[None])
        expected = [float(torch.linalg.vector_norm(grad, dim=-1).log().mean()) for grad in reversed(grads)]
        assert found[seed].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("network", "shortcut"), [("residual", 1.0), ("residual_0.9", 0.9), ("residual_halved", 0.5)])
def test_a_shortcut_alone_decays_by_the_log_of_its_scale(network, shortcut, monkeypatch):
    opened = case(RNNSpec(6, 6, dtype="float64"), 12, network=network)
    monkeypatch.setattr(
        controls,
        "_linear",
        lambda _, rows, columns: (torch.zeros(2, rows, columns).double(), torch.zeros(2, 1, columns).double()),
    )
    found = controls.through_layers(network, opened)
    assert torch.allclose(found, np.log(shortcut) * torch.arange(12.0).double().expand(2, 12), atol=1e-12)
    measured = {each.metric: each.samples for each in controls.measure(opened)}
    assert measured["shortcut"] == (shortcut,) and measured["decay"] == pytest.approx([np.log(shortcut)] * 2, abs=1e-6)


def test_a_transformer_sees_the_past_and_not_the_future():
    randoms = [np.random.default_rng(seed) for seed in range(2)]
    shapes = [(3, 8), *[(8, 24), (8, 8), (8, 32), (32, 8)] * controls.BLOCKS]
    layers = [controls._linear(randoms, *shape) for shape in shapes]
    x = torch.randn(2, 1, 7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = controls.transformer(x, layers)
    (grad,) = torch.autograd.grad(y[1, 0, 4, 0], x)
    assert not grad[0].any() and not grad[1, 0, 5:].any() and (grad[1, 0, :5].abs().sum(-1) > 0).all()
    alone = controls.transformer(x[1:], [(weight[1:], bias[1:]) for weight, bias in layers])
    assert torch.allclose(alone[0], y[1], atol=1e-12)


def test_an_unknown_control_names_the_choices():
    with pytest.raises(UnknownName, match="no control 'mlp'; choose from plain, residual"):
        list(controls.measure(case(RNNSpec(6, 6), 12, network="mlp")))


def test_training_learns_recall_and_refuses_too_long_a_lag():
    spec = LSTMSpec(10, 8)
    measured = {each.metric: each for each in learning.measure_training_curves(case(spec, 12, lag=2, updates=150, rate=1e-2))}
    assert min(measured["accuracy"].samples) > 0.9 and next(iter(measured)) == "accuracy"
    assert {"log_gradient_after_0", "log_gradient_after_38", "log_gradient_after_150"} <= set(measured)
    with pytest.raises(InvalidCase, match="lag 12 lies beyond the 12 steps"):
        list(learning.measure_training_curves(case(spec, 12, lag=12, updates=1, rate=1e-2)))


def test_before_training_the_curve_is_that_of_the_initialisation():
    opened = case(LSTMSpec(10, 8), 12, lag=2, updates=4, rate=0.0)
    measured = {each.metric: each for each in learning.measure_training_curves(opened)}
    assert measured["log_gradient_after_0"].samples == measured["log_gradient_after_4"].samples
    moved = {each.metric: each for each in learning.measure_training_curves(case(opened.spec, 12, lag=2, updates=4, rate=1e-2))}
    assert moved["log_gradient_after_0"].samples == measured["log_gradient_after_0"].samples
    assert moved["log_gradient_after_4"].samples != measured["log_gradient_after_4"].samples


@pytest.mark.parametrize("backend", ["numpy", "torch", "torch_loop"])
def test_states_through_a_backend_are_those_of_the_sweep(backend):
    """Also with gates so far open or shut that their own slopes are next to nothing, and over a cut between segments."""
    for init in ("pytorch", "forget:5"):
        opened = case(LSTMSpec(3, 6, dtype="float64"), 45, seeds=1, init=init)
        wanted = {each.metric: np.array(each.samples) for each in attenuation.measure_attenuation(opened)}
        found = {each.metric: np.array(each.samples) for each in segments.measure(backend, opened)}
        for name in ("log_hidden", "log_cell", "log_input"):
            assert found[name] == pytest.approx(wanted[name], abs=2e-5, rel=1e-6)  # stored with seven digits


def test_our_kernels_come_through_this_probe_by_their_emulation(monkeypatch):
    """The source that a GPU would run, on a CPU; over segments, since 40 steps are more than one."""
    monkeypatch.setattr(backends, "__path__", [*backends.__path__, str(EMULATED_FOLDER)])
    opened = case(LSTMSpec(3, 6), 40, seeds=1)
    wanted = {each.metric: np.array(each.samples) for each in attenuation.measure_attenuation(opened)}
    found = {each.metric: np.array(each.samples) for each in segments.measure(EMULATED_BACKEND, opened)}
    for name in ("log_input", "log_hidden", "log_cell"):
        assert found[name] == pytest.approx(wanted[name], abs=1e-4)


def test_segments_are_short_enough_for_float16(monkeypatch):
    """In the segments of single precision the gradient underflows on the way back."""
    opened = case(RNNSpec(3, 6, dtype="float16"), 64, seeds=1)
    wanted = {each.metric: np.array(each.samples) for each in attenuation.measure_attenuation(opened)}["log_input"]
    found = next(each for each in segments.measure("torch", opened) if each.metric == "log_input")
    assert not found.notes and np.array(found.samples) == pytest.approx(wanted, abs=0.02)
    monkeypatch.setattr(segments, "SHORT_SEGMENT_STEPS", segments.SEGMENT_STEPS)
    found = next(each for each in segments.measure("torch", opened) if each.metric == "log_input")
    assert found.notes or np.abs(np.array(found.samples) - wanted).max() > 0.05


def test_a_wrong_recurrent_gradient_is_found(monkeypatch):
    opened = case(LSTMSpec(3, 6, dtype="float64"), 20, seeds=1)
    right = {each.metric: np.array(each.samples) for each in segments.measure("numpy", opened)}
    module = impls.get("numpy")
    load = module.load

    class Slightly:
        def __init__(self, loaded):
            self.loaded = loaded

        def __getattr__(self, name):
            return getattr(self.loaded, name)

        def gradients(self):
            found = self.loaded.gradients()
            return found | {"x": found["x"] * 1.01}

    monkeypatch.setattr(module, "load", lambda *given: Slightly(load(*given)))
    wrong = {each.metric: np.array(each.samples) for each in segments.measure("numpy", opened)}
    assert abs(wrong["log_hidden"] - right["log_hidden"])[1:].min() > 5e-3


@pytest.mark.parametrize("kind", [LSTMSpec, GRUSpec, RNNSpec])
@pytest.mark.parametrize("layers", [1, 2])
def test_no_later_step_leaks_through_the_reference(kind, layers):
    """The whole matrix of ∂y_t/∂x_s: exactly zero for s > t in a causal network, and nowhere zero in a bidirectional one."""
    for bidirectional in (False, True):
        spec = kind(2, 3, num_layers=layers, bidirectional=bidirectional, dtype="float64")
        params, x = inits.params(spec, "pytorch", 0), np.random.default_rng(1).standard_normal((6, 1, 2))
        matrix = np.empty((6, 6))
        for t in range(6):
            of_y = np.zeros((6, 1, spec.output_size))
            of_y[t] = 1.0
            loaded = impls.get("numpy").load(spec, params, Batch(x, grad_y=of_y))
            loaded.forward_backward()
            matrix[t] = np.abs(loaded.gradients()["x"]).sum((1, 2))
        later = np.triu(np.ones((6, 6), bool), 1)
        assert (matrix[later] != 0).all() if bidirectional else not matrix[later].any()
        assert (matrix[~later] != 0).all()


@pytest.mark.parametrize("kind", [LSTMSpec, GRUSpec, RNNSpec])
def test_many_tangents_at_once_are_each_of_them(kind):
    path, _ = inits.path(case(kind(3, 5, dtype="float64"), 7))
    many = tuple(torch.randn(2, 4, 2, 2, 5, dtype=torch.float64) for _ in range(path.parts))
    for found, alone in ((path.jvp(3, many), path.jvp), (path.vjp(3, many)[2], lambda t, each: path.vjp(t, each)[2])):
        for i, j in ((0, 0), (1, 3)):
            wanted = alone(3, tuple(part[i, j] for part in many))
            for part, each in zip(found, wanted, strict=True):
                assert torch.allclose(part[i, j], each, atol=1e-13)


def test_the_exponents_are_those_of_autograds_jacobians():
    """The product of Jacobians of `torch.nn.LSTMCell` over (h, c), QR at every step."""

    opened = case(LSTMSpec(2, 3, dtype="float64"), 40, batch=1, seeds=1)
    path, _ = inits.path(opened)
    cell = torch.nn.LSTMCell(2, 3, dtype=torch.float64)
    cell.load_state_dict(
        {
            name.removesuffix("_l0"): torch.from_numpy(value)
            for name, value in inits.weights(opened.spec, "pytorch", 1)[0].items()
        }
    )
    state, x = torch.zeros(6, dtype=torch.float64), torch.from_numpy(inits.inputs(opened, 0))
    total, basis = torch.zeros(6, dtype=torch.float64), torch.eye(6, dtype=torch.float64)
    for t in range(40):

        def step(both: torch.Tensor, t: int = t) -> torch.Tensor:
            return torch.cat(cell(x[t], (both[None, :3], both[None, 3:])), -1)[0]

        jacobian = torch.autograd.functional.jacobian(step, state)
        assert isinstance(jacobian, torch.Tensor)
        basis, stretched = torch.linalg.qr(jacobian @ basis)
        total = total + stretched.diagonal().abs().log() * (t >= 8)
        state = step(state).detach()
    assert float(attenuation.lyapunov_exponents(path, 6).sum()) == pytest.approx(float(total.sum() / 32), abs=1e-8)
    largest = float(attenuation.lyapunov_exponents(path, 1))
    assert largest == pytest.approx(float(total[0] / 32), abs=0.05)  # other first directions
