"""What residual models share: valid sizes, parameters, operations and state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

# What every spec is made of: sizes that are checked, data types, devices, and the error that says what is allowed.

# tensorfloat32: stored in float32, multiplied by tensor cores that round each operand to 10 bits of mantissa.
DType = Literal["float32", "float64", "bfloat16", "float16", "tensorfloat32"]
Device = Literal["cpu", "cuda"]
ITEM_BYTES: dict[str, int] = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2, "tensorfloat32": 4}


def stored(dtype: DType) -> str:
    """The dtype of arrays in memory, by the name NumPy, PyTorch and JAX share."""
    return "float32" if dtype == "tensorfloat32" else dtype


class InvalidSpec(ValueError):
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
    """Sizes of a residual stack; H is `hidden_size`, the width of the stream that the blocks add to."""

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
