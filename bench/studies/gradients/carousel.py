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

from bench.harness.case import Case, InvalidCase
from bench.studies.gradients import curves, identity, setup
from bench.studies.gradients.cells import LSTMPath, State
from results.record import Measurement

HOP_LAGS = (1, 2, 3, 5, 7, 10, 15, 20, 25, 35, 50)
HEADLINE_LAG = 10
ORDERS = 24  # departures listed; what has more is summed up in one last share


def measure(case: Case) -> Iterator[Measurement]:
    """`never_left` first: the share of no departure at lag 10, or the longest below it, by seed.

    `hop_share_<lag>`: shares of departures 0 … and the rest, by seed. `timescale` by unit, by seed. `identity_error` at the
    first, the middle and the last step, by seed (see `identity`).
    """
    path, cotangent = setup.path(case)
    if not isinstance(path, LSTMPath):
        raise InvalidCase(f"a {case.spec.cell} has no cell path; ask for an lstm")
    shares = hop_shares(path, cotangent, [lag for lag in HOP_LAGS if lag < case.steps])
    headline = max(lag for lag in shares if lag <= HEADLINE_LAG)
    yield curves.measurement("never_left", "1", setup.by_seed(shares[headline][:1]))
    for lag, each in shares.items():
        listed = torch.cat((each[:ORDERS], each[ORDERS:].sum(0, keepdim=True)))
        yield curves.measurement(f"hop_share_{lag}", "1", setup.by_seed(listed))
    forget = torch.stack([path.forget(t) for t in range(path.steps)])
    # τ = −1 / E ln f: the steps after which a lone cell's gradient has fallen to 1/e.
    timescale = -1.0 / torch.log(forget).mean((0, 2))
    yield curves.measurement("timescale", "step", list(timescale.cpu().numpy()))
    times = (0, path.steps // 2, path.steps - 1)
    yield curves.measurement("identity_error", "1", list(identity.errors(path, case, times)))


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
