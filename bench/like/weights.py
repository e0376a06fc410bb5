"""LSTMs among tensors of a model, known by the names and shapes that torch.nn.LSTM and LSTMCell give their weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from impls import LSTMSpec, Phase
from impls.specs.recurrent import DType
from lstm_bench.errors import UserError


class UnreadableModel(UserError, ValueError):
    """A model whose LSTMs cannot be read; the message says why and how to give it."""


@dataclass(frozen=True, slots=True)
class Found:
    """An LSTM of the model.

    Attributes:
        name: the prefix of its weights, or the name of its first node.
        spec: its sizes and data type, on a CPU.
        steps, batch: of its input where the file fixes them.
        copies: how many LSTMs of the model are like it.
        phase: in which the model calls it, as far as that can be seen: a cell, step by step.
    """

    name: str
    spec: LSTMSpec
    steps: int | None = None
    batch: int | None = None
    copies: int = 1
    phase: Phase = "forward"


@dataclass(slots=True)
class Reading:
    """LSTMs and notes as they are found."""

    found: list[Found] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def distinct(self) -> tuple[Found, ...]:
        """Those of the same sizes and input as one, counted."""
        merged: dict[tuple[object, ...], Found] = {}
        for one in self.found:
            key = (one.spec, one.steps, one.batch, one.phase)
            merged[key] = replace(merged[key], copies=merged[key].copies + 1) if key in merged else one
        return tuple(merged.values())


Tensors = Mapping[str, tuple[tuple[int, ...], str]]  # by name the shape and the data type
DTYPES: dict[str, DType] = {
    "F32": "float32", "F64": "float64", "F16": "float16", "BF16": "bfloat16",
    "torch.float32": "float32", "torch.float64": "float64", "torch.float16": "float16", "torch.bfloat16": "bfloat16",
}  # fmt: skip


# Weights by the names that torch.nn.LSTM and LSTMCell give them, grouped by what stands before.

_WEIGHT = re.compile(r"(?:(.*)\.)?((?:weight|bias)_(?:ih|hh|hr))(?:_l(\d+)(_reverse)?)?")
OTHER_CELLS = {3: "a GRU", 1: "an RNN without gates"}
Layer = dict[str, tuple[int, ...]]


def tensors(of: Tensors, reading: Reading) -> None:
    """Adds every LSTM among these tensors to the reading, and a note on every other recurrent network."""
    groups: dict[str, dict[tuple[int, str], Layer]] = {}
    kinds: dict[str, tuple[str, Phase]] = {}
    for name, (shape, dtype) in of.items():
        if match := _WEIGHT.fullmatch(name):
            prefix, kind, layer, reverse = match.groups(default="")
            prefix = prefix or "lstm"
            groups.setdefault(prefix, {}).setdefault((int(layer or 0), reverse), {})[kind] = shape
            kinds.setdefault(prefix, (dtype, "forward" if layer else "step"))
    for prefix, layers in groups.items():
        stored, phase = kinds[prefix]
        if (dtype := DTYPES.get(stored)) is None:
            reading.notes.append(f"left out {prefix}: no backend here has its data type {stored}")
        else:
            _network(Found(prefix, LSTMSpec(1, 1, dtype=dtype), phase=phase), layers, reading)


def _network(like: Found, layers: Mapping[tuple[int, str], Layer], reading: Reading) -> None:
    """like: what the found ones have but their sizes."""
    prefix, dtype = like.name, like.spec.dtype
    ordered = [layers[key] for key in sorted(layers)]
    if missing := [kind for layer in ordered for kind in ("weight_ih", "weight_hh") if len(layer.get(kind, ())) != 2]:
        reading.notes.append(f"left out {prefix}: it has no {missing[0]} that is a matrix")
        return
    gates = {_gates(layer) for layer in ordered}
    if gates != {4}:
        what = OTHER_CELLS.get(next(iter(gates)) if len(gates) == 1 else 0, "no network of known gates")
        reading.notes.append(f"left out {prefix}: by its shapes it is {what}, and no LSTM")
    elif (whole := _spec(layers, dtype)) is not None:
        reading.found.append(replace(like, spec=whole))
    else:
        depths = sorted({depth for depth, _ in layers})
        parts = {depth: _spec({(0, way): own for (at, way), own in layers.items() if at == depth}, dtype) for depth in depths}
        reading.found += [replace(like, name=f"{prefix}.l{depth}", spec=spec) for depth, spec in parts.items() if spec]
        broken = [depth for depth, spec in parts.items() if not spec]
        if broken:
            reading.notes.append(f"left out {prefix}.l{broken[0]}: its shapes are not those of one LSTM layer")
        if len(broken) < len(depths) > 1:
            reading.notes.append(f"{prefix}: its layers do not read each other's outputs alone; measured one by one")


def _gates(layer: Layer) -> int:
    """Rows of the input's matrix over the hidden size; 0 where that is no whole number."""
    rows, hidden = layer["weight_ih"][0], _hidden(layer)
    return rows // hidden if hidden and rows % hidden == 0 else 0


def _hidden(layer: Layer) -> int:
    """Columns of the projection, or of W_hh where there is none."""
    return layer.get("weight_hr", layer["weight_hh"])[1]


def _spec(layers: Mapping[tuple[int, str], Layer], dtype: DType) -> LSTMSpec | None:
    """One network of all these layers; None where any of its parameters has another shape."""
    first = layers.get((0, ""))
    if first is None:
        return None
    projection = first["weight_hr"][0] if "weight_hr" in first else 0
    if projection >= _hidden(first):
        return None
    spec = LSTMSpec(
        first["weight_ih"][1], _hidden(first), len({depth for depth, _ in layers}), bias="bias_ih" in first,
        bidirectional=any(way for _, way in layers), proj_size=projection, dtype=dtype,
    )  # fmt: skip
    shapes = {f"{kind}_l{depth}{way}": shape for (depth, way), own in layers.items() for kind, shape in own.items()}
    return spec if shapes == spec.parameter_shapes() else None
