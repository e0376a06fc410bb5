"""What a recurrent network is: its sizes, parameter shapes, and closed-form counts.

Size letters used everywhere: T steps, B batch, I input size, H hidden size, L layers, D directions,
P projection size, R recurrent size (P where the LSTM projects, else H), G gates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from impls.specs.residual import (
    ITEM_BYTES,
    Device,
    DType,
    InvalidSpec,
    LSTMStackSpec,
    MinLSTMSpec,
    SSMSpec,
    TransformerSpec,
    require_choices,
    require_sizes,
    stored,
)


@dataclass(frozen=True, slots=True)
class RecurrentSpec:
    """Sizes of a stack of recurrent layers, named as `torch.nn.LSTM` names them.

    Layer l reads I features (l = 0) or D·R features (l > 0) and returns D·R features.
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    bidirectional: bool = False
    dtype: DType = "float32"
    device: Device = "cpu"

    cell: ClassVar[str]
    gates: ClassVar[int]

    def __post_init__(self) -> None:
        require_sizes(self, "input_size", "hidden_size", "num_layers")
        require_choices(self)

    @property
    def stored_dtype(self) -> str:
        """The dtype of arrays in memory, by the name NumPy, PyTorch and JAX share."""
        return stored(self.dtype)

    @property
    def num_directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def recurrent_size(self) -> int:
        """Features of h: P where the network projects, else H."""
        return self.hidden_size

    @property
    def output_size(self) -> int:
        """Features of one output step: D·R."""
        return self.num_directions * self.recurrent_size

    def layer_input_size(self, layer: int) -> int:
        return self.input_size if layer == 0 else self.output_size

    def suffixes(self) -> list[str]:
        """Parameter-name endings in the order of the states' first axis: l0, l0_reverse, l1, …"""
        directions = ("", "_reverse")[: self.num_directions]
        return [f"l{layer}{direction}" for layer in range(self.num_layers) for direction in directions]

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes, those of `torch.nn.{LSTM,GRU,RNN}(...).state_dict()`, gates stacked on axis 0."""
        rows = self.gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {}
        for index, suffix in enumerate(self.suffixes()):
            layer = index // self.num_directions
            shapes[f"weight_ih_{suffix}"] = (rows, self.layer_input_size(layer))
            shapes[f"weight_hh_{suffix}"] = (rows, self.recurrent_size)
            if self.bias:
                shapes[f"bias_ih_{suffix}"] = (rows,)
                shapes[f"bias_hh_{suffix}"] = (rows,)
        return shapes

    def parameter_count(self) -> int:
        return sum(math.prod(shape) for shape in self.parameter_shapes().values())

    def parameter_bytes(self) -> int:
        return self.parameter_count() * ITEM_BYTES[self.dtype]

    def flops_per_token(self, backward: bool = False, context: int = 1) -> int:
        """Multiplications and additions in the matrix products for one token, whatever its context; elementwise work is not
        counted.

        Each weight is used once a token, two operations each; the backward pass does two such products
        (for the input and for the weight), so training costs 3× (Kaplan et al. 2020, section 2.1).
        """
        weights = sum(math.prod(shape) for shape in self.parameter_shapes().values() if len(shape) == 2)
        return 2 * weights * (3 if backward else 1)

    def sequence_flops(self, steps: int, backward: bool = False) -> int:
        """Of one sequence of so many tokens."""
        return steps * self.flops_per_token(backward)

    def state_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """The state that a batch starts from and ends in, by letter: h of every layer and direction."""
        return {"h": (self.num_layers * self.num_directions, batch, self.recurrent_size)}

    def state_bytes(self, batch: int = 1, context: int = 1) -> int:
        """Bytes carried from one step to the next. Constant, whatever the context."""
        return sum(math.prod(shape) for shape in self.state_shapes(batch).values()) * ITEM_BYTES[self.dtype]

    def saved_bytes(self, steps: int, batch: int) -> int:
        """Least bytes a training step keeps for its backward pass: per unit and step the G gates and h."""
        values = self.gates * self.hidden_size + self.recurrent_size
        return self.num_layers * self.num_directions * steps * batch * values * ITEM_BYTES[self.dtype]

    def key_parts(self) -> list[str]:
        """What tells this spec from others in a case's key; defaults are left out."""
        parts = [self.cell, f"I{self.input_size}", f"H{self.hidden_size}"]
        parts += [f"L{self.num_layers}"] * (self.num_layers > 1)
        return parts + ["bi"] * self.bidirectional + ["nobias"] * (not self.bias)


