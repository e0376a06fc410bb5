"""One thing to measure: a network, its sizes in time and batch, and the phase; its key, its data, its shrunken twin."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, get_args

import numpy as np

from impls import Batch, Launch, Params, Phase, Spec, UnknownName
from impls.batch import Draw, check_batch, keyed
from impls.params import random_params
from impls.specs.recurrent import CELLS, spec_from_dict, spec_to_dict

PHASES: tuple[Phase, ...] = ("forward", "forward_backward", "step")
LAUNCHES: tuple[Launch, ...] = get_args(Launch)
OWN_FIELDS = ("steps", "batch", "phase", "launch", "ragged", "initial_state", "seed")
Factor = str | int | float


class InvalidCase(ValueError):
    """A case that cannot exist; the message says what was asked and what is allowed."""


@dataclass(frozen=True, slots=True)
class Case:
    """`ragged` draws lengths between 1 and T from the seed; `initial_state` draws h0 and c0, else they are zero.

    launch: `eager`, kernels launched one by one by the framework, or `graph`, all of them replayed from one CUDA graph.
    factors: what a study varies beyond the network and its sizes (init, task, …), by name; they stand in the key and lie flat
    in records, so that `--where init=chrono` finds them like anything else.
    """

    spec: Spec
    steps: int
    batch: int
    phase: Phase = "forward"
    ragged: bool = False
    initial_state: bool = False
    seed: int = 0
    factors: tuple[tuple[str, Factor], ...] = ()
    launch: Launch = "eager"

    def __post_init__(self) -> None:
        for name in ("steps", "batch"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidCase(f"{name} must be a whole number of at least 1; got {value!r}")
        if self.phase not in PHASES:
            raise InvalidCase(f"phase must be one of {', '.join(PHASES)}; got {self.phase!r}")
        if self.launch not in LAUNCHES:
            raise InvalidCase(f"launch must be one of {', '.join(LAUNCHES)}; got {self.launch!r}")
        if self.initial_state and not self.spec.state_shapes(self.batch):
            raise InvalidCase(f"a {self.spec.cell} starts from no state but an empty cache; ask for initial_state=False")
        taken = {*OWN_FIELDS, *spec_to_dict(self.spec)}
        if clash := [name for name, _ in self.factors if name in taken]:
            raise InvalidCase(f"a factor may not be called {clash[0]!r}: every case has a parameter of that name")

    def factor(self, name: str) -> Factor:
        """The value of a factor. Raises `UnknownName` with those this case has."""
        values = dict(self.factors)
        if name not in values:
            raise UnknownName("factor", name, values)
        return values[name]

    @property
    def key(self) -> str:
        """A stable, readable name shared by records, asv parameters and pytest ids; defaults are left out."""
        spec = self.spec
        parts = [*spec.key_parts(), f"T{self.steps}", f"B{self.batch}", self.phase, spec.dtype, spec.device]
        parts += ["graph"] * (self.launch == "graph")
        parts += ["ragged"] * self.ragged + ["state"] * self.initial_state
        parts += [f"seed{self.seed}"] if self.seed else []
        parts += [f"{name}={value}" for name, value in self.factors]
        return "-".join(parts)

    @property
    def remembers(self) -> bool:
        """Whether what is carried from step to step grows with the context."""
        return self.spec.state_bytes(1, 2) > self.spec.state_bytes(1, 1)

    @property
    def tokens(self) -> int:
        """Tokens one call processes: B for a streaming step, else T·B."""
        return self.batch if self.phase == "step" else self.steps * self.batch

    def data(self) -> tuple[Params, Batch]:
        """Weights and inputs drawn from the seed, float64: normal inputs and cotangents, never zeros.

        For a GPU inputs and cotangents are left to be drawn there, nearly normal (see `impls.batch`).
        """
        return random_params(self.spec, self.seed), self.make_batch()

    def make_batch(self) -> Batch:
        spec, random = self.spec, np.random.default_rng([self.seed, 2])
        normal, trains = random.standard_normal, self.phase == "forward_backward"
        states = spec.state_shapes(self.batch) if self.initial_state else {}

        def sequence(width: int, stream: int) -> np.ndarray | Draw:
            shape = (self.steps, self.batch, width)
            return Draw(shape, keyed(self.seed, stream)) if spec.device == "cuda" else normal(shape)

        batch = Batch(
            x=sequence(spec.input_size, 2),
            h0=normal(states["h"]) if "h" in states else None,
            c0=normal(states["c"]) if "c" in states else None,
            lengths=self._lengths(random) if self.ragged else None,
            grad_y=sequence(spec.output_size, 3) if trains else None,
        )
        check_batch(spec, batch)
        return batch

    def _lengths(self, random: np.random.Generator) -> np.ndarray:
        """Uniform on 1…T, with one sequence of full length and, from B = 2, one of a single step."""
        lengths = random.integers(1, self.steps + 1, self.batch)
        lengths[0] = self.steps
        lengths[1:2] = 1
        return lengths

    def shrunk(self) -> Case:
        """The same network on few short sequences, for checking answers: at most 12 steps of 32 sequences.

        In 16 bits of 3 sequences: NumPy, whose naive error bounds the backend's, has no fast product for them.
        """
        few = 3 if self.spec.dtype in ("float16", "bfloat16") else 32
        return replace(self, steps=min(self.steps, 12), batch=min(self.batch, few))

    def counts(self) -> dict[str, int]:
        """Closed-form counts that every record carries, so that rates can be computed without this code.

        tokens, flops and bytes are of one call; `least_bytes` is what has to cross memory once: weights, inputs, outputs, and
        in a stream the state. A step is counted after T tokens.
        """
        spec, item = self.spec, self.spec.parameter_bytes() // self.spec.parameter_count()
        training, streams = self.phase == "forward_backward", self.phase == "step"
        features = spec.input_size + spec.output_size
        least = (2 if training else 1) * (spec.parameter_bytes() + self.tokens * features * item)
        state_bytes = spec.state_bytes(self.batch, self.steps)
        flops = spec.flops_per_token(context=self.steps) if streams else spec.sequence_flops(self.steps, backward=training)
        return {
            "tokens": self.tokens,
            "flops": self.batch * flops,
            "parameters": spec.parameter_count(),
            "parameter_bytes": spec.parameter_bytes(),
            "state_bytes": state_bytes,
            "least_bytes": least + (state_bytes if streams else 0),
            "model_bytes": self.model_bytes(),
        }

    def model_bytes(self) -> int:
        """Analytic memory of one call in bytes: weights, inputs, every layer's outputs, states; for training also gradients
        and saved activations."""
        spec, item = self.spec, self.spec.parameter_bytes() // self.spec.parameter_count()
        inputs, outputs = self.tokens * spec.input_size * item, self.tokens * spec.output_size * item
        layers = spec.num_layers * outputs
        total = spec.parameter_bytes() + inputs + layers + spec.state_bytes(self.batch, self.steps)
        if self.phase == "forward_backward":
            total += spec.parameter_bytes() + inputs + outputs + spec.saved_bytes(self.steps, self.batch)
        return total

    def to_dict(self) -> dict[str, Any]:
        """Plain values, one level deep, for a record or another process; `from_dict` is the inverse."""
        own = {name: getattr(self, name) for name in OWN_FIELDS}
        return spec_to_dict(self.spec) | own | dict(self.factors)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Case:
        """The inverse of `to_dict`. Records from before there were launch modes are eager."""
        values = {"launch": "eager"} | values
        sizes = {field.name for field in fields(CELLS[values["cell"]])} if values.get("cell") in CELLS else set(values)
        spec = {name: value for name, value in values.items() if name == "cell" or name in sizes}
        own = {name: values[name] for name in OWN_FIELDS}
        factors = tuple((name, value) for name, value in values.items() if name not in spec and name not in own)
        return Case(spec_from_dict({k: v for k, v in spec.items() if k not in own}), **own, factors=factors)
