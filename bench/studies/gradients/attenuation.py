"""Rates along a trajectory: gradients over the lag, where data types underflow, and Lyapunov exponents."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from bench.harness.case import Case
from bench.studies.gradients import cells, inits
from bench.studies.gradients.cells import LSTMPath, Path, Scaled, State
from results.record import Measurement

# The precision horizon: how far back a gradient is still a number in float16, bfloat16 or float32.
#
# Here nothing is scaled on the way, as in any backward pass: trajectory and sweep are computed in the case's own format, once
# with the loss as it is and once with the loss multiplied by `LOSS_SCALE`, and divided by nothing afterwards.

LOSS_SCALE = 2.0**16  # where PyTorch's GradScaler begins (its documentation: init_scale)


def measure_precision(case: Case) -> Iterator[Measurement]:
    """`lags_not_zero` first: at how many lags anything of dL/ds is other than zero, by seed.

    `log_largest` and `log_largest_scaled`: ln of the largest |element| of dL/ds over units and sequences, by seed, at every
    lag. A seed's curve ends before the lag at which all of it is exactly zero; a note says so.
    """
    path, cotangent = inits.path(case, getattr(torch, case.spec.dtype))
    lags = list(range(case.steps))
    by_scale = {
        name: cells.measurement(
            name, "nat", inits.by_seed(largest(path, tuple(part * scale for part in cotangent)).double().log()), lags
        )
        for name, scale in (("log_largest", 1.0), ("log_largest_scaled", LOSS_SCALE))
    }
    yield Measurement("lags_not_zero", "step", tuple(map(float, by_scale["log_largest"].blocks)))
    yield Measurement("lag", "step", tuple(map(float, lags)))
    yield from by_scale.values()


def largest(path: Path, grads: State) -> Tensor:
    """The largest |element| of the gradient at every lag, [T, S], in the path's own format."""
    found = []
    for t in reversed(range(path.steps)):
        found.append(torch.stack([part.abs().amax((-2, -1)) for part in grads]).amax(0))
        grads = path.vjp(t, grads)[2]
    return torch.stack(found)


# Attenuation curves: the size of a loss's gradient k steps back, for a loss at the last step alone.
#
# One sweep backwards over the trajectory. The cotangent is scaled to unit length after every step and the logarithms of the
# scales are added up, so that nothing underflows at any lag. Sizes are kept as the mean of ln‖·‖ over a seed's sequences:
# gradients are close to log-normal, and a mean of norms would be that of their tail.

UNITS = {"cell_cosine": "1"}  # of the other curves: nat
TRUNCATIONS = 10  # lags at which the truncated gradient is compared with the full one, evenly in the logarithm


def measure_attenuation(case: Case) -> Iterator[Measurement]:
    """`decay` first (nat a step over the last nine tenths of the lags, by seed), then the curves in nats at the kept lags.

    log_gradient   ln‖dL/ds‖, s the whole state       log_input   ln‖dL/dx‖
    log_weight     ln‖the lag's share of dL/dW_hh‖    truncated_cosine  of dL/dW_hh cut off after the lag, with the full one
    LSTM: log_hidden ln‖dL/dh‖, log_cell ln‖dL/dc‖, log_cell_only ln‖∏f ⊙ dL/dc_T‖, cell_cosine between the two.
    """
    path, cotangent = inits.path(case)
    lags = inits.lags(case.steps)
    found = sweep(path, cotangent, lags)
    full = inits.by_seed(found.pop("log_gradient"))
    yield cells.measurement("decay", "nat/step", [np.array([cells.decay(lags, curve)]) for curve in full])
    yield cells.lags_measured(lags)
    yield cells.measurement("log_gradient", "nat", full, lags)
    for name, values in found.items():
        yield cells.measurement(name, UNITS.get(name, "nat"), inits.by_seed(values), lags)
    cut = truncations(case.steps)
    yield Measurement("truncation", "step", tuple(map(float, cut)))
    yield cells.measurement("truncated_cosine", "1", inits.by_seed(truncated_cosine(path, cotangent, cut)), cut)


def sweep(path: Path, cotangent: State, lags: np.ndarray) -> dict[str, Tensor]:
    """The curves of `measure` that come from one pass, each [K, S] for K lags."""
    kept, own, cell = set(lags.tolist()), Scaled(cotangent), None
    columns: dict[str, list[Tensor]] = {}

    def keep(name: str, value: Tensor) -> None:
        columns.setdefault(name, []).append(value.mean(-1))

    for lag in range(int(lags[-1]) + 1):
        t = path.steps - 1 - lag
        grads, log = own.parts, own.log
        total = grads[0]
        if isinstance(path, LSTMPath):
            total = path.total_cell(t, grads)
            cell = cell or Scaled((total * torch.exp(log)[..., None],))
        dx, dh, before = path.vjp(t, grads)
        if lag in kept:
            keep("log_gradient", log)
            keep("log_input", log + _log_norm(dx @ path.weights.w_x.transpose(1, 2)))
            keep("log_weight", log + _log_norm(dh) + _log_norm(path.hidden[t]))
            if isinstance(path, LSTMPath) and cell:
                keep("log_hidden", log + _log_norm(grads[0]))
                keep("log_cell", log + _log_norm(total))
                keep("log_cell_only", cell.log)
                keep("cell_cosine", torch.nn.functional.cosine_similarity(cell.parts[0], total, dim=-1))
        if isinstance(path, LSTMPath) and cell:
            cell.rescale((cell.parts[0] * path.forget(t),))
        own.rescale(before)
    columns["log_weight"] = _without_the_start(columns["log_weight"], lags, path.steps)
    return {name: torch.stack(values) for name, values in columns.items()}


