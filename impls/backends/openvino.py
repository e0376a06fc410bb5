"""OpenVINO on the CPU: the LSTM as an ONNX graph, compiled for the sizes of its case; inference only.

Without a hint OpenVINO computes in bfloat16 wherever a CPU has it, so the case's data type is asked for and looked up in what
was compiled. Threads: `OMP_NUM_THREADS` where it is set, else OpenVINO's own choice.

`import openvino` sends usage data to Google Analytics from a process that it forks, if the package openvino-telemetry is there
(seen in 2026.4.1). Here it is imported as if that package were not: a measurement sends nothing and starts nothing.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from impls import Unavailable, refusals
from impls.batch import Batch, Draw, check_batch, filled
from impls.frameworks.onnx import onnx_model
from impls.interface import Phase
from impls.params import Params, check_params
from impls.specs.recurrent import Recurrent, Spec, require_recurrent

if TYPE_CHECKING:
    import openvino
else:
    telemetry = sys.modules.get("openvino_telemetry")
    sys.modules["openvino_telemetry"] = None  # its import fails, as where it is not installed
    try:
        openvino = importlib.import_module("openvino")
    finally:
        del sys.modules["openvino_telemetry"]
        if telemetry is not None:
            sys.modules["openvino_telemetry"] = telemetry

# By the names of its graph's executed layers: a recurrent layer is one of these, a loop of cells where there are lengths.
LAYERS = ("RNNSeq", "RNNCell", "TensorIterator")
RUNS = LAYERS
DEVICES = ("cpu",)
CELLS = ("lstm", "gru", "rnn")
DTYPES = ("float32", "bfloat16")
PACKAGE = "openvino"
ON_REQUEST = True
HINTS = {"float32": openvino.Type.f32, "bfloat16": openvino.Type.bf16}
EXECUTED = {"float32": "f32", "bfloat16": "bf16"}
TRAINS_NOT = "OpenVINO infers and does not train; ask for forward or step"


def refuses(spec: Spec, phase: Phase, ragged: bool) -> str | None:
    return refusals.first(
        refusals.in_principle(spec, phase, ragged),
        refusals.cell(spec, *CELLS),
        TRAINS_NOT if phase == "forward_backward" else None,
        refusals.projection(spec),
        refusals.dtype(spec, *DTYPES),
        refusals.device(spec, *DEVICES),
        no_bfloat16(spec, ragged),
    )


def no_bfloat16(spec: Spec, ragged: bool) -> str | None:
    """Why this CPU, or OpenVINO on it, does not compute the network in bfloat16, or None."""
    if spec.dtype != "bfloat16":
        return None
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return "OpenVINO finds no bfloat16 (AVX512-BF16, AMX) in this CPU; ask for dtype=float32, or use the backend torch"
    if ragged:
        return "OpenVINO computes a network with lengths in float32 whatever it is asked; ask for full lengths or dtype=float32"
    return None


def load(spec: Spec, params: Params, batch: Batch) -> Network:
    if reason := refusals.first(refusals.device(spec, *DEVICES), no_bfloat16(spec, batch.lengths is not None)):
        raise Unavailable(reason)
    check_params(spec, params)
    check_batch(spec, batch)
    return Network(require_recurrent(spec), params, batch)


class Network:
    """Requests with their inputs and outputs set once; for `step`, two take turns in reading and writing the state."""

    def __init__(self, spec: Recurrent, params: Params, batch: Batch) -> None:
        self.spec = spec
        ragged = batch.lengths is not None
        self.model = onnx_model(spec, params, ragged).SerializeToString()
        full = filled(spec, batch)
        self.states = ("h", "c") if spec.cell == "lstm" else ("h",)
        x = self._rounded(full.x)
        first = {f"{name}0": self._rounded(getattr(full, f"{name}0")) for name in self.states}
        constant = {"lengths": batch.lengths.astype(np.int32)} if batch.lengths is not None else {}
        inputs = {"x": x} | first | constant
        self.whole = self._compiled(inputs)
        self.request = self.whole.create_infer_request()
        for name, value in inputs.items():
            self.request.set_tensor(name, openvino.Tensor(value))
        self.compiled, self.latest, self.position = self.whole, self.request, 0
        if not (ragged or spec.bidirectional):
            self.tokens = [openvino.Tensor(np.ascontiguousarray(token[None])) for token in x]
            self.one = self._compiled({"x": x[:1]} | first)
            self.turns = self.one.create_infer_request(), self.one.create_infer_request()
            kept = [{name: openvino.Tensor(value.copy()) for name, value in first.items()} for _ in self.turns]
            for request, before, after in zip(self.turns, kept, kept[::-1], strict=True):
                for name in self.states:
                    request.set_tensor(f"{name}0", before[f"{name}0"])
                    request.set_tensor(f"{name}_n", after[f"{name}0"])

    def _rounded(self, value: np.ndarray | Draw) -> np.ndarray:
        """In the case's data type, as the other backends are given it; the graph's inputs are float32."""
        narrow = value.astype(ml_dtypes.bfloat16) if self.spec.dtype == "bfloat16" else value
        return np.ascontiguousarray(narrow.astype(np.float32))

    def _compiled(self, inputs: dict[str, np.ndarray]) -> openvino.CompiledModel:
        core = openvino.Core()
        model = core.read_model(self.model)
        model.reshape({name: list(value.shape) for name, value in inputs.items()})
        threads = os.environ.get("OMP_NUM_THREADS")
        options = {"INFERENCE_PRECISION_HINT": HINTS[self.spec.dtype], "PERFORMANCE_HINT": "LATENCY"}
        return core.compile_model(model, "CPU", options | ({"INFERENCE_NUM_THREADS": int(threads)} if threads else {}))

    def forward(self) -> None:
        self.request.infer()
        self.latest, self.compiled = self.request, self.whole

    def forward_backward(self) -> None:
        raise NotImplementedError(TRAINS_NOT)

    def step(self) -> None:
        request = self.turns[self.position % 2]
        request.set_tensor("x", self.tokens[self.position % len(self.tokens)])
        request.infer()
        self.position, self.latest, self.compiled = self.position + 1, request, self.one

    def wait(self) -> None:
        """`infer` returns only when it is done."""

    def outputs(self) -> np.ndarray:
        return np.array(self.latest.get_tensor("y").data)

    def final_state(self) -> dict[str, np.ndarray]:
        return {f"{name}_n": np.array(self.latest.get_tensor(f"{name}_n").data) for name in self.states}

    def gradients(self) -> dict[str, np.ndarray]:
        raise NotImplementedError(TRAINS_NOT)

    def provenance(self) -> dict[str, str]:
        executed = [_info(operation) for operation in self.compiled.get_runtime_model().get_ordered_ops()]
        recurrent = [layer for layer in executed if layer["layerType"] in LAYERS]
        precisions = {layer["runtimePrecision"] for layer in recurrent}
        layers = "+".join(sorted({layer["layerType"] for layer in recurrent})) or "no recurrent layer"
        right = precisions == {EXECUTED[self.spec.dtype]}
        return {
            "ran": layers if right else f"{layers} in {', '.join(sorted(precisions))}",
            "openvino": openvino.get_version(),
            "precision of layers": ", ".join(sorted(precisions)),
            "threads": str(self.compiled.get_property("INFERENCE_NUM_THREADS")),
        }


def _info(operation: openvino.Node) -> dict[str, str]:
    """Of an executed layer: its kind, and the precision it ran in."""
    info = operation.get_rt_info()
    return {name: info[name].astype(str) for name in ("layerType", "runtimePrecision")}
