"""Claim j: what descends from the LSTM is an LSTM with parts removed. Each identity as the largest difference of its two sides,
beside the same difference with the parts left in: an identity that could not fail would say nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from bench.harness.case import Case
from impls.frameworks.torch import models as torch_models
from results.record import Measurement

Difference = Callable[[Case, int], tuple[float, float]]


def measure(case: Case) -> Iterator[Measurement]:
    """One sample a seed, of the case's factors `identity` and `seeds`, in float64.

    identity_error     largest |one side − the other| of all states
    identity_contrast  the same with the parts that the identity takes away
    """
    both = IDENTITIES[str(case.factor("identity"))]
    errors, contrasts = zip(*(both(case, seed) for seed in range(int(case.factor("seeds")))), strict=True)
    yield Measurement("identity_error", "1", errors)
    yield Measurement("identity_contrast", "1", contrasts)


def _drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def of_minlstm(case: Case, seed: int) -> tuple[float, float]:
    """Feng et al. 2024, section 3.2: without recurrent weights, gates i, f normalised to add up to 1, a linear candidate."""
    width = case.spec.hidden_size
    z = _drawn(2 * seed, case.steps, case.batch, 3 * width)
    weights = 0.1 * _drawn(2 * seed + 1, 3 * width, width)
    i, f, g = z.chunk(3, dim=-1)
    found = torch_models.parallel(*torch_models.minlstm_recurrence(f, i, g), torch.zeros_like(g[0]))
    return _apart(found, stripped_lstm(z, 0 * weights)), _apart(found, stripped_lstm(z, weights))


def stripped_lstm(z: Tensor, recurrent: Tensor) -> Tensor:
    """An LSTM's cell states from its gates before their sigmoids z [T, B, 3H] and weights from the state [3H, H]."""
    c, states = torch.zeros_like(z[0, :, : recurrent.shape[1]]), []
    for at_step in z:
        i, f, g = (at_step + c @ recurrent.T).chunk(3, dim=-1)
        i, f = i.sigmoid(), f.sigmoid()
        c = f / (i + f) * c + i / (i + f) * g
        states.append(c)
    return torch.stack(states)


def of_state_space(case: Case, seed: int) -> tuple[float, float]:
    """Gu & Dao 2023, theorem 1: with N = 1, A = −1, B = 1, Δ = softplus(z) makes exp(ΔA) = 1 − σ(z), and the hold σ(z);
    another Δ does not."""
    x, z = (_drawn(2 * seed + more, case.steps, case.batch, case.spec.hidden_size) for more in (0, 1))
    right = gated(x, z)
    return _apart(selective(x, torch.nn.functional.softplus(z)), right), _apart(selective(x, z.exp()), right)


def gated(x: Tensor, z: Tensor) -> Tensor:
    """h' = (1 − g)·h + g·x with g = σ(z): a leaky cell with one gate for forgetting and writing."""
    h, states = torch.zeros_like(x[0]), []
    for now, gate in zip(x, z.sigmoid(), strict=True):
        h = (1 - gate) * h + gate * now
        states.append(h)
    return torch.stack(states)


def selective(x: Tensor, step: Tensor) -> Tensor:
    """The state-space recurrence of our models with one state a channel."""
    a, b = torch_models.ssm_recurrence(x, step, -x.new_ones(1, x.shape[-1]), x.new_ones(*x.shape[:2], 1))
    return torch_models.parallel(a, b, torch.zeros_like(a[0])).squeeze(-2)


def of_slstm(case: Case, seed: int) -> tuple[float, float]:
    """Beck et al. 2024, section 2.2: without its exponential gate and normaliser, `torch.nn.LSTM`."""
    lstm = torch.nn.LSTM(case.spec.input_size, case.spec.hidden_size, dtype=torch.float64)
    x = _drawn(2 * seed, case.steps, case.batch, case.spec.input_size)
    with torch.no_grad():
        weights = dict(lstm.named_parameters())
        for number, weight in enumerate(weights.values()):
            weight.copy_(_drawn(1000 * seed + number, *weight.shape) * case.spec.hidden_size**-0.5)
        expected, _ = lstm(x)
        z = x @ weights["weight_ih_l0"].T + weights["bias_ih_l0"] + weights["bias_hh_l0"]
        plain, extras = (slstm(z, weights["weight_hh_l0"], exponential) for exponential in (False, True))
        return _apart(plain, expected), _apart(extras, expected)


def slstm(z: Tensor, recurrent: Tensor, exponential: bool) -> Tensor:
    """h of an sLSTM: exponential input gate and normaliser n; or neither: σ(i), and n ≡ 1."""
    h = c = torch.zeros_like(z[0, :, : recurrent.shape[1]])
    n, states = torch.ones_like(c), []
    for at_step in z:
        i, f, g, o = (at_step + h @ recurrent.T).chunk(4, dim=-1)
        write = i.exp() if exponential else i.sigmoid()
        c, n = f.sigmoid() * c + write * g.tanh(), f.sigmoid() * n + write if exponential else n
        h = o.sigmoid() * ((c / n) if exponential else c.tanh())
        states.append(h)
    return torch.stack(states)


IDENTITIES: dict[str, Difference] = {"minlstm": of_minlstm, "state_space": of_state_space, "slstm": of_slstm}
