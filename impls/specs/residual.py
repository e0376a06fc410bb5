"""Residual models as plain values: LSTM stacks and their relatives, Transformers, and what they share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from lstm_bench.errors import UserError

# What every spec is made of: sizes that are checked, data types, devices, and the error that says what is allowed.

# tensorfloat32: stored in float32, multiplied by tensor cores that round each operand to 10 bits of mantissa.
DType = Literal["float32", "float64", "bfloat16", "float16", "tensorfloat32"]
Device = Literal["cpu", "cuda"]
ITEM_BYTES: dict[str, int] = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2, "tensorfloat32": 4}


def stored(dtype: DType) -> str:
    """The dtype of arrays in memory, by the name NumPy, PyTorch and JAX share."""
    return "float32" if dtype == "tensorfloat32" else dtype


class InvalidSpec(UserError, ValueError):
    """A size, dtype or device that no network can have; the message says what was asked and what is allowed."""


def require_sizes(spec: object, *names: str, at_least: int = 1) -> None:
    """Raise `InvalidSpec` unless each of these fields is a whole number of at least so much."""
    for name in names:
        value = getattr(spec, name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidSpec(f"{name} must be a whole number; got {value!r}")
        if value < at_least:
            raise InvalidSpec(f"{name} must be at least {at_least}; got {value}")


def require_choices(spec: object) -> None:
    """Raise `InvalidSpec` unless the spec's dtype and device are known."""
    for name, choices in (("dtype", get_args(DType)), ("device", get_args(Device))):
        if getattr(spec, name) not in choices:
            raise InvalidSpec(f"{name} must be one of {', '.join(choices)}; got {getattr(spec, name)!r}")


# What the residual models have in common: a stack of blocks of one width, counted as the recurrent networks are.
#
# A model of width H reads x [T, B, I], projected to H where I differs from it, adds the output of each block to what the
# block read, and normalises what it returns: y [T, B, H]. Every normalisation is a LayerNorm with a weight and no bias.

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Sizes of a residual stack; H is `hidden_size`, the width of the stream that the blocks add to.

    No embedding and no head: features to features as in an LSTM, so that batch, validation and tolerance are the same for
    every network; studies that train add their own.
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    dtype: DType = "float32"
    device: Device = "cpu"

    cell: ClassVar[str]
    num_directions: ClassVar[int] = 1

    def __post_init__(self) -> None:
        require_sizes(self, "input_size", "hidden_size", "num_layers")
        require_choices(self)

    @property
    def output_size(self) -> int:
        return self.hidden_size

    @property
    def stored_dtype(self) -> str:
        return stored(self.dtype)

    @property
    def item_bytes(self) -> int:
        return ITEM_BYTES[self.dtype]

    def block_shapes(self) -> Shapes:
        """Names and shapes of the parameters of one block."""
        raise TypeError(f"{type(self).__name__} has no blocks")

    def parameter_shapes(self) -> Shapes:
        """Names and shapes, those of the `state_dict()` of the model's `torch.nn.Module`."""
        shapes: Shapes = {}
        if self.input_size != self.hidden_size:
            shapes["weight_in"] = (self.hidden_size, self.input_size)
        for layer in range(self.num_layers):
            shapes |= {f"layers.{layer}.{name}": shape for name, shape in self.block_shapes().items()}
        return shapes | {"norm.weight": (self.hidden_size,)}

    def parameter_count(self) -> int:
        return sum(math.prod(shape) for shape in self.parameter_shapes().values())

    def parameter_bytes(self) -> int:
        return self.parameter_count() * self.item_bytes

    def product_weights(self) -> int:
        """Weights that each token is multiplied by: those of matrices."""
        return sum(math.prod(shape) for shape in self.parameter_shapes().values() if len(shape) == 2)

    def context_flops(self, context: int) -> int:
        """Operations of one token's products with what is remembered of `context` tokens, its own included."""
        return 0

    def contexts(self, steps: int) -> int:
        """Sum over the tokens of a sequence of the tokens each attends to."""
        return steps

    def flops_per_token(self, backward: bool = False, context: int = 1) -> int:
        """As of the recurrent networks: products only, 2 operations a weight, 3 times as many with the backward pass
        (Kaplan et al. 2020, section 2.1); and those with what is remembered of the context."""
        return (2 * self.product_weights() + self.context_flops(context)) * (3 if backward else 1)

    def sequence_flops(self, steps: int, backward: bool = False) -> int:
        """Of one sequence of so many tokens, each with the context it has."""
        return (2 * self.product_weights() * steps + self.context_flops(self.contexts(steps))) * (3 if backward else 1)

    def state_shapes(self, batch: int) -> Shapes:
        """The state that a batch may start from and ends in, by letter; empty where the state is no more than a memory of
        past tokens (a cache of keys and values), which starts empty."""
        return {}

    def state_bytes(self, batch: int = 1, context: int = 1) -> int:
        """Bytes carried from one step to the next after `context` tokens. Constant where the state is."""
        return sum(math.prod(shape) for shape in self.state_shapes(batch).values()) * self.item_bytes

    def block_values(self) -> int:
        """Values a block keeps of each token for its backward pass."""
        raise TypeError(f"{type(self).__name__} has no blocks")

    def saved_bytes(self, steps: int, batch: int) -> int:
        """Least bytes a training step keeps for its backward pass: in each block the inputs of its products and of its
        nonlinearities, and the stream itself (the counting of Korthikanti et al. 2022, section 4.1, without dropout)."""
        values = self.num_layers * (self.block_values() + self.hidden_size) + self.hidden_size
        return steps * batch * values * self.item_bytes

    def key_parts(self) -> list[str]:
        """What tells this spec from others of its size in a case's key; defaults are left out."""
        parts = [self.cell, f"I{self.input_size}", f"H{self.hidden_size}"]
        return parts + [f"L{self.num_layers}"] * (self.num_layers > 1)

    def require_divisible(self, name: str, value: int, by: str, divisor: int) -> None:
        if value % divisor:
            raise InvalidSpec(f"{name} {value} must be a multiple of {by} {divisor}")


