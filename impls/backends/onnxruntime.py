"""ONNX Runtime, on the CPU and by its CUDA provider: the LSTM as an ONNX graph, one node a layer, inference only.

Threads: `OMP_NUM_THREADS` where it is set, else ONNX Runtime's own choice; waiting threads spin, its default. On CUDA float32
is not multiplied in TF32, which the provider would do by default.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from impls import Unavailable, refusals
from impls.batch import Batch, check_batch, filled
from impls.frameworks.onnx import onnx_model
from impls.interface import Phase
from impls.params import Params, check_params
from impls.specs.recurrent import Recurrent, Spec, require_recurrent

PROVIDERS: dict[str, tuple[str, dict[str, str]]] = {
    "cpu": ("CPUExecutionProvider", {}),
    "cuda": ("CUDAExecutionProvider", {"use_tf32": "0"}),
}
RUNS = ("CPUExecutionProvider", "CUDAExecutionProvider")
DEVICES = ("cpu", "cuda")
CELLS = ("lstm", "gru", "rnn")
DTYPES = ("float32",)
PACKAGE = "onnxruntime"
TRAINS_NOT = "ONNX Runtime infers and does not train; ask for forward or step"
ON_REQUEST_ON = ("cuda",)
Values = dict[str, onnxruntime.OrtValue]


def refuses(spec: Spec, phase: Phase, ragged: bool) -> str | None:
    return refusals.first(
        refusals.in_principle(spec, phase, ragged),
        refusals.cell(spec, *CELLS),
        TRAINS_NOT if phase == "forward_backward" else None,
        refusals.projection(spec),
        refusals.dtype(spec, *DTYPES),
        refusals.device(spec, *DEVICES),
        no_provider(spec),
    )


def no_provider(spec: Spec) -> str | None:
    """Why this ONNX Runtime cannot run on the spec's device, or None."""
    wanted, found = PROVIDERS[spec.device][0], onnxruntime.get_available_providers()
    if wanted in found:
        return None
    return (
        f"ONNX Runtime finds no CUDA device here: it has no {wanted}, only {', '.join(found)}; run on a machine with an "
        "NVIDIA GPU after: pip uninstall onnxruntime && pip install onnxruntime-gpu, or ask for device=cpu"
    )


def load(spec: Spec, params: Params, batch: Batch) -> Network:
    if reason := refusals.first(refusals.device(spec, *DEVICES), no_provider(spec)):
        raise Unavailable(reason)
    check_params(spec, params)
    check_batch(spec, batch)
    return Network(require_recurrent(spec), params, batch)


class Network:
    """A session with one batch bound to its inputs; for `step`, two bindings take turns in reading and writing the state."""

    def __init__(self, spec: Recurrent, params: Params, batch: Batch) -> None:
        self.spec = spec
        ragged = batch.lengths is not None
        self.model = onnx_model(spec, params, ragged).SerializeToString()
        self.session = self._session()
        full = filled(spec, batch)
        self.states = ("h", "c") if spec.cell == "lstm" else ("h",)
        self.x = full.x.astype(np.float32)
        first = {f"{name}0": getattr(full, f"{name}0").astype(np.float32) for name in self.states}
        constant = {"lengths": batch.lengths.astype(np.int32)} if batch.lengths is not None else {}
        self.first = first | constant
        self.binding = self._bind({"x": self.x} | self.first, self._results(batch.steps, batch.batch), {})
        self.tokens = [self._on_device(token[None]) for token in self.x]
        self.position, self.latest = 0, self.binding
        if not (ragged or spec.bidirectional):
            ping, pong = self._results(1, batch.batch), self._results(1, batch.batch)
            for name, value in first.items():
                pong[f"{name[0]}_n"].update_inplace(value)
            after_pong, after_ping = ({name: last[f"{name[0]}_n"] for name in first} for last in (pong, ping))
            self.turns = self._bind({}, ping, after_pong), self._bind({}, pong, after_ping)

    def _session(self, profile: Path | None = None) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        if threads := os.environ.get("OMP_NUM_THREADS"):
            options.intra_op_num_threads = int(threads)
        if profile is not None:
            options.enable_profiling, options.profile_file_prefix = True, str(profile)
        return onnxruntime.InferenceSession(self.model, options, providers=[PROVIDERS[self.spec.device]])

    def _on_device(self, value: np.ndarray) -> onnxruntime.OrtValue:
        return onnxruntime.OrtValue.ortvalue_from_numpy(value, self.spec.device, 0)

    def _results(self, steps: int, batch: int) -> Values:
        spec = self.spec
        state = (spec.num_layers * spec.num_directions, batch, spec.hidden_size)
        shapes = {"y": (steps, batch, spec.output_size)} | {f"{name}_n": state for name in self.states}
        return {name: self._on_device(np.zeros(shape, np.float32)) for name, shape in shapes.items()}

    def _bind(self, inputs: dict[str, np.ndarray], outputs: Values, before: Values) -> onnxruntime.IOBinding:
        binding = self.session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, self._on_device(value))
        for name, value in before.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        return binding

    def forward(self) -> None:
        self.session.run_with_iobinding(self.binding)
        self.latest = self.binding

    def forward_backward(self) -> None:
        raise NotImplementedError(TRAINS_NOT)

    def step(self) -> None:
        binding = self.turns[self.position % 2]
        binding.bind_ortvalue_input("x", self.tokens[self.position % len(self.tokens)])
        self.session.run_with_iobinding(binding)
        self.position, self.latest = self.position + 1, binding

    def wait(self) -> None:
        """ONNX Runtime returns from a session only when it is done, on CUDA too unless a run option says otherwise."""

    def _found(self) -> dict[str, np.ndarray]:
        names = ("y", *(f"{name}_n" for name in self.states))
        return {name: np.array(value.numpy()) for name, value in zip(names, self.latest.get_outputs(), strict=True)}

    def outputs(self) -> np.ndarray:
        return self._found()["y"]

    def final_state(self) -> dict[str, np.ndarray]:
        return {name: value for name, value in self._found().items() if name != "y"}

    def gradients(self) -> dict[str, np.ndarray]:
        raise NotImplementedError(TRAINS_NOT)

    def provenance(self) -> dict[str, str]:
        threads = str(self.session.get_session_options().intra_op_num_threads or "default")
        return {"ran": ran(self.spec.device, self._providers()), "onnxruntime": onnxruntime.__version__, "threads": threads}

    def _providers(self) -> set[str]:
        """By whom nodes are run: told by the session, or, where it has several providers, by a profile of one more call."""
        found = self.session.get_providers()
        if len(found) == 1:
            return set(found)
        with tempfile.TemporaryDirectory() as folder:
            session = self._session(Path(folder) / "profile")
            binding = session.io_binding()
            for name, value in {"x": self.x, **self.first}.items():
                binding.bind_ortvalue_input(name, self._on_device(value))
            for output in session.get_outputs():
                binding.bind_output(output.name, self.spec.device)
            session.run_with_iobinding(binding)
            return providers_of(json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")))


def providers_of(events: Iterable[Mapping[str, Any]]) -> set[str]:
    """The providers of all nodes in a profile of ONNX Runtime."""
    nodes = (event.get("args", {}) for event in events if event.get("cat") == "Node")
    return {arguments["provider"] for arguments in nodes if "provider" in arguments}


def ran(device: str, providers: Iterable[str]) -> str:
    """The provider of the device, if every node ran by it; else all of them, which is none of `RUNS`."""
    found = "+".join(sorted(providers))
    return found if found == PROVIDERS[device][0] else f"{found or 'nothing'} on {device}"
