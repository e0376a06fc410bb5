"""A diagonal selective state-space model by a parallel scan. Its states [T, B, N, E] are kept, as no fused kernel is used."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from impls.frameworks.torch.models import parts, scan
from impls.specs.residual import SSMSpec


class SSM(parts.Recurrent):
    """See `SSMSpec`."""

    def __init__(self, spec: SSMSpec) -> None:
        super().__init__(spec, [Block(spec) for _ in range(spec.num_layers)])


class Block(nn.Module):
    def __init__(self, spec: SSMSpec) -> None:
        super().__init__()
        width, channels, states = spec.hidden_size, spec.channels, spec.state_size
        self.norm = parts.norm(width)
        self.weight_in = parts.weight(2 * channels, width)
        self.weight_step = parts.weight(channels, channels)
        self.bias_step = parts.weight(channels)
        self.weight_bc = parts.weight(2 * states, channels)
        self.log_decay = parts.weight(states, channels)
        self.skip = parts.weight(channels)
        self.weight_out = parts.weight(width, channels)

    def forward(self, x: Tensor, state: parts.State) -> tuple[Tensor, parts.State]:
        """x [T, B, H]; state h [B, N·E]."""
        v, z = functional.linear(self.norm(x), self.weight_in).chunk(2, dim=-1)
        step = functional.softplus(functional.linear(v, self.weight_step, self.bias_step))
        write, read = functional.linear(v, self.weight_bc).chunk(2, dim=-1)
        before = state[0].unflatten(-1, self.log_decay.shape)
        h = scan.parallel(*recurrence(v, step, -self.log_decay.exp(), write), before)
        y = (read[..., None] * h).sum(-2) + self.skip * v
        return functional.linear(y * functional.silu(z), self.weight_out), (h[-1].flatten(-2),)


def recurrence(v: Tensor, step: Tensor, rate: Tensor, write: Tensor) -> tuple[Tensor, Tensor]:
    """a and b [T, B, N, E] of h' = a·h + b: the zero-order hold of dh/dt = A h + B v over a time Δ (Gu & Dao 2023, eq. 4).

    v, step Δ [T, B, E]; rate A [N, E], below zero; write B [T, B, N].
    """
    exponent = step[..., None, :] * rate
    return exponent.exp(), torch.expm1(exponent) / rate * write[..., None] * v[..., None, :]
