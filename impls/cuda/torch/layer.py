"""One layer and stacked layers: projection, input product, recurrence, and their gradients.

So every kernel runs `proj_size`; the price is 4H·H instead of 4H·P + P·H multiplications a step, one more rounding of the
weight in 16 bits, and P more inputs a direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from impls.cuda.runtime import Launcher
from impls.cuda.select import Plan
from impls.cuda.torch import recurrence

# Layers with `proj_size` on kernels that know none: the projection is folded into the recurrent weight.
#
# With h = W_hr m and m = o·tanh(c), the recurrence z_t = W_ih x_t + b + W_hh h_{t−1} is one of m alone: its recurrent weight
# is W_hh W_hr, h0 adds W_hh h0 to the first step (as P more inputs, zero at all other steps), and y = W_hr m is one GEMM
# after the loop. Ordinary differentiable operations throughout, so their gradients are autograd's.

Folded = tuple[Tensor, Tensor, Tensor]


def fold(x: Tensor, weight_ih: Tensor, weight_hh: Tensor, weight_hr: Tensor, h0: Tensor, lengths: Tensor) -> Folded:
    """x [T, B, I], weight_ih [D, 4H, I], weight_hh [D, 4H, P], weight_hr [D, P, H], h0 [D, B, P], lengths [B]; what a layer
    without projection takes instead of x, weight_ih and weight_hh, with an h0 of zeros."""
    return fold_inputs(x, h0, lengths), *fold_weights(weight_ih, weight_hh, weight_hr)


def fold_inputs(x: Tensor, h0: Tensor, lengths: Tensor) -> Tensor:
    """[T, B, I + D·P]: h0 beside x at the first step of each sequence; in reverse that is its own last."""
    steps = torch.arange(len(x), device=x.device)[:, None]
    starts = [(steps == start)[..., None] for start in (torch.zeros_like(lengths), lengths - 1)]
    return torch.cat([x, *(torch.where(starts[d], state, torch.zeros_like(state)) for d, state in enumerate(h0))], 2)


def fold_weights(weight_ih: Tensor, weight_hh: Tensor, weight_hr: Tensor) -> tuple[Tensor, Tensor]:
    """[D, 4H, I + D·P] and [D, 4H, H]."""
    widened = [
        torch.cat([ih, *(hh if other == direction else torch.zeros_like(hh) for other in range(len(weight_hh)))], 1)
        for direction, (ih, hh) in enumerate(zip(weight_ih, weight_hh, strict=True))
    ]
    return torch.stack(widened), weight_hh @ weight_hr


def unfold(m: Tensor, m_n: Tensor, weight_hr: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """y [T, B, D·P] and h_n [D, B, P] of m [T, B, D·H] and m_n [D, B, H]; a sequence of no steps keeps its h0."""
    of_direction = m.unflatten(2, (len(weight_hr), -1)).movedim(2, 0)
    y = (of_direction @ weight_hr.mT[:, None]).movedim(0, 2).flatten(2)
    return y, torch.where((lengths > 0)[:, None], m_n @ weight_hr.mT, h0)


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer's tensors as `fold` takes them, and their gradients from those of the folded layer."""

    x: Tensor
    weight_ih: Tensor
    weight_hh: Tensor
    weight_hr: Tensor
    h0: Tensor
    lengths: Tensor

    def backward_outputs(
        self, m: Tensor, m_n: Tensor, grad_y: Tensor, grad_h_n: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradients of m and m_n, and what y and h_n add to those of weight_hr and h0."""
        lengths, given = self.lengths, (m, m_n, self.weight_hr, self.h0)
        back = torch.func.vjp(lambda m, m_n, hr, h0: unfold(m, m_n, hr, h0, lengths), *given)[1]
        return back((grad_y, grad_h_n))

    def backward_inputs(
        self, grad_x: Tensor, grad_ih: Tensor, grad_hh: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Gradients of x, weight_ih, weight_hh, weight_hr and h0 from those of the folded x and weights."""
        lengths, given = self.lengths, (self.x, self.weight_ih, self.weight_hh, self.weight_hr, self.h0)
        back = torch.func.vjp(lambda x, ih, hh, hr, h0: fold(x, ih, hh, hr, h0, lengths), *given)[1]
        return back((grad_x, grad_ih, grad_hh))


# One layer, one or two directions: the input GEMM, the recurrence, and the GEMMs that end its backward pass.
#
# Weights are stacked over directions: weight_ih [D, 4H, I], weight_hh [D, 4H, H], bias [D, 4H] (b_ih + b_hh) or None.
# Every array keeps gate rows in that order: all of i, then f, g, o.

Unpacked = tuple[Tensor, Tensor, Tensor | None]  # weight_ih, weight_hh and bias


@dataclass(frozen=True, slots=True)
class Weights:
    """A layer's weights as its forward pass reads them; made anew whenever they change."""

    weight_ih: Tensor  # [D, 4H, I]
    bias: Tensor | None  # [D, 4H]
    recurrent: Tensor  # in the plan's own order


@dataclass(frozen=True, slots=True)
class Gradients:
    x: Tensor
    weight_ih: Tensor
    weight_hh: Tensor
    bias: Tensor
    h0: Tensor
    c0: Tensor


def pack(plan: Plan, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None) -> Weights:
    return Weights(weight_ih, bias, recurrence.pack(plan, weight_hh))


def forward(
    plan: Plan, launcher: Launcher, weights: Weights, x: Tensor, h0: Tensor, c0: Tensor, *, lengths: Tensor, training: bool
) -> recurrence.Result:
    """x [T, B, I], h0 [D, B, H], c0 [D, B, H] in the wide type, lengths [B] int32. Saves what the plan's memory says."""
    projected = project(weights.weight_ih, weights.bias, x)
    return recurrence.forward(
        plan, launcher, weights.recurrent, projected, h0, c0, lengths=lengths,
        save_gates=training and plan.memory == "saved", save_cells=training,
    )  # fmt: skip


def backward(
    plan: Plan, launcher: Launcher, weights: Unpacked, x: Tensor, h0: Tensor, c0: Tensor, *,
    lengths: Tensor, result: recurrence.Result, grads: recurrence.Outputs,
) -> Gradients:  # fmt: skip
    """Through the `forward` that gave `result`. Gradients of weights in the canonical order, of states in the wide type."""
    assert result.cells is not None, "backward of a forward that saved nothing"
    weight_ih, weight_hh, _ = weights
    steps, batch, inputs = x.shape
    directions, rows, hidden = weight_hh.shape
    gates = recompute_preactivations(weights, x, h0, lengths, result.y) if result.gates is None else result.gates
    grad_gates, grad_h0, grad_c0 = recurrence.backward(
        plan, launcher, recurrence.pack(plan, weight_hh, backward=True), gates, result.cells, c0,
        lengths=lengths, grads=grads, recompute=result.gates is None,
    )  # fmt: skip
    by_token = grad_gates.reshape(directions, steps * batch, rows)
    flat_x = x.reshape(steps * batch, inputs)
    grad_x = by_token[0] @ weight_ih[0]
    if directions == 2:
        grad_x.addmm_(by_token[1], weight_ih[1])
    grad_ih = torch.stack([of_direction.mT @ flat_x for of_direction in by_token])
    grad_hh = torch.stack([_grad_weight_hh(grad_gates[d], result.y, h0[d], lengths, d, hidden) for d in range(directions)])
    grad_bias = by_token.sum(1, dtype=recurrence.wide(x.dtype)).to(x.dtype)
    return Gradients(grad_x.reshape(x.shape), grad_ih, grad_hh, grad_bias, grad_h0, grad_c0)


def project(weight_ih: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """W_ih x + b of all steps, [D, T, B, 4, H]."""
    steps, batch, inputs = x.shape
    directions, rows, _ = weight_ih.shape
    flat = x.reshape(steps * batch, inputs)
    projected = x.new_empty(directions, steps * batch, rows)
    for d in range(directions):
        if bias is None:
            torch.mm(flat, weight_ih[d].mT, out=projected[d])
        else:
            torch.addmm(bias[d], flat, weight_ih[d].mT, out=projected[d])
    return projected.view(directions, steps, batch, 4, rows // 4)


def recompute_preactivations(weights: Unpacked, x: Tensor, h0: Tensor, lengths: Tensor, y: Tensor) -> Tensor:
    """All preactivations again, [D, T, B, 4, H]: since every h is known, one GEMM a weight and nothing sequential."""
    weight_ih, weight_hh, bias = weights
    steps, batch, _ = x.shape
    _, rows, hidden = weight_hh.shape
    preactivations = project(weight_ih, bias, x)
    for d, weight in enumerate(weight_hh):
        of_direction = preactivations[d].view(steps, batch, rows)
        later, h_before = _pairs(of_direction, y, d, hidden)
        later.reshape(-1, rows).addmm_(h_before, weight.mT)
        start = _starts(lengths, d, batch)
        of_direction[start] += h0[d] @ weight.mT
    return preactivations


def _grad_weight_hh(grad_gates: Tensor, y: Tensor, h0: Tensor, lengths: Tensor, direction: int, hidden: int) -> Tensor:
    """Σ dz_t h_{t−1}ᵀ, [4H, H]: a GEMM over the steps that follow another, and h0's at each sequence's start."""
    steps, batch = grad_gates.shape[:2]
    grad_gates = grad_gates.reshape(steps, batch, -1)
    later, h_before = _pairs(grad_gates, y, direction, hidden)
    return torch.addmm(grad_gates[_starts(lengths, direction, batch)].mT @ h0, later.reshape(-1, 4 * hidden).mT, h_before)


def _pairs(by_step: Tensor, y: Tensor, direction: int, hidden: int) -> tuple[Tensor, Tensor]:
    """The steps that have one before them (in the direction's order) as [T−1, B, …], and the h of those before, [(T−1)·B, H].

    In reverse a sequence starts at its own last step; the y after it is zero, so that pair adds nothing.
    """
    before = y[..., direction * hidden : (direction + 1) * hidden]
    later, before = (by_step[:-1], before[1:]) if direction else (by_step[1:], before[:-1])
    return later, before.flatten(0, 1)


def _starts(lengths: Tensor, direction: int, batch: int) -> tuple[Tensor, Tensor]:
    """Index of each sequence's first step in the direction's order, for tensors [T, B, …]."""
    columns = torch.arange(batch, device=lengths.device)
    return (lengths.long() - 1 if direction else torch.zeros_like(columns)), columns


# Stacked layers, each on its own kernels.


@dataclass(frozen=True, slots=True)
class Run:
    """Of each layer the recurrence's result and the output; of all layers h_n and c_n [L·D, B, H], c_n wide."""

    results: list[recurrence.Result]
    outputs: list[Tensor]
    h_n: Tensor
    c_n: Tensor


def run(
    plan: Plan, launcher: Launcher, weights: Sequence[Weights], x: Tensor, h0: Tensor, c0: Tensor, *,
    lengths: Tensor, projections: Sequence[Tensor | None], training: bool = False,
) -> Run:  # fmt: skip
    """x [T, B, I], h0 [L·D, B, H or P], c0 [L·D, B, H] wide; `weights` packed, with `projections` [D, P, H] folded in."""
    results, outputs, last_h = [], [], []
    directions = len(h0) // len(weights)
    for depth, (packed, projection) in enumerate(zip(weights, projections, strict=True)):
        part = slice(depth * directions, (depth + 1) * directions)
        start = h0[part]
        if projection is not None:
            x, start = fold_inputs(x, start, lengths), torch.zeros_like(c0[part], dtype=x.dtype)
        result = forward(plan, launcher, packed, x, start, c0[part], lengths=lengths, training=training)
        x, h_n = result.y, result.h_n
        if projection is not None:
            x, h_n = unfold(x, h_n, projection, h0[part], lengths)
        results.append(result)
        outputs.append(x)
        last_h.append(h_n)
    return Run(results, outputs, torch.cat(last_h), torch.cat([result.c_n for result in results]))
