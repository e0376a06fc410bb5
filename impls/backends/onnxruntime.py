"""ONNX Runtime on the CPU: the LSTM as an ONNX graph."""

from __future__ import annotations

import os

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from impls import refusals
from impls.batch import Batch, check_batch, filled
from impls.interface import Phase
from impls.params import Params, check_params
from impls.specs.recurrent import Recurrent, Spec, require_recurrent

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


# ONNX Runtime on the CPU: one ONNX node a layer, inference only.
#
# Threads: `OMP_NUM_THREADS` where it is set, else ONNX Runtime's own choice; waiting threads spin, its default.

PROVIDER = "CPUExecutionProvider"
RUNS = (PROVIDER,)
DEVICES = ("cpu",)
CELLS = ("lstm", "gru", "rnn")
DTYPES = ("float32",)
PACKAGE = "onnxruntime"
Values = dict[str, onnxruntime.OrtValue]


def refuses(spec: Spec, phase: Phase, ragged: bool) -> str | None:
    return refusals.first(
        refusals.in_principle(spec, phase, ragged),
        refusals.cell(spec, *CELLS),
        "ONNX Runtime infers and does not train; ask for forward or step" if phase == "forward_backward" else None,
        refusals.projection(spec),
        refusals.dtype(spec, *DTYPES),
        refusals.device(spec, *DEVICES),
    )


def load(spec: Spec, params: Params, batch: Batch) -> Network:
    check_params(spec, params)
    check_batch(spec, batch)
    return Network(require_recurrent(spec), params, batch)


class Network:
    """A session with one batch bound to its inputs; for `step`, two bindings take turns in reading and writing the state."""

    def __init__(self, spec: Recurrent, params: Params, batch: Batch) -> None:
        self.spec = spec
        options = onnxruntime.SessionOptions()
        if threads := os.environ.get("OMP_NUM_THREADS"):
            options.intra_op_num_threads = int(threads)
        ragged = batch.lengths is not None
        model = onnx_model(spec, params, ragged).SerializeToString()
        self.session = onnxruntime.InferenceSession(model, options, providers=[PROVIDER])
        full = filled(spec, batch)
        self.states = ("h", "c") if spec.cell == "lstm" else ("h",)
        self.x = full.x.astype(np.float32)
        first = {f"{name}0": getattr(full, f"{name}0").astype(np.float32) for name in self.states}
        constant = {"lengths": batch.lengths.astype(np.int32)} if batch.lengths is not None else {}
        self.binding = self._bind({"x": self.x} | first | constant, self._results(batch.steps, batch.batch), {})
        self.tokens = [onnxruntime.OrtValue.ortvalue_from_numpy(token[None]) for token in self.x]
        self.position, self.latest = 0, self.binding
        if not (ragged or spec.bidirectional):
            ping, pong = self._results(1, batch.batch), self._results(1, batch.batch)
            for name, value in first.items():
                pong[f"{name[0]}_n"].update_inplace(value)
            after_pong, after_ping = ({name: last[f"{name[0]}_n"] for name in first} for last in (pong, ping))
            self.turns = self._bind({}, ping, after_pong), self._bind({}, pong, after_ping)

    def _results(self, steps: int, batch: int) -> Values:
        spec = self.spec
        state = (spec.num_layers * spec.num_directions, batch, spec.hidden_size)
        shapes = {"y": (steps, batch, spec.output_size)} | {f"{name}_n": state for name in self.states}
        return {name: onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32)) for name, shape in shapes.items()}

    def _bind(self, inputs: dict[str, np.ndarray], outputs: Values, before: Values) -> onnxruntime.IOBinding:
        binding = self.session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
        for name, value in before.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        return binding

    def forward(self) -> None:
        self.session.run_with_iobinding(self.binding)
        self.latest = self.binding

    def forward_backward(self) -> None:
        raise NotImplementedError("ONNX Runtime infers and does not train; ask for forward or step")

    def step(self) -> None:
        binding = self.turns[self.position % 2]
        binding.bind_ortvalue_input("x", self.tokens[self.position % len(self.tokens)])
        self.session.run_with_iobinding(binding)
        self.position, self.latest = self.position + 1, binding

    def wait(self) -> None:
        """ONNX Runtime returns from a CPU session only when it is done."""

    def _found(self) -> dict[str, np.ndarray]:
        names = ("y", *(f"{name}_n" for name in self.states))
        return {name: np.array(value.numpy()) for name, value in zip(names, self.latest.get_outputs(), strict=True)}

    def outputs(self) -> np.ndarray:
        return self._found()["y"]

    def final_state(self) -> dict[str, np.ndarray]:
        return {name: value for name, value in self._found().items() if name != "y"}

    def gradients(self) -> dict[str, np.ndarray]:
        raise NotImplementedError("ONNX Runtime infers and does not train; ask for forward or step")

    def provenance(self) -> dict[str, str]:
        threads = str(self.session.get_session_options().intra_op_num_threads or "default")
        return {"ran": "+".join(self.session.get_providers()), "onnxruntime": onnxruntime.__version__, "threads": threads}
