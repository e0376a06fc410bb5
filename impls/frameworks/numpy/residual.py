"""A residual model with one batch, in NumPy: what the backend `numpy` loads for all that is no plain recurrent stack."""

from __future__ import annotations

import numpy as np

from impls.batch import Batch, filled
from impls.frameworks.numpy import models, tape
from impls.frameworks.numpy.tape import Value
from impls.frameworks.numpy.tensorfloat32 import TensorFloat32
from impls.params import Params
from impls.specs.recurrent import Residual
from impls.specs.transformer import TransformerSpec


class Network:
    """Inference on weights that need no gradient, so that nothing is remembered; training on the same that do."""

    def __init__(self, spec: Residual, params: Params, batch: Batch) -> None:
        self.spec, dtype = spec, np.dtype(spec.stored_dtype)
        kind = TensorFloat32 if spec.dtype == "tensorfloat32" else np.ndarray
        full = filled(spec, batch)
        letters = list(spec.state_shapes(batch.batch))
        self.arrays = {name: np.asarray(value, dtype).view(kind) for name, value in params.items()}
        self.x = np.asarray(full.x, dtype).view(kind)
        self.first = {f"{letter}0": np.asarray(getattr(full, f"{letter}0"), dtype) for letter in letters}
        given = [full.grad_y, *(getattr(full, f"grad_{letter}_n") for letter in letters)]
        self.cotangents = [np.asarray(value, dtype) for value in given]
        self.names = [f"{letter}_n" for letter in letters]
        self.weights = {name: Value(array) for name, array in self.arrays.items()}
        self.start: models.State = tuple(Value(array) for array in self.first.values())
        self.stream, self.position, self.memory = self.start, 0, self._memory()
        self.y, self.last = Value(self.x), self.start
        self.found: dict[str, np.ndarray] = {}

    def _memory(self) -> models.Memory | None:
        return models.Memory(self.spec.capacity(len(self.x))) if isinstance(self.spec, TransformerSpec) else None

    def forward(self) -> None:
        self.y, self.last = models.run(self.spec, self.weights, Value(self.x), self.start)

    def forward_backward(self) -> None:
        wanted = {name: Value(array, needed=True) for name, array in (self.arrays | {"x": self.x} | self.first).items()}
        weights = {name: wanted[name] for name in self.arrays}
        first = tuple(wanted[name] for name in self.first)
        self.y, self.last = models.run(self.spec, weights, wanted["x"], first)
        results = list(zip((self.y, *self.last), self.cotangents, strict=True))
        self.found = dict(zip(wanted, tape.gradients(results, list(wanted.values())), strict=True))

    def prefill(self) -> None:
        self.stream, self.position, self.memory = self.start, len(self.x), self._memory()
        self.y, self.stream = models.run(self.spec, self.weights, Value(self.x), self.stream, self.memory)
        self.last = self.stream

    def step(self) -> None:
        token = Value(self.x[self.position % len(self.x)][None])
        self.y, self.stream = models.run(self.spec, self.weights, token, self.stream, self.memory)
        self.last, self.position = self.stream, self.position + 1

    def wait(self) -> None:
        """NumPy returns only when it is done."""

    def outputs(self) -> np.ndarray:
        return self.y.array.copy()

    def final_state(self) -> dict[str, np.ndarray]:
        return {name: value.array.copy() for name, value in zip(self.names, self.last, strict=True)}

    def gradients(self) -> dict[str, np.ndarray]:
        return {name: value.copy() for name, value in self.found.items()}

    def provenance(self) -> dict[str, str]:
        return {"ran": "numpy", "numpy": np.__version__}
