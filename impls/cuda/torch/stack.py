"""Layers one upon another, each on its own kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from impls.cuda.runtime.kernels import Launcher
from impls.cuda.select.plan import Plan
from impls.cuda.torch import layer, recurrence
from impls.cuda.torch.projection import fold_inputs, unfold


@dataclass(frozen=True, slots=True)
class Run:
    """Of each layer the recurrence's result and the output; of all layers h_n and c_n [L·D, B, H], c_n wide."""

    results: list[recurrence.Result]
    outputs: list[Tensor]
    h_n: Tensor
    c_n: Tensor


def run(
    plan: Plan, launcher: Launcher, weights: Sequence[layer.Weights], projections: Sequence[Tensor | None],
    x: Tensor, h0: Tensor, c0: Tensor, lengths: Tensor, training: bool = False,
) -> Run:  # fmt: skip
    """x [T, B, I], h0 [L·D, B, H or P], c0 [L·D, B, H] wide; `weights` packed, with `projections` [D, P, H] folded in."""
    results, outputs, last_h = [], [], []
    directions = len(h0) // len(weights)
    for depth, (packed, projection) in enumerate(zip(weights, projections, strict=True)):
        part = slice(depth * directions, (depth + 1) * directions)
        start = h0[part]
        if projection is not None:
            x, start = fold_inputs(x, start, lengths), torch.zeros_like(c0[part], dtype=x.dtype)
        result = layer.forward(plan, launcher, packed, x, start, c0[part], lengths, training)
        x, h_n = result.y, result.h_n
        if projection is not None:
            x, h_n = unfold(x, h_n, projection, h0[part], lengths)
        results.append(result)
        outputs.append(x)
        last_h.append(h_n)
    return Run(results, outputs, torch.cat(last_h), torch.cat([result.c_n for result in results]))
