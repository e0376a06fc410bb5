"""Closed forms of the sweeps: ∏f, 0.5^k, shares that add up to 1, exponents of a linear system; and agreement with autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.harness.case import Case, InvalidCase
from bench.studies.gradients import attenuation, carousel, cells, inits, segments
from bench.studies.gradients.cells import LSTMPath, RNNPath, Weights, run
from impls import GRUSpec, LSTMSpec, RNNSpec

LSTM = LSTMSpec(3, 6, dtype="float64")


def case(spec=LSTM, steps=40, batch=2, seeds=2, init="pytorch", **more) -> Case:
    return Case(spec, steps, batch, "forward_backward", factors=(("init", init), ("seeds", seeds), *more.items()))


def lstm_path(opened: Case) -> tuple[LSTMPath, tuple[torch.Tensor, ...]]:
    path, cotangent = inits.path(opened)
    assert isinstance(path, LSTMPath)
    return path, cotangent


def test_the_curve_is_that_of_autograd():
    opened = case(steps=30, batch=1, seeds=1)
    path, (u, _) = lstm_path(opened)
    network = torch.nn.LSTM(3, 6, dtype=torch.float64)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in inits.params(LSTM, "pytorch", 0).items()})
    x = torch.from_numpy(inits.inputs(opened, 0)).requires_grad_()
    (network(x)[0][-1] * u[0]).sum().backward()
    assert x.grad is not None
    expected = torch.log(torch.linalg.vector_norm(x.grad, dim=-1))[:, 0].flip(0)
    found = attenuation.sweep(path, (u, torch.zeros_like(u)), np.arange(30))["log_input"][:, 0]
    assert torch.allclose(found, expected, atol=1e-11)


def test_the_cell_path_is_the_product_of_forget_gates():
    path, (u, c) = lstm_path(case(batch=1, seeds=1))
    found = attenuation.sweep(path, (u, c), np.arange(20))["log_cell_only"][:, 0]
    grad = path.total_cell(39, (u, c))
    for lag in range(20):
        assert float(found[lag]) == pytest.approx(float(torch.log(torch.linalg.vector_norm(grad))), abs=1e-12)
        grad = grad * path.forget(39 - lag)


def test_half_open_gates_halve_the_cell_path_at_every_step():
    """Weights of zero, no initialisation anybody uses: σ(0) = ½ at every step, and 0.5^k exactly."""
    weights = {name: np.zeros(shape) for name, shape in LSTM.parameter_shapes().items()}
    path = run(LSTM, "pytorch", [weights], torch.zeros(30, 1, 1, 3, dtype=torch.float64))
    u = torch.ones(1, 1, 6, dtype=torch.float64)
    found = attenuation.sweep(path, (u, torch.zeros_like(u)), np.arange(25))["log_cell_only"][:, 0]
    assert torch.allclose(found - found[0], -np.log(2.0) * torch.arange(25, dtype=torch.float64), atol=1e-12)


def test_by_default_the_cell_path_about_halves_a_step():
    """Gates spread about ½. ‖∏f ⊙ g‖ lies between the products of the smallest and of the largest f of each step, and falls
    by less than ½ a step, for what is left belongs to the cells that forget least; a cell by itself halves on average."""
    opened = case(LSTMSpec(32, 64, dtype="float64"), steps=41, batch=1, seeds=5)
    path, cotangent = lstm_path(opened)
    found = attenuation.sweep(path, cotangent, np.arange(41))["log_cell_only"]
    forget = torch.stack([path.forget(t) for t in range(40, 0, -1)])  # in the order of the lags
    assert float(forget.mean()) == pytest.approx(0.5, abs=0.02) and float(forget.std()) > 0.1
    fallen = found[1:] - found[:1]
    smallest, largest = (part.log().cumsum(0)[..., 0] for part in (forget.amin(-1), forget.amax(-1)))
    assert (fallen > smallest).all() and (fallen < largest).all()
    # Jensen: the norm's rate is above E ln f, which is ln ½ less half the relative variance of f.
    assert -np.log(2.0) < float(fallen[39].mean()) / 40 < float(forget.amax(-1).log().mean())
    assert float(forget.log().mean()) == pytest.approx(-np.log(2.0), abs=0.1)


def test_nothing_underflows_at_any_lag():
    opened = case(RNNSpec(3, 6, dtype="float64"), steps=2048, batch=1, seeds=2)
    measured = {each.metric: each for each in attenuation.measure_attenuation(opened)}
    last = measured["log_gradient"].samples[-1]
    assert last < np.log(5e-324) and measured["log_gradient"].notes == ()


def test_hop_shares_add_up_to_one():
    path, cotangent = lstm_path(case())
    lags = [1, 5, 12]
    shares = carousel.hop_shares(path, cotangent, lags)
    grads = cotangent
    alone = path.total_cell(39, cotangent)
    for lag in range(13):
        total = path.total_cell(39 - lag, grads)
        if lag in lags:
            assert shares[lag].sum(0).numpy() == pytest.approx(np.ones(2), abs=1e-10)
            assert len(shares[lag]) == lag + 1
            expected = ((alone * total).sum(-1) / total.square().sum(-1)).mean(-1)
            assert torch.allclose(shares[lag][0], expected, atol=1e-10)
        grads, alone = path.vjp(39 - lag, grads)[2], alone * path.forget(39 - lag)


def test_with_h_held_only_the_forget_gate_scales_a_gradient():
    opened = case(init="forget:1")
    path, _ = lstm_path(opened)
    assert carousel.errors(path, opened, (0, 20, 39)).max() <= 1e-12
    measured = {each.metric: each for each in carousel.measure(opened)}
    assert len(measured["identity_error"].samples) == 6 and next(iter(measured)) == "never_left"
    assert measured["never_left"].samples[0] == measured["hop_share_10"].samples[0]


def test_a_path_with_another_forget_gate_is_found():
    opened = case(init="forget:1")
    for t, seed, unit in ((0, 0, 0), (20, 1, 5), (39, 1, 2)):
        path, _ = lstm_path(opened)
        path.saved[t][5][seed, 0, unit] += 1e-9
        errors = carousel.errors(path, opened, (0, 20, 39))
        assert errors.max() >= 0.9e-9 and (errors > 1e-12).sum() == 1


def test_a_cell_that_passes_more_than_the_forget_gate_is_found(monkeypatch):
    """As if c_{t−1} also went another way: a peephole of a millionth."""
    forward = torch.nn.LSTMCell.forward

    def leaking(cell, x, state):
        h, c = forward(cell, x, state)
        return h, c + 1e-6 * state[1].flip(-1)

    opened = case()
    path, _ = lstm_path(opened)
    monkeypatch.setattr(torch.nn.LSTMCell, "forward", leaking)
    assert carousel.errors(path, opened, (0,)).max() > 0.9e-6


def test_the_exponents_of_a_linear_system_are_its_eigenvalues():
    """A tanh network at rest is linear: h' = U h."""
    values = np.array([1.1, 0.8, 0.5, 0.3])
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    recurrent = torch.from_numpy(basis @ np.diag(values) @ basis.T)[None]
    zero = torch.zeros(1, 1, 4, dtype=torch.float64)
    path = RNNPath(
        Weights(torch.zeros(1, 2, 4, dtype=torch.float64), recurrent, zero, zero),
        torch.zeros(300, 1, 1, 2, dtype=torch.float64),
    )
    assert attenuation.lyapunov_exponents(path, 4)[0].numpy() == pytest.approx(np.log(values), abs=1e-6)


