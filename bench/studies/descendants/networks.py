"""The networks that are compared, each trained on tokens: those of `impls`, and S4D, Mamba, sLSTM and mLSTM from their papers.

Every network is a residual stack: an embedding, blocks of x + block(norm x), a normalisation and a linear readout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from impls import Spec, UnknownName
from impls.frameworks.torch import models
from impls.params import random_params
from impls.specs.recurrent import Residual
from impls.specs.residual import SSMSpec

CONVOLUTION = 4  # steps that Mamba's convolution sees (Gu & Dao 2023, section 3.4)
SMALLEST_STEP, LARGEST_STEP = 1e-3, 1e-1  # of Δ at the start, uniform in the logarithm (Gu & Dao 2023, section 3.6)


class TokenModel(nn.Module):
    """Tokens [T, B, F], each the sum of its F embeddings, to logits [T, B, A, C] of A answers with C classes each."""

    def __init__(self, network: str, spec: Spec, tokens: Sequence[int], outputs: tuple[int, int], seed: int) -> None:
        """network: a name of `NETWORKS`. tokens: the size of each of the F vocabularies. Weights are drawn from the seed."""
        super().__init__()
        if network not in NETWORKS:
            raise UnknownName("network", network, NETWORKS)
        width = spec.hidden_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embeddings = nn.ModuleList(nn.Embedding(size, width) for size in tokens)
            self.body = NETWORKS[network](spec, seed)
            self.readout = nn.Linear(width, math.prod(outputs))
        self.outputs = outputs
        self.to(spec.device)

    def forward(self, tokens: Tensor) -> Tensor:
        x = torch.stack([table(tokens[..., place]) for place, table in enumerate(self.embeddings)]).sum(0)
        return self.readout(self.body(x)).unflatten(-1, self.outputs)

    def parameter_count(self) -> int:
        """Of the body alone: embedding and readout are the task's."""
        return sum(value.numel() for value in self.body.parameters())


class OfSpec(nn.Module):
    """A residual model of `impls`, from the state zero."""

    def __init__(self, spec: Residual, seed: int) -> None:
        super().__init__()
        self.model = models.build(spec, {name: value.astype(np.float32) for name, value in random_params(spec, seed).items()})

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)[0]


