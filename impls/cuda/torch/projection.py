"""Layers with `proj_size` on kernels that know none: the projection is folded into the recurrent weight.

With h = W_hr m and m = o·tanh(c), the recurrence z_t = W_ih x_t + b + W_hh h_{t−1} is one of m alone: its recurrent weight is
W_hh W_hr, h0 adds W_hh h0 to the first step (as P more inputs, zero at all other steps), and y = W_hr m is one GEMM
after the loop. Ordinary differentiable operations throughout, so their gradients are autograd's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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