def test_the_exponents_sum_is_that_of_the_determinants():
    path, _ = lstm_path(case(steps=120, batch=1, seeds=1))
    found = attenuation.lyapunov_exponents(path, 99)
    assert found.shape == (1, 12)
    determinants = []
    for t in range(24, 120):
        units = torch.eye(12, dtype=torch.float64)[:, None, None]
        columns = torch.cat(path.jvp(t, units.chunk(2, -1)), -1)[:, 0, 0]
        determinants.append(float(torch.linalg.slogdet(columns)[1]))
    assert float(found.sum()) == pytest.approx(np.mean(determinants), rel=1e-8)


def test_the_hidden_block_alone_misses_the_memory():
    path, _ = lstm_path(case(LSTMSpec(3, 16, dtype="float64"), steps=300, batch=1, init="forget:3"))
    whole, block = attenuation.lyapunov_exponents(path, 1), attenuation.lyapunov_exponents(path, 1, hidden_block=True)
    assert float(whole.mean()) > -0.1 and float(block.mean()) < -1


@pytest.mark.parametrize(
    "spec",
    [LSTM, GRUSpec(3, 6, dtype="float64"), RNNSpec(3, 6, dtype="float64"), LSTMSpec(3, 6)],
    ids=["lstm", "gru", "rnn", "lstm32"],
)
def test_a_backend_in_segments_agrees_with_the_sweep_over_states(spec):
    opened = case(spec, steps=75, seeds=1)
    wanted = {each.metric: each for each in attenuation.measure_attenuation(opened)}["log_input"].samples
    measured = {each.metric: each.samples for each in segments.measure("numpy", opened)}
    assert next(iter(measured)) == "decay"
    found = measured["log_input"]
    tolerance = 2e-6 if spec.dtype == "float64" else 1e-4
    assert np.array(found) == pytest.approx(np.array(wanted), abs=tolerance, rel=tolerance)


