"""A recurrent network as an ONNX graph: what the backends that read ONNX are given."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from impls.params import Params
from impls.specs.recurrent import Recurrent

# The ONNX graph of a recurrent network: one node a layer.
#
# Gates are i, o, f, c in ONNX for an LSTM and z, r, h for a GRU (operators LSTM-14, GRU-14), so rows are reordered here.

GATES = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}  # our gate at each of ONNX's places
OPERATORS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
OPSET, IR_VERSION = 17, 8


def onnx_model(spec: Recurrent, params: Params, ragged: bool) -> onnx.ModelProto:
    """Inputs x [T, B, I], h0 and (LSTM) c0 [L·D, B, H], lengths [B] if ragged; outputs y [T, B, D·H], h_n, (LSTM) c_n."""
    nodes, constants = [], {"merged": np.array([0, 0, -1]), "each": np.full(spec.num_layers, spec.num_directions)}
    states = ("h", "c") if spec.cell == "lstm" else ("h",)
    layers = range(spec.num_layers)
    for name in states:
        nodes.append(helper.make_node("Split", [f"{name}0", "each"], [f"{name}0_{depth}" for depth in layers], axis=0))
    attributes = {"hidden_size": spec.hidden_size, "direction": "bidirectional" if spec.bidirectional else "forward"}
    if spec.cell == "gru":
        attributes["linear_before_reset"] = 1
    for depth in layers:
        constants |= {f"{kind}_{depth}": value for kind, value in layer_weights(spec, params, depth).items()}
        nodes.append(helper.make_node(
            OPERATORS[spec.cell],
            ["x" if depth == 0 else f"y_{depth - 1}", f"W_{depth}", f"R_{depth}", f"B_{depth}" if spec.bias else "",
             "lengths" if ragged else "", *(f"{name}0_{depth}" for name in states)],
            [f"directions_{depth}", *(f"{name}_n_{depth}" for name in states)],
            **attributes,
        ))  # fmt: skip
        # ONNX returns [T, D, B, H].
        nodes.append(helper.make_node("Transpose", [f"directions_{depth}"], [f"by_sequence_{depth}"], perm=[0, 2, 1, 3]))
        y = "y" if depth == spec.num_layers - 1 else f"y_{depth}"
        nodes.append(helper.make_node("Reshape", [f"by_sequence_{depth}", "merged"], [y]))
    for name in states:
        nodes.append(helper.make_node("Concat", [f"{name}_n_{depth}" for depth in layers], [f"{name}_n"], axis=0))
    state = [spec.num_layers * spec.num_directions, "B", spec.hidden_size]
    inputs = {"x": ["T", "B", spec.input_size]} | {f"{name}0": state for name in states}
    outputs = {"y": ["T", "B", spec.output_size]} | {f"{name}_n": state for name in states}
    takes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    gives = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    if ragged:
        takes.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]))
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, spec.cell, takes, gives, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


def layer_weights(spec: Recurrent, params: Params, depth: int) -> dict[str, np.ndarray]:
    """W [D, G·H, I], R [D, G·H, H], and B [D, 2·G·H], with the gates in ONNX's order."""
    suffixes = spec.suffixes()[depth * spec.num_directions : (depth + 1) * spec.num_directions]
    order = GATES[spec.cell]

    def stacked(kind: str) -> np.ndarray:
        parts = [np.split(params[f"{kind}_{suffix}"], spec.gates) for suffix in suffixes]
        return np.stack([np.concatenate([gates[gate] for gate in order]) for gates in parts]).astype(np.float32)

    weights = {"W": stacked("weight_ih"), "R": stacked("weight_hh")}
    if spec.bias:
        weights["B"] = np.concatenate([stacked("bias_ih"), stacked("bias_hh")], axis=1)
    return weights