@dataclass(frozen=True, slots=True)
class LSTMSpec(RecurrentSpec):
    """Long short-term memory with forget gates (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

    Gates i, f, g, o: c' = f·c + i·g, h' = o·tanh(c'); with `proj_size` P, h' = W_hr (o·tanh(c')) (Sak et al. 2014).
    """

    proj_size: int = 0

    cell: ClassVar[str] = "lstm"
    gates: ClassVar[int] = 4

    def __post_init__(self) -> None:
        # Named explicitly: a slotted dataclass is rebuilt, which breaks the zero-argument super().
        RecurrentSpec.__post_init__(self)
        require_sizes(self, "proj_size", at_least=0)
        if self.proj_size >= self.hidden_size:
            raise InvalidSpec(f"proj_size must be smaller than hidden_size {self.hidden_size}; got {self.proj_size}")

    @property
    def recurrent_size(self) -> int:
        return self.proj_size or self.hidden_size

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = RecurrentSpec.parameter_shapes(self)
        if not self.proj_size:
            return shapes
        with_projection: dict[str, tuple[int, ...]] = {}
        for suffix in self.suffixes():
            with_projection |= {name: shape for name, shape in shapes.items() if name.endswith(f"_{suffix}")}
            with_projection[f"weight_hr_{suffix}"] = (self.proj_size, self.hidden_size)
        return with_projection

    def state_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        cells = (self.num_layers * self.num_directions, batch, self.hidden_size)
        return RecurrentSpec.state_shapes(self, batch) | {"c": cells}

    def saved_bytes(self, steps: int, batch: int) -> int:
        cells = self.num_layers * self.num_directions * steps * batch * self.hidden_size * ITEM_BYTES[self.dtype]
        return RecurrentSpec.saved_bytes(self, steps, batch) + cells

    def key_parts(self) -> list[str]:
        return RecurrentSpec.key_parts(self) + ([f"P{self.proj_size}"] if self.proj_size else [])


@dataclass(frozen=True, slots=True)
class GRUSpec(RecurrentSpec):
    """Gated recurrent unit as PyTorch and cuDNN define it (reset applied after the product).

    Gates r, z, n: n = tanh(x-part + r·h-part), h' = (1 − z)·n + z·h (Cho et al. 2014, v3 of the paper).
    """

    cell: ClassVar[str] = "gru"
    gates: ClassVar[int] = 3


@dataclass(frozen=True, slots=True)
class RNNSpec(RecurrentSpec):
    """Vanilla recurrent network: h' = tanh(W_ih x + W_hh h + b) (Elman 1990)."""

    cell: ClassVar[str] = "rnn"
    gates: ClassVar[int] = 1


Recurrent = LSTMSpec | GRUSpec | RNNSpec
Residual = TransformerSpec | LSTMStackSpec | MinLSTMSpec | SSMSpec
Spec = Recurrent | Residual
CELLS: dict[str, type[Spec]] = {
    kind.cell: kind for kind in (LSTMSpec, GRUSpec, RNNSpec, TransformerSpec, LSTMStackSpec, MinLSTMSpec, SSMSpec)
}


def require_recurrent(spec: Spec) -> Recurrent:
    """The spec, known to be recurrent; raise `InvalidSpec` if it is of another kind."""
    if not isinstance(spec, Recurrent):
        raise InvalidSpec(f"this runs lstm, gru, rnn and no {spec.cell}; the backends numpy and torch run every network")
    return spec


def spec_to_dict(spec: Spec) -> dict[str, Any]:
    """The spec as plain values, with its `cell`; `spec_from_dict` is the inverse."""
    return {"cell": spec.cell} | {field.name: getattr(spec, field.name) for field in fields(spec)}


def spec_from_dict(values: dict[str, Any]) -> Spec:
    values = dict(values)
    cell = values.pop("cell")
    if cell not in CELLS:
        raise InvalidSpec(f"no cell {cell!r}; choose from {', '.join(CELLS)}")
    return CELLS[cell](**values)