def test_no_gradient_leaks_from_later_steps_in_one_direction():
    for bidirectional, leaks in ((False, False), (True, True)):
        spec = LSTMSpec(3, 6, bidirectional=bidirectional, dtype="float64")
        network = torch.nn.LSTM(3, 6, bidirectional=bidirectional, dtype=torch.float64)
        network.load_state_dict({name: torch.from_numpy(value) for name, value in inits.params(spec, "pytorch", 0).items()})
        x = torch.randn(9, 1, 3, dtype=torch.float64).requires_grad_()
        y = network(x)[0]
        (grad,) = torch.autograd.grad(y[4].sum(), x, retain_graph=True)
        assert bool((grad[5:] != 0).any()) is leaks
        (grad,) = torch.autograd.grad(y[4, :, :6].sum(), x)  # the direction that runs forward
        assert not (grad[5:] != 0).any()


def test_a_loss_cut_off_after_all_steps_is_the_whole_loss():
    path, cotangent = lstm_path(case())
    cut = attenuation.truncations(40)
    found = attenuation.truncated_cosine(path, cotangent, cut)
    assert cut[-1] == 40 and found[-1].numpy() == pytest.approx(np.ones(2))


def test_a_gradient_of_zero_names_its_lag_and_seed():
    found = cells.measurement("log_gradient", "nat", [np.array([0.0, -np.inf, 1.0]), np.arange(3.0)], [0, 1, 8])
    assert found.blocks == (1, 3) and found.notes == ("log_gradient is exactly zero at lag 1 for seed 0",)
    found = cells.measurement("log_gradient", "nat", [np.array([0.0, 1.0, np.nan])], [0, 1, 8])
    assert found.notes == ("log_gradient is not finite at lag 8 for seed 0",)


def test_a_curves_slope_is_over_the_lags_with_a_gradient():
    lags = np.arange(50)
    assert cells.decay(lags, -0.5 * lags) == -0.5
    assert cells.decay(lags, np.where(lags < 20, -0.5 * lags, -np.inf)) == -0.5
    assert cells.decay(lags[:1], np.zeros(1)) == 0.0 and np.isnan(cells.decay(lags, np.full(50, -np.inf)))


def test_lags_are_dense_then_thinned_and_reach_the_last_step():
    assert inits.lags(10).tolist() == list(range(10))
    lags = inits.lags(2048)
    assert lags[:64].tolist() == list(range(64)) and lags[-1] == 2047 and len(lags) < 160


def test_a_lag_beyond_the_sequence_is_refused():
    inits.require_lag(39, case())
    with pytest.raises(InvalidCase, match="lag 40 lies beyond the 40 steps"):
        inits.require_lag(40, case())


def test_a_cell_without_a_cell_path_has_no_carousel():
    with pytest.raises(InvalidCase, match="no cell path; ask for an lstm"):
        list(carousel.measure(case(RNNSpec(3, 6, dtype="float64"))))
