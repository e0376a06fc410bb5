"""Parts of residual models: norms, blocks, and scans over time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from impls.specs.residual import ModelSpec

# What the models are built of: weights without values, and the residual stack around their blocks.

State = tuple[Tensor, ...]


def weight(*shape: int) -> nn.Parameter:
    """A parameter whose values are to be loaded."""
    return nn.Parameter(torch.zeros(shape))


def norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, bias=False)


class Residual(nn.Module):
    """x, projected to the width H where it has another; the blocks, each adding to the stream; a normalisation."""

    def __init__(self, spec: ModelSpec, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        width = spec.hidden_size
        self.spec = spec
        self.weight_in = weight(width, spec.input_size) if spec.input_size != width else None
        self.layers = nn.ModuleList(blocks)
        self.norm = norm(width)

    def enter(self, x: Tensor) -> Tensor:
        return x if self.weight_in is None else functional.linear(x, self.weight_in)

    def zeros(self, batch: int) -> State:
        """The state before the first step."""
        like = self.norm.weight
        return tuple(
            torch.zeros(shape, dtype=like.dtype, device=like.device) for shape in self.spec.state_shapes(batch).values()
        )


class Recurrent(Residual):
    """A stack whose blocks map x [T, B, H] and a state, tensors [B, ·], to what they add and the state after the last step."""

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """x [T, B, I] to y [T, B, H]; state: tensors [L, B, ·], zeros if left out."""
        before = zip(*(value.unbind(0) for value in state or self.zeros(x.shape[1])), strict=True)
        stream, after = self.enter(x), []
        for block, of_layer in zip(self.layers, before, strict=True):
            added, last = block(stream, of_layer)
            stream = stream + added
            after.append(last)
        return self.norm(stream), tuple(torch.stack(values) for values in zip(*after, strict=True))


# The linear recurrence h_t = a_t·h_{t−1} + b_t over the first axis: in parallel, or step by step.
#
# (a, b) ∘ (a', b') = (a'a, a'b + b') is associative, so that T steps take 2·log2 T rounds (Blelloch 1990, section 1.4): pairs
# are combined, half as many are scanned, and every second result follows from the one before it. About 2T combinations, where
# the plain recurrence takes T.


def sequential(a: Tensor, b: Tensor, h: Tensor) -> Tensor:
    """h_1 … h_T, [T, …], from a and b [T, …] and h_0 […]: the definition."""
    states = []
    for decay, new in zip(a.unbind(0), b.unbind(0), strict=True):
        h = decay * h + new
        states.append(h)
    return torch.stack(states)


def parallel(a: Tensor, b: Tensor, h: Tensor) -> Tensor:
    """The same in 2·log2 T rounds, and its gradient likewise."""
    states = _Scan.apply(a, b, h)
    assert isinstance(states, Tensor)
    return states


class _Scan(torch.autograd.Function):
    """The gradient of a scan is a scan in reverse: with g_t = dL/dh_t + a_{t+1}·g_{t+1}, db_t = g_t and da_t = g_t·h_{t−1}."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, h: Tensor) -> Tensor:
        first = torch.addcmul(b[:1], a[:1], h[None])
        states = _prefixes(a, torch.cat([first, b[1:]]))
        ctx.save_for_backward(a, h, states)
        return states

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, h, states = ctx.saved_tensors
        (grad,) = grads
        following = torch.cat([a[1:], torch.zeros_like(a[:1])])
        new = _prefixes(following.flip(0), grad.flip(0)).flip(0)
        before = torch.cat([h[None], states[:-1]])
        return new * before, new, new[0] * a[0]


def _prefixes(a: Tensor, b: Tensor) -> Tensor:
    """h_1 … h_T from h_0 = 0."""
    steps = len(a)
    if steps == 1:
        return b
    pairs = steps // 2
    odd_a, odd_b = a[1::2], b[1::2]
    even_a, even_b = a[0::2], b[0::2]
    halved = _prefixes(odd_a * even_a[:pairs], torch.addcmul(odd_b, odd_a, even_b[:pairs]))  # h_2, h_4, …
    states = torch.empty_like(b)
    states[0] = b[0]
    states[1::2] = halved
    rest = len(even_a) - 1  # h_3, h_5, …
    states[2::2] = torch.addcmul(even_b[1:], even_a[1:], halved[:rest])
    return states
