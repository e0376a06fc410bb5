"""The definition: forward and backward through time written by hand, in any float dtype; in float64 the reference of all.

Also written to be fast: one GEMM for all inputs, no allocation inside the forward loop, gates in place.
"""

from __future__ import annotations

import contextlib

import numpy as np

from impls import Unavailable, refusals
from impls.batch import Batch, check_batch, filled
from impls.frameworks.numpy import models as numpy_models
from impls.frameworks.numpy import recurrent
from impls.frameworks.numpy.arithmetic import TensorFloat32
from impls.interface import Phase
from impls.params import Params, check_params
from impls.specs.recurrent import Recurrent, Spec

# Importing ml_dtypes is what teaches NumPy the name bfloat16; without it there is one dtype less.
with contextlib.suppress(ImportError):
    import ml_dtypes as ml_dtypes

RUNS = ("numpy",)
DEVICES = ("cpu",)
LAYERS = {"lstm": recurrent.LSTMLayer, "gru": recurrent.GRULayer, "rnn": recurrent.RNNLayer}


def refuses(spec: Spec, phase: Phase, ragged: bool) -> str | None:
    return refusals.first(refusals.in_principle(spec, phase, ragged), refusals.device(spec, *DEVICES), _no_bfloat16(spec))


def _no_bfloat16(spec: Spec) -> str | None:
    if spec.dtype == "bfloat16" and "bfloat16" not in np.sctypeDict:
        return "computes in bfloat16 only through the package ml_dtypes; pip install ml_dtypes, or ask for float32"
    return None


def load(spec: Spec, params: Params, batch: Batch) -> Network | numpy_models.Network:
    if reason := _no_bfloat16(spec):
        raise Unavailable(reason)
    check_params(spec, params)
    check_batch(spec, batch)
    return Network(spec, params, batch) if isinstance(spec, Recurrent) else numpy_models.Network(spec, params, batch)


class Network:
    """A stack of layers in one or two directions, each layer reading the concatenated outputs of the one below."""

    def __init__(self, spec: Recurrent, params: Params, batch: Batch) -> None:
        self.spec = spec
        dtype = np.dtype(spec.stored_dtype)
        kind = TensorFloat32 if spec.dtype == "tensorfloat32" else np.ndarray
        full = filled(spec, batch)
        no_cells = np.zeros((spec.num_layers * spec.num_directions, batch.batch, spec.hidden_size))
        self.x = full.x.astype(dtype).view(kind)
        self.h0, self.c0, self.grad_y, self.grad_h_n, self.grad_c_n = (
            np.asarray(no_cells if value is None else value, dtype).view(kind)
            for value in (full.h0, full.c0, full.grad_y, full.grad_h_n, full.grad_c_n)
        )
        self.live = None if batch.lengths is None else np.arange(batch.steps)[:, None] < batch.lengths
        weights = {name: np.ascontiguousarray(value, dtype).view(kind) for name, value in params.items()}
        self.weights = [_layer_weights(weights, suffix) for suffix in spec.suffixes()]
        self.layers = [LAYERS[spec.cell](layer, batch.steps, batch.batch) for layer in self.weights]
        self.step_layers = [] if spec.bidirectional else [LAYERS[spec.cell](layer, 1, batch.batch) for layer in self.weights]
        outputs = batch.steps, batch.batch, spec.output_size
        self.activations = [np.empty(outputs, dtype).view(kind) for _ in range(spec.num_layers)]
        self.step_activations = [array[:1].copy() for array in self.activations]
        self.h_n, self.c_n = self.h0.copy(), self.c0.copy()
        self.h_stream, self.c_stream, self.position = self.h0.copy(), self.c0.copy(), 0
        self.latest = self.activations[-1]
        self.latest_state = self.h_n, self.c_n
        self.last_gradients: dict[str, np.ndarray] = {}

    def forward(self) -> None:
        self._forward(save=False)

    def _forward(self, save: bool) -> None:
        x, directions, features = self.x, self.spec.num_directions, self.spec.recurrent_size
        for index, layer in enumerate(self.layers):
            depth, direction = divmod(index, directions)
            below = x if depth == 0 else self.activations[depth - 1]
            y = self.activations[depth][:, :, direction * features : (direction + 1) * features]
            self.h_n[index], self.c_n[index] = layer.forward(
                below, self.h0[index], self.c0[index], y, reverse=bool(direction), live=self.live, save=save
            )
        self.latest, self.latest_state = self.activations[-1], (self.h_n, self.c_n)

    def forward_backward(self) -> None:
        self._forward(save=True)
        directions, features = self.spec.num_directions, self.spec.recurrent_size
        grad_h0, grad_c0 = np.empty_like(self.h0), np.empty_like(self.c0)
        grad_y, gradients = self.grad_y, {}
        for depth in reversed(range(self.spec.num_layers)):
            below = self.x if depth == 0 else self.activations[depth - 1]
            grad_below = np.zeros_like(below)
            for direction in range(directions):
                index = depth * directions + direction
                part = slice(direction * features, (direction + 1) * features)
                grad_x, grad_h0[index], grad_c0[index], of_weights = self.layers[index].backward(
                    below, self.h0[index], self.activations[depth][:, :, part], grad_y[:, :, part],
                    self.grad_h_n[index], self.grad_c_n[index], reverse=bool(direction), live=self.live,
                )  # fmt: skip
                grad_below += grad_x
                suffix = self.spec.suffixes()[index]
                gradients |= {f"{name}_{suffix}": value for name, value in of_weights.items()}
            grad_y = grad_below
        self.last_gradients = gradients | {"x": grad_y, "h0": grad_h0}
        if self.spec.cell == "lstm":
            self.last_gradients["c0"] = grad_c0

    def step(self) -> None:
        x = self.x[self.position % len(self.x)][None]
        for index, layer in enumerate(self.step_layers):
            y = self.step_activations[index]
            self.h_stream[index], self.c_stream[index] = layer.forward(
                x, self.h_stream[index], self.c_stream[index], y, reverse=False, live=None, save=False
            )
            x = y
        self.position += 1
        self.latest, self.latest_state = self.step_activations[-1], (self.h_stream, self.c_stream)

    def wait(self) -> None:
        """NumPy returns only when it is done."""

    def outputs(self) -> np.ndarray:
        return np.array(self.latest)

    def final_state(self) -> dict[str, np.ndarray]:
        h_n, c_n = self.latest_state
        return {"h_n": np.array(h_n)} | ({"c_n": np.array(c_n)} if self.spec.cell == "lstm" else {})

    def gradients(self) -> dict[str, np.ndarray]:
        return {name: np.array(value, self.x.dtype) for name, value in self.last_gradients.items()}

    def provenance(self) -> dict[str, str]:
        return {"ran": "numpy", "numpy": np.__version__}


def _layer_weights(weights: dict[str, np.ndarray], suffix: str) -> dict[str, np.ndarray]:
    """The parameters of one layer-direction under their names without the suffix."""
    ending = f"_{suffix}"
    return {name.removesuffix(ending): value for name, value in weights.items() if name.endswith(ending)}