class Stack(nn.Module):
    """x + block(norm x) for each block, and a last normalisation."""

    def __init__(self, spec: Residual, block: Callable[[Residual], nn.Module]) -> None:
        super().__init__()
        layers = range(spec.num_layers)
        self.blocks = nn.ModuleList(block(spec) for _ in layers)
        self.norms = nn.ModuleList(models.norm(spec.hidden_size) for _ in layers)
        self.norm = models.norm(spec.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        for norm, block in zip(self.norms, self.blocks, strict=True):
            x = x + block(norm(x))
        return self.norm(x)


# S4D and Mamba: both h' = Ā·h + B̄·x with a diagonal Ā; S4D's is the same at every step, Mamba's depends on the input.


def first_steps(channels: int) -> Tensor:
    """Δ at the start, one a channel."""
    return torch.exp(torch.empty(channels).uniform_(math.log(SMALLEST_STEP), math.log(LARGEST_STEP)))


class S4D(nn.Module):
    """The linear time-invariant state space of Gu et al. 2022 ("S4D-Lin"), one input and one output a channel, N / 2 complex
    states each, by its convolution; then GELU and a gated linear layer as in that paper's code."""

    def __init__(self, spec: Residual) -> None:
        super().__init__()
        width, states = spec.hidden_size, spec.state_size // 2  # pyright: ignore[reportAttributeAccessIssue]
        self.log_step = nn.Parameter(first_steps(width).log())
        self.log_decay = nn.Parameter(torch.full((width, states), math.log(0.5)))
        self.frequency = nn.Parameter(math.pi * torch.arange(states).float().repeat(width, 1))
        self.read = nn.Parameter(torch.randn(width, states, 2) * 0.5**0.5)
        self.skip = nn.Parameter(torch.randn(width))
        self.out = nn.Linear(width, 2 * width)

    def rates(self) -> Tensor:
        """A [H, N / 2], its real parts below zero."""
        return torch.complex(-self.log_decay.exp(), self.frequency)

    def kernel(self, steps: int) -> Tensor:
        """K [H, T]: 2 Re Σ_n C_n B̄_n Ā_n^t with the zero-order hold Ā = exp(ΔA), B̄ = (Ā − 1)/A (Gu et al. 2022, eq. 6)."""
        rate, times = self.rates(), torch.arange(steps, device=self.skip.device)
        exponent = self.log_step.exp()[:, None] * rate
        read = torch.view_as_complex(self.read) * (exponent.exp() - 1) / rate
        return 2 * torch.einsum("hn,hnt->ht", read, (exponent[..., None] * times).exp()).real

    def mix(self, x: Tensor) -> Tensor:
        """x [T, B, H] to Σ_s K_s x_{t−s} + D x_t, by FFT."""
        steps = len(x)
        product = torch.fft.rfft(self.kernel(steps).T[:, None], 2 * steps, 0) * torch.fft.rfft(x, 2 * steps, 0)
        return torch.fft.irfft(product, 2 * steps, 0)[:steps] + self.skip * x

    def forward(self, x: Tensor) -> Tensor:
        return functional.glu(self.out(functional.gelu(self.mix(x))))


def selective_scan(v: Tensor, step: Tensor, rate: Tensor, write: Tensor, read: Tensor) -> Tensor:
    """Mamba's scan: y_t = C_t·h_t, h_t = exp(Δ_t A) h_{t−1} + Δ_t B_t v_t, B by Euler as in the published code.

    Args:
        v, step: input and Δ, [T, B, E].
        rate: A [N, E], below zero.
        write, read: B and C, [T, B, N].

    Returns: y [T, B, E], without the skip.
    """
    kept = (step[..., None, :] * rate).exp()
    new = (step * v)[..., None, :] * write[..., None]
    states = models.parallel(kept, new, torch.zeros_like(new[0]))
    return (read[..., None, :] @ states).squeeze(-2)


class Mamba(nn.Module):
    """The block of Gu & Dao 2023, figure 3: a short causal convolution, the selective scan, a gate."""

    def __init__(self, spec: Residual) -> None:
        super().__init__()
        width, channels, states = spec.hidden_size, spec.channels, spec.state_size  # pyright: ignore[reportAttributeAccessIssue]
        rank = math.ceil(width / 16)
        self.sizes = (rank, states, states)
        self.enter = nn.Linear(width, 2 * channels, bias=False)
        self.convolution = nn.Conv1d(channels, channels, CONVOLUTION, groups=channels, padding=CONVOLUTION - 1)
        self.select = nn.Linear(channels, sum(self.sizes), bias=False)
        self.widen = nn.Linear(rank, channels)
        with torch.no_grad():
            self.widen.bias.copy_(torch.log(torch.expm1(first_steps(channels))))  # the inverse of softplus
        self.log_decay = nn.Parameter(torch.arange(1.0, states + 1).log()[:, None].repeat(1, channels))
        self.skip = nn.Parameter(torch.ones(channels))
        self.leave = nn.Linear(channels, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        v, gate = self.enter(x).chunk(2, -1)
        v = functional.silu(self.convolution(v.permute(1, 2, 0))[..., : len(x)].permute(2, 0, 1))
        narrow, write, read = self.select(v).split(self.sizes, -1)
        y = selective_scan(v, functional.softplus(self.widen(narrow)), -self.log_decay.exp(), write, read)
        return self.leave((y + self.skip * v) * functional.silu(gate))


# sLSTM and mLSTM (Beck et al. 2024, sections 2.2 and 2.3), with exponential input gates, normalisers and their stabiliser.


class SLSTM(nn.Module):
    """c' = f c + i z, n' = f n + i, h = o · c/n, with recurrent weights as an LSTM's."""

    def __init__(self, spec: Residual) -> None:
        super().__init__()
        width = spec.hidden_size
        self.of_input = nn.Linear(width, 4 * width)
        self.of_state = nn.Linear(width, 4 * width, bias=False)
        with torch.no_grad():
            self.of_input.bias[width : 2 * width] += 1.0  # a forget bias of 1, as every LSTM here

    def forward(self, x: Tensor) -> Tensor:
        pre, states = self.of_input(x), []
        h = c = torch.zeros_like(x[0])
        n, m = torch.zeros_like(c), torch.full_like(c, -math.inf)
        for at_step in pre:
            i, f, z, o = (at_step + self.of_state(h)).chunk(4, -1)
            log_f = functional.logsigmoid(f)
            highest = torch.maximum(log_f + m, i)
            kept, write = (log_f + m - highest).exp(), (i - highest).exp()
            c, n, m = kept * c + write * z.tanh(), kept * n + write, highest
            h = o.sigmoid() * c / n
            states.append(h)
        return torch.stack(states)


class MLSTM(nn.Module):
    """C' = f C + i v kᵀ, n' = f n + i k, h = o · C q / max(|n·q|, 1): the matrix memory, one head, all steps at once."""

    def __init__(self, spec: Residual) -> None:
        super().__init__()
        width = spec.hidden_size
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.gates = nn.Linear(width, 2)
        self.output_gate = nn.Linear(width, width)
        self.leave = nn.Linear(width, width, bias=False)
        with torch.no_grad():
            self.gates.bias[1] = 3.0  # a forget gate that begins nearly open, as in that paper's code

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).chunk(3, -1)
        write, forget = self.gates(x).unbind(-1)
        return self.leave(self.output_gate(x).sigmoid() * matrix_memory(query, key, value, write, forget))


def matrix_memory(query: Tensor, key: Tensor, value: Tensor, write: Tensor, forget: Tensor) -> Tensor:
    """The mLSTM's states read by q, in parallel (Beck et al. 2024, appendix A.3).

    Args:
        query, key, value: [T, B, d].
        write, forget: the gates before exp and σ, [T, B].

    Returns: C_t q_t / max(|n_t·q_t|, exp(−m_t)), [T, B, d], without the output gate.
    """
    since = functional.logsigmoid(forget).cumsum(0)
    logs = (since[:, None] - since[None] + write[None]).permute(2, 0, 1)  # [B, t, s]
    future = torch.ones(logs.shape[-2:], dtype=torch.bool, device=logs.device).triu(1)
    logs = logs.masked_fill(future, -math.inf)
    highest = logs.amax(-1, keepdim=True)
    scores = torch.einsum("tbd,sbd->bts", query, key) * query.shape[-1] ** -0.5 * (logs - highest).exp()
    size = torch.maximum(scores.sum(-1, keepdim=True).abs(), (-highest).exp())
    return torch.einsum("bts,sbd->tbd", scores / size, value)


def _stack(block: Callable[[Residual], nn.Module]) -> Callable[[Residual, int], nn.Module]:
    return lambda spec, seed: Stack(spec, block)


OF_SPECS = ("lstm", "minlstm", "transformer")  # what a case's spec describes in full
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "lstm": OfSpec, "minlstm": OfSpec, "transformer": OfSpec,
    "s4d": _stack(S4D), "mamba": _stack(Mamba), "slstm": _stack(SLSTM), "mlstm": _stack(MLSTM),
}  # fmt: skip


def state_values(network: str, spec: Spec, context: int) -> int:
    """Numbers that a network carries from one step to the next after `context` tokens of one sequence."""
    width, layers = spec.hidden_size, spec.num_layers
    if network in OF_SPECS:
        return spec.state_bytes(1, context) // 4  # of float32
    if network == "slstm":
        return layers * 4 * width  # h, c, n and m
    if network == "mlstm":
        return layers * (width * width + width + 1)  # C, n and m
    assert isinstance(spec, SSMSpec)
    if network == "s4d":
        return layers * width * spec.state_size  # N / 2 complex numbers
    return layers * spec.channels * (spec.state_size + CONVOLUTION - 1)
