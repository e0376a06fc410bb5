"""The cell path: that it passes a gradient by f alone, and what never leaves it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from bench.harness.case import Case, InvalidCase
from bench.studies.gradients import cells, inits
from bench.studies.gradients.cells import LSTMPath, State
from impls import Params
from results.metrics import HOP_SHARE
from results.record import Measurement

# Does the cell pass a gradient multiplied by f and by nothing else? By autograd through another implementation of the cell.


def errors(path: LSTMPath, case: Case, times: tuple[int, ...]) -> np.ndarray:
    """[S, len(times)]: the largest of |∂c_t/∂c_{t−1} − diag f_t| with h_{t−1} held, and of |f_t − the path's own forget gate|.

    The derivative is autograd's through `torch.nn.LSTMCell` with the seed's weights, every unit with every other; f_t is
    σ(W_f x_t + U_f h_{t−1} + b_f) from the same weights. The path takes part in neither, so that a wrong gate in it is found.
    """
    each = inits.weights(case.spec, str(case.factor("init")), int(case.factor("seeds")))
    found = []
    for seed, params in enumerate(each):
        own = {t: path.forget(t)[seed].cpu() for t in times}
        found.append([_error(*at, params, own[t]) for t, at in _states(params, case, seed, times).items()])
    return np.array(found)


def _states(
    params: Params, case: Case, seed: int, times: tuple[int, ...]
) -> dict[int, tuple[torch.nn.LSTMCell, Tensor, Tensor, Tensor]]:
    """t → the cell, x_t [B, I], and h and c before the step [B, H], walked by `torch.nn.LSTMCell` itself."""
    cell = torch.nn.LSTMCell(case.spec.input_size, case.spec.hidden_size, dtype=torch.float64)
    cell.load_state_dict({name.removesuffix("_l0"): torch.from_numpy(value) for name, value in params.items()})
    x = torch.from_numpy(inits.inputs(case, seed))
    h = c = torch.zeros(case.batch, case.spec.hidden_size, dtype=torch.float64)
    kept = {}
    with torch.no_grad():
        for t in range(max(times) + 1):
            if t in times:
                kept[t] = (cell, x[t], h, c)
            h, c = cell(x[t], (h, c))
    return kept


def _error(cell: torch.nn.LSTMCell, x: Tensor, h: Tensor, c: Tensor, params: Params, own: Tensor) -> float:
    """own: the path's forget gate [B, H]."""
    before = c.clone().requires_grad_()
    after = cell(x, (h, before))[1]
    rows = [torch.autograd.grad(after[:, unit].sum(), before, retain_graph=True)[0] for unit in range(after.shape[1])]
    jacobian = torch.stack(rows, 1)  # [B, of unit, by unit]
    weight, recurrent, b_x, b_h = (
        torch.from_numpy(np.split(params[f"{name}_l0"], 4)[1]) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )  # gates i, f, g, o
    f = torch.sigmoid(x @ weight.T + h @ recurrent.T + b_x + b_h)
    return max(float((jacobian - torch.diag_embed(f)).abs().max()), float((own - f).abs().max()))


# The constant-error carousel: how much of a gradient never left the cell, exactly, by number of departures.
#
# Every path of the gradient from c_T back to c_{T−k} leaves the cell some m times, through h. Multiplying each such step by α
# makes the gradient a polynomial in α, g(α) = Σ_m α^m g_m of degree k at most; its coefficients are its discrete Fourier
# transform over the roots of unity. Nothing is truncated or sampled: one sweep with M = k + 1 values of α gives all of them,
# and since g is real, half of them do.

HOP_LAGS = (1, 2, 3, 5, 7, 10, 15, 20, 25, 35, 50)
HEADLINE_LAG = 10
ORDERS = 24  # departures listed; what has more is summed up in one last share


def measure(case: Case) -> Iterator[Measurement]:
    """`never_left` first: the share of no departure at lag 10, or the longest below it, by seed.

    `hop_share_<lag>`: shares of departures 0 … and the rest, by seed. `timescale` by unit, by seed. `identity_error` at the
    first, the middle and the last step, by seed (see `identity`).
    """
    path, cotangent = inits.path(case)
    if not isinstance(path, LSTMPath):
        raise InvalidCase(f"a {case.spec.cell} has no cell path; ask for an lstm")
    shares = hop_shares(path, cotangent, [lag for lag in HOP_LAGS if lag < case.steps])
    headline = max(lag for lag in shares if lag <= HEADLINE_LAG)
    yield cells.measurement("never_left", "1", inits.by_seed(shares[headline][:1]))
    for lag, each in shares.items():
        listed = torch.cat((each[:ORDERS], each[ORDERS:].sum(0, keepdim=True)))
        yield cells.measurement(HOP_SHARE.name(lag), "1", inits.by_seed(listed))
    forget = torch.stack([path.forget(t) for t in range(path.steps)])
    # τ = −1 / E ln f: the steps after which a lone cell's gradient has fallen to 1/e.
    timescale = -1.0 / torch.log(forget).mean((0, 2))
    yield cells.measurement("timescale", "step", list(timescale.cpu().numpy()))
    times = (0, path.steps // 2, path.steps - 1)
    yield cells.measurement("identity_error", "1", list(errors(path, case, times)))


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
            _, _, (h, c) = path.vjp(t, (h, c))
            h = h * alpha
            # Renormalised for all α alike, so that the shares stay what they are.
            size = torch.linalg.vector_norm(torch.stack((h, c)), dim=(0, 1, 4))[None, :, :, None]
            h, c = h / size, c / size
    finally:
        path.back = back
    return found