def _without_the_start(values: list[Tensor], lags: np.ndarray, steps: int) -> list[Tensor]:
    """The state before the first step is zero, so its weight has no gradient there; the curve ends one lag earlier."""
    return values[:-1] if lags[-1] == steps - 1 else values


def _log_norm(values: Tensor) -> Tensor:
    return torch.log(torch.linalg.vector_norm(values, dim=-1))


def truncations(steps: int) -> list[int]:
    """Lags after which backpropagation is cut off."""
    return sorted({round(float(lag)) for lag in np.geomspace(1, steps, TRUNCATIONS)})


def truncated_cosine(path: Path, cotangent: State, cut: list[int]) -> Tensor:
    """Cosine between dL/dW_hh of the last k steps and of all, mean over sequences summed as a batch: [len(cut), S].

    Truncated backpropagation through time (Williams & Peng 1990) with a loss at the last step.
    """
    total = torch.zeros_like(path.w_h)
    sums: dict[int, Tensor] = {}
    grads = cotangent
    for lag in range(path.steps):
        t = path.steps - 1 - lag
        _, dh, grads = path.vjp(t, grads)
        total = total + path.hidden[t].transpose(1, 2) @ dh
        if lag + 1 in cut:
            sums[lag + 1] = total.flatten(1)
    full = total.flatten(1)
    return torch.stack([torch.nn.functional.cosine_similarity(sums[lag], full, dim=-1) for lag in cut])


# Lyapunov exponents of the whole state, (h, c) for an LSTM, by QR at every step (Benettin et al. 1980).
#
# The state has 2H numbers. Following ∂h_t/∂h_{t−1} at fixed c, H × H, is a known mistake: it leaves out the cell path, the
# one
# that carries the memory. `hidden_block` computes it all the same, so that the difference can be shown.

LYAPUNOV_WARM_UP = 0.2  # of the steps, in which the tangents turn to their directions


def measure_lyapunov(case: Case) -> Iterator[Measurement]:
    """`lyapunov`: exponents in nats a step, largest first, by seed; `lyapunov_hidden_block`: the mistaken largest one."""
    path, _ = inits.path(case)
    exponents = lyapunov_exponents(path, int(case.factor("exponents")))
    yield cells.measurement("lyapunov", "nat/step", list(exponents.cpu().numpy()))
    if path.parts > 1:
        block = lyapunov_exponents(path, 1, hidden_block=True)
        yield cells.measurement("lyapunov_hidden_block", "nat/step", list(block.cpu().numpy()))


def lyapunov_exponents(path: Path, exponents: int, hidden_block: bool = False) -> Tensor:
    """The largest `exponents` of each seed, [S, K], mean over its sequences."""
    batch = path.hidden[0].shape[1]
    zeros = path.zeros(batch)
    parts = 1 if hidden_block else path.parts
    size = parts * path.weights.hidden
    exponents = min(exponents, size)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(zeros[0].shape[0], batch, size, exponents, dtype=torch.float64, generator=generator)
    tangents = torch.linalg.qr(drawn.to(zeros[0]))[0]
    warm = int(LYAPUNOV_WARM_UP * path.steps)
    total = torch.zeros(*tangents.shape[:2], exponents, dtype=torch.float64, device=tangents.device)
    for t in range(path.steps):
        moved = _jvp_of_block(path, t, tangents.permute(3, 0, 1, 2), parts)
        tangents, stretched = torch.linalg.qr(moved.permute(1, 2, 3, 0))
        if t >= warm:
            total = total + torch.log(torch.diagonal(stretched, dim1=-2, dim2=-1).abs())
    return (total / (path.steps - warm)).mean(1).sort(dim=-1, descending=True).values


def _jvp_of_block(path: Path, t: int, tangents: Tensor, parts: int) -> Tensor:
    """tangents: [K, S, B, parts·H]."""
    split: State = tangents.chunk(parts, -1)
    if parts < path.parts:  # the mistake: nothing comes in from c, and what goes out to it is dropped
        split = (*split, torch.zeros_like(split[0]))
    return torch.cat(path.jvp(t, split)[:parts], -1)
