"""Claim j: what descends from the LSTM is an LSTM with parts removed, to less than a millionth."""

from __future__ import annotations

import torch
from torch import Tensor

from impls.backends._torch_models import minlstm, scan, ssm

STEPS, BATCH, WIDTH, INPUTS, LIMIT = 50, 3, 8, 5, 1e-6


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stripped_lstm(z: Tensor, recurrent: Tensor) -> Tensor:
    """An LSTM's cell states, its gates i, f normalised to add up to 1, its candidate linear; `recurrent` [3H, H] stands for
    the weights from the state, which a minLSTM has not."""
    c, states = torch.zeros(BATCH, WIDTH, dtype=z.dtype), []
    for at_step in z:
        i, f, g = (at_step + c @ recurrent.T).chunk(3, dim=-1)
        i, f = i.sigmoid(), f.sigmoid()
        c = f / (i + f) * c + i / (i + f) * g
        states.append(c)
    return torch.stack(states)


def minlstm_states(z: Tensor) -> Tensor:
    i, f, g = z.chunk(3, dim=-1)
    return scan.parallel(*minlstm.recurrence(f, i, g), torch.zeros(BATCH, WIDTH, dtype=z.dtype))


def test_minlstm_is_an_lstm_without_recurrent_weights() -> None:
    """Feng et al. 2024, section 3.2."""
    z = drawn(STEPS, BATCH, 3 * WIDTH)
    assert (minlstm_states(z) - stripped_lstm(z, torch.zeros(3 * WIDTH, WIDTH, dtype=z.dtype))).abs().max() < LIMIT
    # And with them it is not: the identity can fail.
    assert (minlstm_states(z) - stripped_lstm(z, 0.1 * drawn(3 * WIDTH, WIDTH, seed=1))).abs().max() > 1e-2


def gated(x: Tensor, z: Tensor) -> Tensor:
    """h' = (1 − g)·h + g·x with g = σ(z): a leaky cell with one gate for forgetting and writing."""
    h, states = torch.zeros_like(x[0]), []
    for now, gate in zip(x, z.sigmoid(), strict=True):
        h = (1 - gate) * h + gate * now
        states.append(h)
    return torch.stack(states)


def selective(x: Tensor, step: Tensor) -> Tensor:
    """The state-space recurrence with N = 1, A = −1, B = 1."""
    a, b = ssm.recurrence(x, step, -torch.ones(1, WIDTH, dtype=x.dtype), torch.ones(*x.shape[:2], 1, dtype=x.dtype))
    return scan.parallel(a, b, torch.zeros_like(a[0])).squeeze(-2)


def test_a_selective_state_space_of_one_state_is_a_gate() -> None:
    """Gu & Dao 2023, theorem 1: Δ = softplus(z) makes exp(ΔA) = 1 − σ(z), and the hold σ(z)."""
    x, z = drawn(STEPS, BATCH, WIDTH), drawn(STEPS, BATCH, WIDTH, seed=1)
    assert (selective(x, torch.nn.functional.softplus(z)) - gated(x, z)).abs().max() < LIMIT
    assert (selective(x, z.exp()) - gated(x, z)).abs().max() > 1e-2


def slstm_cells(z: Tensor, recurrent: Tensor, exponential: bool) -> Tensor:
    """c of an sLSTM (Beck et al. 2024, section 2.2): exponential input gate and normaliser n; or neither: σ(i), and n ≡ 1."""
    h = c = torch.zeros(BATCH, WIDTH, dtype=z.dtype)
    n, states = torch.ones_like(c), []
    for at_step in z:
        i, f, g, o = (at_step + h @ recurrent.T).chunk(4, dim=-1)
        write = i.exp() if exponential else i.sigmoid()
        c, n = f.sigmoid() * c + write * g.tanh(), f.sigmoid() * n + write if exponential else n
        h = o.sigmoid() * ((c / n) if exponential else c.tanh())
        states.append(h)
    return torch.stack(states)


def test_slstm_without_its_extras_is_an_lstm() -> None:
    lstm = torch.nn.LSTM(INPUTS, WIDTH, dtype=torch.float64)
    x = drawn(STEPS, BATCH, INPUTS)
    with torch.no_grad():
        expected, _ = lstm(x)
        z = x @ lstm.weight_ih_l0.T + lstm.bias_ih_l0 + lstm.bias_hh_l0
        assert (slstm_cells(z, lstm.weight_hh_l0, exponential=False) - expected).abs().max() < LIMIT
        assert (slstm_cells(z, lstm.weight_hh_l0, exponential=True) - expected).abs().max() > 1e-2
