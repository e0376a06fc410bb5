"""Cases, and the grammar of `--where` that chooses among them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, get_args

import numpy as np

from impls import Batch, Launch, Params, Phase, Spec, UnknownName
from impls.batch import Draw, check_batch, keyed
from impls.params import random_params
from impls.specs.recurrent import CELLS, spec_from_dict, spec_to_dict
from lstm_bench.errors import UserError
from results.claims import COMPARISONS, read_condition

# One thing to measure: a network, its sizes in time and batch, and the phase; its key, its data, its reduced case.

PHASES: tuple[Phase, ...] = ("forward", "forward_backward", "step")
LAUNCHES: tuple[Launch, ...] = get_args(Launch)
OWN_FIELDS = ("steps", "batch", "phase", "launch", "ragged", "initial_state", "seed")
# What a record says of itself: a factor of that name would be hidden by it wherever records are read as a table.
RECORD_FIELDS = (
    "run", "machine", "protocol", "study", "case", "backend", "replicate", "run_key", "replicate_key", "status", "kind",
    "reason", "metric", "unit", "samples", "blocks", "notes",
)  # fmt: skip
Factor = str | int | float


class InvalidCase(UserError, ValueError):
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
        if hidden := [name for name, _ in self.factors if name in RECORD_FIELDS]:
            raise InvalidCase(
                f"a factor may not be called {hidden[0]!r}: every record has a field of that name; name it otherwise"
            )

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
        """Inputs, initial states, lengths and cotangents, drawn from the seed (see `data`)."""
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

    def reduced_for_validation(self) -> Case:
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


# Choosing cases by their parameters: `hidden_size=256`, `mismatch<=0.01`, `bias=false`, `phase=step`; or `case=KEY`.
#
# The one grammar of `--where`: NAME, one of = != < <= > >=, VALUE. A value is read as the parameter's own kind: true or
# false, a number (whole or decimal, 1e-3 too), or a word, which knows = and != alone.

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?inf")
_EQUALITY = ("=", "!=")
MOST_VALUES = 24  # of a parameter, told where another one was asked for

Known = Mapping[str, Sequence[Any]]  # of each parameter the values that cases have


class InvalidFilter(UserError, ValueError):
    """A filter that cannot be read, or that no case passes."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter as it was read."""

    text: str
    name: str
    symbol: str
    wanted: str

    def passes(self, values: Mapping[str, Any]) -> bool:
        """Whether a case of these parameters passes; one without the parameter, or with one of another kind, does not."""
        if self.name not in values:
            return False
        value = values[self.name]
        wanted = _read(value, self.wanted)
        if wanted is None:  # a word, where this case has a number
            return self.symbol == "!="
        return COMPARISONS[self.symbol](value, wanted)

    def check(self, known: Known) -> None:
        """Raise `UnknownName` for a parameter that no case has, `InvalidFilter` for a value of a kind that none has."""
        if self.name not in known:
            raise UnknownName("parameter", self.name, known)
        there = known[self.name]
        fitting = [value for value in there if _read(value, self.wanted) is not None]
        if not fitting:
            kinds = " or ".join(sorted({_kind(value) for value in there}))
            raise InvalidFilter(
                f"filter {self.text!r}: {self.name} is {kinds}, and {self.wanted!r} is not; "
                f"write it as {self.name}={_shown(min(there, key=_order))}"
            )
        if self.symbol not in _EQUALITY and not any(_is_number(value) for value in fitting):
            raise InvalidFilter(
                f"filter {self.text!r}: {self.name} is {_kind(fitting[0])}, which has no order; "
                f"choose by = or !=, as {self.name}={_shown(min(there, key=_order))}"
            )


def read(text: str) -> Filter:
    """Raises `InvalidFilter`."""
    condition = read_condition(text)
    if condition is None:
        raise InvalidFilter(
            f"cannot read the filter {text!r}; write a parameter, one of = != < <= > >=, and a value, as hidden_size=256, "
            "mismatch<=0.01, bias=false or phase=step"
        )
    return Filter(text, *condition)


def parameters(cases: Iterable[Case]) -> Known:
    """Every parameter of these cases with its values: what filters may name."""
    found: dict[str, dict[str, Any]] = {}
    for case in cases:
        for name, value in _values(case).items():
            found.setdefault(name, {})[repr(value)] = value  # 1 and true are equal, and two values
    return {name: tuple(values.values()) for name, values in found.items()}


def choose(cases: Sequence[Case], filters: Sequence[str], known: Known | None = None) -> tuple[Case, ...]:
    """The cases that pass every filter.

    Args:
        cases: of one study.
        filters: as `read` takes them.
        known: the parameters of all cases that are asked, of other studies too; those of `cases` if None.

    Raises:
        InvalidFilter: one cannot be read, or its value is of another kind than the parameter's.
        UnknownName: no case that is asked has such a parameter.
    """
    if not filters:
        return tuple(cases)
    asked = [read(text) for text in filters]
    known = parameters(cases) if known is None else known
    for one in asked:
        one.check(known)
    return tuple(case for case in cases if all(one.passes(_values(case)) for one in asked))


def alternatives(cases: Sequence[Case], filters: Sequence[str]) -> str:
    """For each filter `name=value` whose value no case has, those the cases do have: " (init is one of chrono:784, …)"."""
    choices, known = [], parameters(cases)
    for one in (one for text in filters if (one := read(text)).symbol == "=" and one.name not in ("case",)):
        if not any(one.passes({one.name: value}) for value in known[one.name]):
            there = sorted(known[one.name], key=_order)
            more = f" and {len(there) - MOST_VALUES} more" if len(there) > MOST_VALUES else ""
            choices.append(f"{one.name} is one of {', '.join(map(_shown, there[:MOST_VALUES]))}{more}")
    return f" ({'; '.join(choices)})" if choices else ""


def _values(case: Case) -> dict[str, Any]:
    return {"case": case.key} | case.to_dict()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read(value: object, wanted: str) -> bool | float | str | None:
    """`wanted` as the kind of `value`; None where it is none of that kind."""
    if isinstance(value, bool):
        return {"true": True, "false": False}.get(wanted.lower())
    if not _is_number(value):
        return wanted
    if not _NUMBER.fullmatch(wanted):
        return None
    return int(wanted) if re.fullmatch(r"[+-]?\d+", wanted) else float(wanted)


def _kind(value: object) -> str:
    return "true or false" if isinstance(value, bool) else "a number" if _is_number(value) else "a word"


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _order(value: Any) -> tuple[bool, float, str]:
    return (False, value, "") if _is_number(value) else (True, 0.0, str(value))
