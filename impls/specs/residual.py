"""Recurrent networks as residual stacks: the LSTM in the dress of a Transformer, and two that a parallel scan computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from impls.specs.model import ModelSpec, Shapes, require_sizes


@dataclass(frozen=True, slots=True)
class LSTMStackSpec(ModelSpec):
    """Blocks x + LSTM(norm x), each an LSTM of width H; weights are drawn with a forget bias of 1 (Jozefowicz et al. 2015)."""

    cell: ClassVar[str] = "lstm_stack"
    bidirectional: ClassVar[bool] = False

    def block_shapes(self) -> Shapes:
        width = self.hidden_size
        return {
            "norm.weight": (width,),
            "lstm.weight_ih_l0": (4 * width, width),
            "lstm.weight_hh_l0": (4 * width, width),
            "lstm.bias_ih_l0": (4 * width,),
            "lstm.bias_hh_l0": (4 * width,),
        }

    def state_shapes(self, batch: int) -> Shapes:
        return dict.fromkeys(("h", "c"), (self.num_layers, batch, self.hidden_size))

    def block_values(self) -> int:
        """The normalised stream, the four gates, c and h."""
        return 7 * self.hidden_size


@dataclass(frozen=True, slots=True)
class MinLSTMSpec(ModelSpec):
    """Blocks x + W_out h(norm x) of an LSTM whose gates see the input only (Feng et al. 2024, "Were RNNs all we needed?").

    f, i, g = σ(W_f x + b_f), σ(W_i x + b_i), W_g x + b_g; h' = f/(f+i)·h + i/(f+i)·g: linear in h, so that a parallel scan
    computes all steps at once. Gates are stacked f, i, g.
    """

    cell: ClassVar[str] = "minlstm"
    bidirectional: ClassVar[bool] = False

    def block_shapes(self) -> Shapes:
        width = self.hidden_size
        return {
            "norm.weight": (width,),
            "weight_gates": (3 * width, width),
            "bias_gates": (3 * width,),
            "weight_out": (width, width),
        }

    def state_shapes(self, batch: int) -> Shapes:
        return {"h": (self.num_layers, batch, self.hidden_size)}

    def block_values(self) -> int:
        """The normalised stream, the three gates and h."""
        return 5 * self.hidden_size


@dataclass(frozen=True, slots=True)
class SSMSpec(ModelSpec):
    """Blocks of a diagonal state-space model whose steps depend on the input (Gu & Dao 2023, "Mamba", without its convolution).

    With E = expand·H channels of N states: v, z = W_in norm(x); Δ = softplus(W_Δ v + b_Δ), B, C = W_BC v;
    h' = exp(ΔA)·h + (exp(ΔA) − 1)/A · B v with A = −exp(log_decay); the block adds W_out ((C·h + skip·v) · silu(z)).
    `log_decay` [N, E] enters no product, but C·h is one with as many values: the count of operations stands for it.
    """

    expand: int = 2
    state_size: int = 16

    cell: ClassVar[str] = "ssm"
    bidirectional: ClassVar[bool] = False

    def __post_init__(self) -> None:
        ModelSpec.__post_init__(self)
        require_sizes(self, "expand", "state_size")

    @property
    def channels(self) -> int:
        return self.expand * self.hidden_size

    def block_shapes(self) -> Shapes:
        width, channels, states = self.hidden_size, self.channels, self.state_size
        return {
            "norm.weight": (width,),
            "weight_in": (2 * channels, width),
            "weight_step": (channels, channels),
            "bias_step": (channels,),
            "weight_bc": (2 * states, channels),
            "log_decay": (states, channels),
            "skip": (channels,),
            "weight_out": (width, channels),
        }

    def state_shapes(self, batch: int) -> Shapes:
        return {"h": (self.num_layers, batch, self.state_size * self.channels)}

    def block_values(self) -> int:
        """The normalised stream; v, z, Δ, the gated output; B and C; and the states of every channel, where they are kept."""
        return self.hidden_size + 4 * self.channels + 2 * self.state_size + self.state_size * self.channels

    def key_parts(self) -> list[str]:
        parts = ModelSpec.key_parts(self)
        return parts + [f"E{self.expand}"] * (self.expand != 2) + [f"N{self.state_size}"] * (self.state_size != 16)
