"""The LSTM nodes of an ONNX file, also in its branches, loops and functions; nodes that feed each other are one stack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.like.weights import Found, Reading, UnreadableModel
from impls import LSTMSpec
from impls.specs.recurrent import DType

if TYPE_CHECKING:
    import onnx

Shape = tuple[int | None, ...]
Table = Mapping[str, tuple[Shape, int]]  # by a value's name its shape and the number of its data type
# Through these a layer's output reaches the next layer with its values as they are.
RESHAPING = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Flatten")
OTHER_CELLS = ("GRU", "RNN", "DynamicQuantizeLSTM")
DTYPES: dict[str, DType] = {"FLOAT": "float32", "DOUBLE": "float64", "FLOAT16": "float16", "BFLOAT16": "bfloat16"}


@dataclass(frozen=True, slots=True)
class Node:
    """An LSTM node; below: the name of the output of another one that it reads, or ""."""

    found: Found
    output: str
    below: str
    stackable: bool


def read(path: Path, reading: Reading) -> None:
    """Adds the LSTMs of a file. Its weights are not loaded where they are in files of their own.

    Raises:
        UnreadableModel: the file is no ONNX model, or the package that reads it is missing.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise UnreadableModel(
            f"reading {path.name} needs the package onnx, which is not installed here; install it with: pip install onnx"
        ) from error
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise UnreadableModel(f"{path} is no ONNX model: {error}; export it again") from error
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    _graph(model.graph.node, model.graph, {}, reading)
    if any(node.op_type == "LSTM" for node in model.graph.node) is not bool(reading.found):
        reading.notes.append("its LSTMs are in branches or loops, of which a call may run some; all are counted")
    for function in model.functions:
        _graph(function.node, None, {}, reading)


def _graph(nodes: Any, graph: onnx.GraphProto | None, outer: Table, reading: Reading) -> None:
    known = dict(outer) | (dict(_shapes(graph)) if graph else {})
    producers = {name: node for node in nodes for name in node.output if name}
    for node in nodes:  # in order of computation
        for name, entry in _computed(node, known):
            known.setdefault(name, entry)
    lstms: list[Node] = []
    for node in nodes:
        label = node.name or (node.output and next(filter(None, node.output), "")) or node.op_type
        if node.op_type == "LSTM":
            lstms += _lstm(node, label, known, producers, reading)
        elif node.op_type in OTHER_CELLS:
            reading.notes.append(f"left out {label}: a node of type {node.op_type}, and no LSTM")
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                _graph(inner.node, inner, known, reading)
    reading.found += _stacked(lstms)


def _shapes(graph: onnx.GraphProto) -> Iterator[tuple[str, tuple[Shape, int]]]:
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            dims = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)
            yield value.name, (dims, kind.elem_type)
    for tensor in graph.initializer:
        yield tensor.name, (tuple(tensor.dims), tensor.data_type)


def _computed(node: onnx.NodeProto, known: Table) -> Iterator[tuple[str, tuple[Shape, int]]]:
    """What ONNX's own inference leaves open inside branches: constants, and an axis that is put before a matrix."""
    for attribute in node.attribute:
        if node.op_type == "Constant" and attribute.HasField("t"):
            yield node.output[0], (tuple(attribute.t.dims), attribute.t.data_type)
    if node.op_type == "Identity" and node.input[0] in known:
        yield node.output[0], known[node.input[0]]


def _lstm(
    node: onnx.NodeProto, label: str, known: Table, producers: Mapping[str, onnx.NodeProto], reading: Reading
) -> Iterator[Node]:
    import onnx

    x, weights = known.get(node.input[0]), known.get(node.input[1])
    if weights is None or len(weights[0]) != 3 or None in weights[0]:
        reading.notes.append(f"left out {label}: the file does not tell the shape of its weights")
        return
    (directions, rows, inputs), kind = weights
    assert directions is not None and rows is not None and inputs is not None
    dtype = DTYPES.get(onnx.TensorProto.DataType.Name(kind))  # pyright: ignore[reportArgumentType]
    if dtype is None:
        reading.notes.append(f"left out {label}: no backend here has the data type of its weights")
        return
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    given = [*node.input, *[""] * 8]
    direction = attributes.get("direction", b"forward").decode()
    batch_first = attributes.get("layout", 0) == 1
    spec = LSTMSpec(inputs, rows // 4, bias=bool(given[3]), bidirectional=directions == 2, dtype=dtype)
    steps, batch = (x[0][1], x[0][0]) if x and batch_first else (x[0][0], x[0][1]) if x else (None, None)
    changed = {
        "peepholes": bool(given[7]),
        "a clip of its cells": "clip" in attributes,
        "an input gate coupled to the forget gate": attributes.get("input_forget", 0) == 1,
        "its own activations": _own_activations(attributes, directions),
    }
    reading.notes += [
        f"{label} has {what}, which no backend here has; measured without" for what, has in changed.items() if has
    ]
    if direction == "reverse":
        reading.notes.append(f"{label} reads backwards in time; measured forwards, which costs the same without the flips")
    found = Found(label, spec, steps or None, batch or None)
    below = node.input[0]
    while below in producers and producers[below].op_type in RESHAPING:
        below = producers[below].input[0]
    yield Node(found, node.output[0] if node.output else "", below, direction != "reverse")


def _own_activations(attributes: Mapping[str, Any], directions: int) -> bool:
    usual = ["sigmoid", "tanh", "tanh"] * directions
    return [each.decode().lower() for each in attributes.get("activations", [])] not in ([], usual)


def _stacked(nodes: list[Node]) -> list[Found]:
    """Nodes of the same sizes of which each reads the outputs of the one before alone, as one network of several layers."""
    stacks: list[tuple[Found, Node]] = []
    for node in nodes:
        for place, (stack, top) in enumerate(stacks):
            own, under = node.found.spec, stack.spec
            alike = replace(own, input_size=under.input_size, num_layers=under.num_layers) == under
            if top.output and node.below == top.output and top.stackable and node.stackable and alike:
                if own.input_size == under.output_size:
                    stacks[place] = replace(stack, spec=replace(under, num_layers=under.num_layers + 1)), node
                    break
        else:
            stacks.append((node.found, node))
    return [stack for stack, _ in stacks]
