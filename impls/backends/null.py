"""Does nothing and answers with zeros: its time is what the harness itself costs."""

from __future__ import annotations

import numpy as np

from impls.batch import Batch, check_batch
from impls.interface import Phase
from impls.params import Params, check_params
from impls.specs.recurrent import Spec

RUNS = ("nothing",)


def refuses(spec: Spec, phase: Phase, ragged: bool) -> str | None:
    return None


def load(spec: Spec, params: Params, batch: Batch) -> Nothing:
    check_params(spec, params)
    check_batch(spec, batch)
    return Nothing(spec, batch)


class Nothing:
    def __init__(self, spec: Spec, batch: Batch) -> None:
        self.spec, self.batch, self.steps = spec, batch, batch.steps

    def forward(self) -> None:
        self.steps = self.batch.steps

    def forward_backward(self) -> None:
        self.steps = self.batch.steps

    def step(self) -> None:
        self.steps = 1

    def wait(self) -> None:
        """Nothing is under way."""

    def outputs(self) -> np.ndarray:
        return np.zeros((self.steps, self.batch.batch, self.spec.output_size))

    def final_state(self) -> dict[str, np.ndarray]:
        shapes = self._state_shapes()
        return {f"{name[0]}_n": np.zeros(shape) for name, shape in shapes.items()}

    def gradients(self) -> dict[str, np.ndarray]:
        shapes = self.spec.parameter_shapes() | {"x": self.batch.x.shape} | self._state_shapes()
        return {name: np.zeros(shape) for name, shape in shapes.items()}

    def _state_shapes(self) -> dict[str, tuple[int, ...]]:
        return {f"{letter}0": shape for letter, shape in self.spec.state_shapes(self.batch.batch).items()}

    def provenance(self) -> dict[str, str]:
        return {"ran": "nothing"}
