"""The constant-error carousel: how much of a gradient never left the cell, exactly, by number of departures.

Every path of the gradient from c_T back to c_{T−k} leaves the cell some m times, through h. Multiplying each such step by α
makes the gradient a polynomial in α, g(α) = Σ_m α^m g_m of degree k at most; its coefficients are its discrete Fourier
transform over the roots of unity. Nothing is truncated or sampled: one sweep with M = k + 1 values of α gives all of them,
and since g is real, half of them do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from bench.case import Case, InvalidCase
from bench.gradients import curves, setup
from bench.gradients.cells import LSTMPath, State
from results.record import Measurement

HOP_LAGS = (1, 2, 3, 5, 7, 10, 15, 20, 25, 35, 50)
ORDERS = 24  # departures listed; what has more is summed up in one last share


def measure(case: Case) -> Iterator[Measurement]:
    """`hop_share_<lag>`: shares of departures 0 … and the rest, by seed. `timescale` and `write` by unit, by seed."""
    path, cotangent = setup.path(case)
    if not isinstance(path, LSTMPath):
        raise InvalidCase(f"a {case.spec.cell} has no cell path; ask for an lstm")
    error = tuple(identity_error(path, t) for t in (0, path.steps // 2, path.steps - 1))
    yield Measurement("identity_error", "1", error)
    lags = [lag for lag in HOP_LAGS if lag < case.steps]
    for lag, shares in hop_shares(path, cotangent, lags).items():
        listed = torch.cat((shares[:ORDERS], shares[ORDERS:].sum(0, keepdim=True)))
        yield curves.measurement(f"hop_share_{lag}", "1", setup.by_seed(listed))
    forget = torch.stack([path.forget(t) for t in range(path.steps)])
    write = torch.stack([path.write(t) for t in range(path.steps)])
    # τ = −1 / E ln f: the steps after which a lone cell's gradient has fallen to 1/e.
    timescale = -1.0 / torch.log(forget).mean((0, 2))
    yield curves.measurement("timescale", "step", list(timescale.cpu().numpy()))
    yield curves.measurement("write", "1", list(write.mean((0, 2)).cpu().numpy()))


def hop_shares(path: LSTMPath, cotangent: State, lags: list[int]) -> dict[int, Tensor]:
    """lag → [lag + 1 or more, S]: g_m projected on the full gradient, over its squared norm; summed over m it is 1.

    Signed: departures that cancel have negative shares. Mean over a seed's sequences.
    """
    roots = max(lags) + 1
    half = roots // 2 + 1  # the others are their conjugates
    angles = 2 * math.pi * torch.arange(half, dtype=torch.float64, device=cotangent[0].device) / roots
    alpha = torch.polar(torch.ones_like(angles), angles)[:, None, None, None]
    h, c = (part.to(torch.complex128).expand(half, *part.shape) for part in cotangent)
    back = path.back
    path.back = back.to(torch.complex128)
    found: dict[int, Tensor] = {}
    try:
        for lag in range(max(lags) + 1):
            t = path.steps - 1 - lag
            if lag in lags:
                total = path.total_cell(t, (h, c))
                orders = torch.fft.irfft(total.conj(), n=roots, dim=0)
                full = total[0].real  # α = 1
                shares = (orders * full).sum(-1) / full.square().sum(-1)
                found[lag] = shares[: lag + 1].mean(-1)
            _, _, (h, c) = path.pull(t, (h, c))
            h = h * alpha
            # Renormalised for all α alike, so that the shares stay what they are.
            size = torch.linalg.vector_norm(torch.stack((h, c)), dim=(0, 1, 4))[None, :, :, None]
            h, c = h / size, c / size
    finally:
        path.back = back
    return found


def identity_error(path: LSTMPath, t: int) -> float:
    """Largest |∂c_t/∂c_{t−1} − diag f_t| with h_{t−1} held, of the network's own one-step tangents, unit by unit."""
    zero = path.zeros(path.hidden[t].shape[1])[0]
    hidden = path.weights.hidden
    units = torch.eye(hidden, dtype=zero.dtype, device=zero.device)[:, None, None, :].expand(hidden, *zero.shape)
    _, cell = path.push(t, (torch.zeros_like(units), units))
    return float((cell - units * path.forget(t)).abs().max())