# Recurrent networks as residual stacks: the LSTM in the dress of a Transformer, and two that a parallel scan computes.


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


# A Transformer's sizes, and what they cost: parameters, operations by context, and the bytes of keys and values.


@dataclass(frozen=True, slots=True)
class TransformerSpec(ModelSpec):
    """Pre-norm blocks of attention and feed-forward (Vaswani et al. 2017; Xiong et al. 2020), without biases.

    Queries and keys are rotated by position (Su et al. 2021); the feed-forward is W_down gelu(W_up x), GELU by tanh.

    num_kv_heads        heads of keys and values, each shared by num_heads / num_kv_heads queries (Ainslie et al. 2023);
                        0 for as many as there are heads
    feed_forward_size   F; 0 for 4H
    window              tokens that each attends to, its own included (Beltagy et al. 2020); 0 for all before it
    bidirectional       attends to what comes after as well: an encoder, which cannot stream
    """

    num_heads: int = 4
    num_kv_heads: int = 0
    feed_forward_size: int = 0
    window: int = 0
    bidirectional: bool = False

    cell: ClassVar[str] = "transformer"

    def __post_init__(self) -> None:
        # Named explicitly: a slotted dataclass is rebuilt, which breaks the zero-argument super().
        ModelSpec.__post_init__(self)
        require_sizes(self, "num_heads")
        require_sizes(self, "num_kv_heads", "feed_forward_size", "window", at_least=0)
        self.require_divisible("hidden_size", self.hidden_size, "num_heads", self.num_heads)
        self.require_divisible("num_heads", self.num_heads, "num_kv_heads", self.kv_heads)
        if self.head_size % 2:
            raise InvalidSpec(
                f"hidden_size / num_heads must be even, since rotation takes features in pairs; got {self.head_size}"
            )
        if self.bidirectional and self.window:
            raise InvalidSpec(f"a window of {self.window} tokens looks back; ask for window=0, or bidirectional=False")

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def kv_heads(self) -> int:
        return self.num_kv_heads or self.num_heads

    @property
    def inner_size(self) -> int:
        return self.feed_forward_size or 4 * self.hidden_size

    def block_shapes(self) -> Shapes:
        width, inner = self.hidden_size, self.inner_size
        return {
            "norm_attention.weight": (width,),
            "weight_qkv": ((self.num_heads + 2 * self.kv_heads) * self.head_size, width),
            "weight_out": (width, width),
            "norm_feed_forward.weight": (width,),
            "weight_up": (inner, width),
            "weight_down": (width, inner),
        }

    def context_flops(self, context: int) -> int:
        """4 H a layer and remembered token: q·k and its share of v (Kaplan et al. 2020, table 1)."""
        return 4 * self.num_layers * self.hidden_size * context

    def contexts(self, steps: int) -> int:
        if self.bidirectional:
            return steps * steps
        full = min(steps, self.window or steps)
        return full * (full + 1) // 2 + (steps - full) * full

    def capacity(self, steps: int) -> int:
        """Tokens that a cache for `steps` tokens keeps: all of them, or those in the window."""
        return min(steps, self.window or steps)

    def state_bytes(self, batch: int = 1, context: int = 1) -> int:
        """Keys and values: 2·L·n_kv·d_head a remembered token (Shazeer 2019, section 2.4; Pope et al. 2022)."""
        values = 2 * self.num_layers * self.kv_heads * self.head_size * self.capacity(context)
        return values * batch * self.item_bytes

    def block_values(self) -> int:
        """Two normalised streams, q, k and v, the attended values, F twice; attention's own weights are recomputed from the
        logarithm of their sum, one value a head (Dao et al. 2022)."""
        qkv = (self.num_heads + 2 * self.kv_heads) * self.head_size
        return 4 * self.hidden_size + qkv + self.num_heads + 2 * self.inner_size

    def key_parts(self) -> list[str]:
        parts = [*ModelSpec.key_parts(self), f"heads{self.num_heads}"]
        parts += [f"kv{self.num_kv_heads}"] if self.num_kv_heads else []
        parts += [f"F{self.feed_forward_size}"] if self.feed_forward_size else []
        return parts + ([f"window{self.window}"] if self.window else []) + ["bi"] * self.bidirectional
