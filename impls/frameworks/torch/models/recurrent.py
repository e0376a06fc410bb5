"""Recurrent residual models: LSTM stack, minLSTM, selective state space."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from impls.frameworks.torch.models import parts
from impls.specs.residual import LSTMStackSpec, MinLSTMSpec, SSMSpec

# Residual blocks of `torch.nn.LSTM`, so that the LSTM inside is PyTorch's fastest, oneDNN or cuDNN; or of a drop-in for it.

# From input and hidden size to a module of one layer, called and named as `torch.nn.LSTM`.
Layer = Callable[[int, int], nn.Module]


class LSTMStack(parts.Recurrent):
    """See `LSTMStackSpec`. layer: what computes the LSTM of each block."""

    def __init__(self, spec: LSTMStackSpec, layer: Layer = nn.LSTM) -> None:
        super().__init__(spec, [LSTMStackBlock(spec.hidden_size, layer) for _ in range(spec.num_layers)])

    def blocks(self) -> Iterator[LSTMStackBlock]:
        for block in self.layers:
            assert isinstance(block, LSTMStackBlock)
            yield block


class LSTMStackBlock(nn.Module):
    def __init__(self, width: int, layer: Layer) -> None:
        super().__init__()
        self.norm = parts.norm(width)
        self.lstm = layer(width, width)

    def forward(self, x: Tensor, state: parts.State) -> tuple[Tensor, parts.State]:
        """x [T, B, H]; state h and c, [B, H] each."""
        h, c = state
        y, (h, c) = self.lstm(self.norm(x), (h[None], c[None]))
        return y, (h[0], c[0])


# minLSTM: gates from the input alone, the state by a parallel scan.


class MinLSTM(parts.Recurrent):
    """See `MinLSTMSpec`."""

    def __init__(self, spec: MinLSTMSpec) -> None:
        super().__init__(spec, [MinLSTMBlock(spec.hidden_size) for _ in range(spec.num_layers)])


class MinLSTMBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = parts.norm(width)
        self.weight_gates = parts.weight(3 * width, width)
        self.bias_gates = parts.weight(3 * width)
        self.weight_out = parts.weight(width, width)
        self.states: States = states

    def forward(self, x: Tensor, state: parts.State) -> tuple[Tensor, parts.State]:
        """x [T, B, H]; state h [B, H]."""
        forget, write, candidate = functional.linear(self.norm(x), self.weight_gates, self.bias_gates).chunk(3, dim=-1)
        h = self.states(forget, write, candidate, state[0])
        return functional.linear(h, self.weight_out), (h[-1],)


# The states [T, B, H] from the gates before their sigmoids, forget, write and candidate [T, B, H], and the first state [B, H].
States = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def states(forget: Tensor, write: Tensor, candidate: Tensor, h: Tensor) -> Tensor:
    return parts.parallel(*minlstm_recurrence(forget, write, candidate), h)


def minlstm_recurrence(forget: Tensor, write: Tensor, candidate: Tensor) -> tuple[Tensor, Tensor]:
    """a and b of h' = a·h + b from the gates before their sigmoids: f/(f+i) and i/(f+i)·g."""
    keep = kept(forget, write)
    return keep.sigmoid(), (-keep).sigmoid() * candidate


def kept(forget: Tensor, write: Tensor) -> Tensor:
    """σ(f)/(σ(f)+σ(i)) before its sigmoid: softplus(−i) − softplus(−f), which no gate near zero divides by zero."""
    return functional.softplus(-write) - functional.softplus(-forget)


# A diagonal selective state-space model by a parallel scan. Its states [T, B, N, E] are kept, as no fused kernel is used.


class SSM(parts.Recurrent):
    """See `SSMSpec`."""

    def __init__(self, spec: SSMSpec) -> None:
        super().__init__(spec, [SSMBlock(spec) for _ in range(spec.num_layers)])


class SSMBlock(nn.Module):
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
        h = parts.parallel(*ssm_recurrence(v, step, -self.log_decay.exp(), write), before)
        y = (read[..., None] * h).sum(-2) + self.skip * v
        return functional.linear(y * functional.silu(z), self.weight_out), (h[-1].flatten(-2),)


def ssm_recurrence(v: Tensor, step: Tensor, rate: Tensor, write: Tensor) -> tuple[Tensor, Tensor]:
    """a and b [T, B, N, E] of h' = a·h + b: the zero-order hold of dh/dt = A h + B v over a time Δ (Gu & Dao 2023, eq. 4).

    v, step Δ [T, B, E]; rate A [N, E], below zero; write B [T, B, N].
    """
    exponent = step[..., None, :] * rate
    return exponent.exp(), torch.expm1(exponent) / rate * write[..., None] * v[..., None, :]
