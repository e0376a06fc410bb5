"""ONNX Runtime on the CPU: one ONNX node a layer, inference only.

Threads: `OMP_NUM_THREADS` where it is set, else ONNX Runtime's own choice; waiting threads spin, its default.
"""

from __future__ import annotations

import os

import numpy as np
import onnxruntime

from impls import refusals
from impls.batch import Batch, check_batch, filled
from impls.frameworks.onnx import onnx_model
from impls.interface import Phase
from impls.params import Params, check_params
from impls.specs.recurrent import Recurrent, Spec, require_recurrent

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
