"""Lyapunov exponents of the whole state, (h, c) for an LSTM, by QR at every step (Benettin et al. 1980).

The state has 2H numbers. Following ∂h_t/∂h_{t−1} at fixed c, H × H, is a known mistake: it leaves out the cell path, the one
that carries the memory. `of_hidden_block` computes it all the same, so that the difference can be shown.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bench.harness.case import Case
from bench.studies.gradients import cells, inits
from bench.studies.gradients.cells import Path, State
from results.record import Measurement

WARM_UP_SHARE = 0.2  # of the steps, in which the tangents turn to their directions


def measure(case: Case) -> Iterator[Measurement]:
    """`lyapunov`: exponents in nats a step, largest first, by seed; `lyapunov_hidden_block`: the mistaken largest one."""
    path, _ = inits.path(case)
    exponents = of_state(path, int(case.factor("exponents")))
    yield cells.measurement("lyapunov", "nat/step", list(exponents.cpu().numpy()))
    if path.parts > 1:
        block = of_state(path, 1, hidden_block=True)
        yield cells.measurement("lyapunov_hidden_block", "nat/step", list(block.cpu().numpy()))


def of_state(path: Path, exponents: int, hidden_block: bool = False) -> Tensor:
    """The largest `exponents` of each seed, [S, K], mean over its sequences."""
    batch = path.hidden[0].shape[1]
    zeros = path.zeros(batch)
    parts = 1 if hidden_block else path.parts
    size = parts * path.weights.hidden
    exponents = min(exponents, size)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(zeros[0].shape[0], batch, size, exponents, dtype=torch.float64, generator=generator)
    tangents = torch.linalg.qr(drawn.to(zeros[0]))[0]
    warm = int(WARM_UP_SHARE * path.steps)
    total = torch.zeros(*tangents.shape[:2], exponents, dtype=torch.float64, device=tangents.device)
    for t in range(path.steps):
        moved = _push(path, t, tangents.permute(3, 0, 1, 2), parts)
        tangents, stretched = torch.linalg.qr(moved.permute(1, 2, 3, 0))
        if t >= warm:
            total = total + torch.log(torch.diagonal(stretched, dim1=-2, dim2=-1).abs())
    return (total / (path.steps - warm)).mean(1).sort(dim=-1, descending=True).values


def _push(path: Path, t: int, tangents: Tensor, parts: int) -> Tensor:
    """tangents: [K, S, B, parts·H]."""
    split: State = tangents.chunk(parts, -1)
    if parts < path.parts:  # the mistake: nothing comes in from c, and what goes out to it is dropped
        split = (*split, torch.zeros_like(split[0]))
    return torch.cat(path.push(t, split)[:parts], -1)
