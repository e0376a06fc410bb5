"""Residual models on a tape, and as a backend's network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from impls.batch import Batch, filled
from impls.frameworks.numpy import arithmetic
from impls.frameworks.numpy.arithmetic import TensorFloat32, Value
from impls.params import Params
from impls.specs.recurrent import LSTMStackSpec, MinLSTMSpec, Residual, SSMSpec
from impls.specs.residual import TransformerSpec

# The residual models written as their papers define them: attention with all its weights, recurrences step by step.

Weights = dict[str, Value]  # of one block, or of the whole model
State = tuple[Value, ...]
ROTARY_BASE = 10_000.0


@dataclass(slots=True)
class Memory:
    """Keys and values of each layer, the latest `capacity` tokens of them, and how many tokens have passed."""

    capacity: int
    passed: int = 0
    kept: dict[int, tuple[Value, Value]] = field(default_factory=dict)


def run(spec: Residual, weights: Weights, x: Value, state: State, memory: Memory | None = None) -> tuple[Value, State]:
    """x [T, B, I] and the first state to y [T, B, H] and the last state. `memory`: of a Transformer that streams."""
    stream = arithmetic.linear(x, weights["weight_in"]) if "weight_in" in weights else x
    last: list[State] = []
    for layer in range(spec.num_layers):
        block = {
            name.removeprefix(f"layers.{layer}."): value
            for name, value in weights.items()
            if name.startswith(f"layers.{layer}.")
        }
        if isinstance(spec, TransformerSpec):
            stream = _attention_block(spec, block, stream, memory, layer)
        else:
            added, after = _BLOCKS[spec.cell](spec, block, stream, tuple(value[layer] for value in state))
            stream = stream + added
            last.append(after)
    if memory:
        memory.passed += len(x)
    return arithmetic.layer_norm(stream, weights["norm.weight"]), tuple(
        arithmetic.stack(values) for values in zip(*last, strict=True)
    )


def _attention_block(spec: TransformerSpec, weights: Weights, stream: Value, memory: Memory | None, layer: int) -> Value:
    steps, batch = stream.shape[:2]
    passed = memory.passed if memory else 0
    of_query, of_kv, size = spec.num_heads * spec.head_size, spec.kv_heads * spec.head_size, spec.head_size
    read = arithmetic.linear(arithmetic.layer_norm(stream, weights["norm_attention.weight"]), weights["weight_qkv"])
    positions = np.arange(passed, passed + steps)

    def heads(part: Value, count: int) -> Value:
        """[T, B, n·d] to [B, n_kv, n / n_kv, T, d]."""
        return part.reshape(steps, batch, spec.kv_heads, count, size).transpose(1, 2, 3, 0, 4)

    query = _rotate(heads(read[..., :of_query], spec.num_heads // spec.kv_heads), positions)
    key = _rotate(heads(read[..., of_query : of_query + of_kv], 1), positions)
    value = heads(read[..., of_query + of_kv :], 1)
    if memory:
        if layer in memory.kept:
            key, value = (
                arithmetic.concatenate([old, new], 3) for old, new in zip(memory.kept[layer], (key, value), strict=True)
            )
        memory.kept[layer] = key[:, :, :, -memory.capacity :], value[:, :, :, -memory.capacity :]
        reach = memory.capacity + steps - 1  # what the first of these tokens may see, and they themselves
        key, value = key[:, :, :, -reach:], value[:, :, :, -reach:]
    behind = positions[:, None] - np.arange(passed + steps - key.shape[3], passed + steps)
    allowed = (behind >= 0) | spec.bidirectional
    if spec.window:
        allowed &= behind < spec.window
    scale = Value(np.asarray(size**-0.5, key.array.dtype))
    attended = arithmetic.softmax(query * scale @ key.transpose(0, 1, 2, 4, 3), allowed) @ value
    joined = attended.transpose(3, 0, 1, 2, 4).reshape(steps, batch, spec.hidden_size)
    stream = stream + arithmetic.linear(joined, weights["weight_out"])
    inner = arithmetic.gelu(
        arithmetic.linear(arithmetic.layer_norm(stream, weights["norm_feed_forward.weight"]), weights["weight_up"])
    )
    return stream + arithmetic.linear(inner, weights["weight_down"])


def _rotate(x: Value, positions: np.ndarray) -> Value:
    """Features i and i + d/2 of x [..., T, d] as a complex number, turned by position × base^(−2i/d) (Su et al. 2021)."""
    size = x.shape[-1]
    angles = positions[:, None] * ROTARY_BASE ** (-np.arange(0, size, 2) / size)
    cos, sin = (Value(turn.astype(x.array.dtype)) for turn in (np.cos(angles), np.sin(angles)))
    first, second = x.split(2)
    return arithmetic.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


def _lstm_block(spec: LSTMStackSpec, weights: Weights, stream: Value, state: State) -> tuple[Value, State]:
    x, (h, c) = arithmetic.layer_norm(stream, weights["norm.weight"]), state
    bias = weights["lstm.bias_ih_l0"] + weights["lstm.bias_hh_l0"]
    outputs = []
    for t in range(len(x)):
        z = arithmetic.linear(x[t], weights["lstm.weight_ih_l0"]) + arithmetic.linear(h, weights["lstm.weight_hh_l0"]) + bias
        i, f, g, o = z.split(4)
        c = arithmetic.sigmoid(f) * c + arithmetic.sigmoid(i) * arithmetic.tanh(g)
        h = arithmetic.sigmoid(o) * arithmetic.tanh(c)
        outputs.append(h)
    return arithmetic.stack(outputs), (h, c)


def _minlstm_block(spec: MinLSTMSpec, weights: Weights, stream: Value, state: State) -> tuple[Value, State]:
    x = arithmetic.layer_norm(stream, weights["norm.weight"])
    gates = arithmetic.linear(x, weights["weight_gates"]) + weights["bias_gates"]
    f, i, g = gates.split(3)
    f, i = arithmetic.sigmoid(f), arithmetic.sigmoid(i)
    outputs = _linear_recurrence(f / (f + i), i / (f + i) * g, state[0])
    return arithmetic.linear(arithmetic.stack(outputs), weights["weight_out"]), (outputs[-1],)


def _ssm_block(spec: SSMSpec, weights: Weights, stream: Value, state: State) -> tuple[Value, State]:
    steps, batch = stream.shape[:2]
    v, z = arithmetic.linear(arithmetic.layer_norm(stream, weights["norm.weight"]), weights["weight_in"]).split(2)
    step = arithmetic.softplus(arithmetic.linear(v, weights["weight_step"]) + weights["bias_step"])
    write, read = (part.reshape(steps, batch, -1, 1) for part in arithmetic.linear(v, weights["weight_bc"]).split(2))
    rate = -arithmetic.exp(weights["log_decay"])  # [N, E]
    exponent = step.reshape(steps, batch, 1, spec.channels) * rate
    held = arithmetic.expm1(exponent) / rate * write * v.reshape(steps, batch, 1, spec.channels)
    first = state[0].reshape(batch, spec.state_size, spec.channels)
    states = _linear_recurrence(arithmetic.exp(exponent), held, first)
    ones = Value(np.ones((1, spec.state_size), stream.array.dtype))
    summed = (ones @ (arithmetic.stack(states) * read)).reshape(steps, batch, spec.channels)
    y = (summed + weights["skip"] * v) * arithmetic.silu(z)
    return arithmetic.linear(y, weights["weight_out"]), (states[-1].reshape(batch, -1),)


def _linear_recurrence(a: Value, b: Value, h: Value) -> Sequence[Value]:
    """Every h of h' = a·h + b."""
    states = []
    for t in range(len(a)):
        h = a[t] * h + b[t]
        states.append(h)
    return states


_BLOCKS: dict[str, Callable[..., tuple[Value, State]]] = {
    LSTMStackSpec.cell: _lstm_block,
    MinLSTMSpec.cell: _minlstm_block,
    SSMSpec.cell: _ssm_block,
}


# A residual model with one batch, in NumPy: what the backend `numpy` loads for all that is no plain recurrent stack.


class Network:
    """Inference on weights that need no gradient, so that nothing is remembered; training on the same that do."""

    def __init__(self, spec: Residual, params: Params, batch: Batch) -> None:
        self.spec, dtype = spec, np.dtype(spec.stored_dtype)
        kind = TensorFloat32 if spec.dtype == "tensorfloat32" else np.ndarray
        full = filled(spec, batch)
        letters = list(spec.state_shapes(batch.batch))
        self.arrays = {name: np.asarray(value, dtype).view(kind) for name, value in params.items()}
        self.x = np.asarray(full.x, dtype).view(kind)
        self.initial_state = {f"{letter}0": np.asarray(getattr(full, f"{letter}0"), dtype) for letter in letters}
        given = [full.grad_y, *(getattr(full, f"grad_{letter}_n") for letter in letters)]
        self.cotangents = [np.asarray(value, dtype) for value in given]
        self.names = [f"{letter}_n" for letter in letters]
        self.weights = {name: Value(array) for name, array in self.arrays.items()}
        self.initial_values: State = tuple(Value(array) for array in self.initial_state.values())
        self.stream, self.position, self.memory = self.initial_values, 0, self._memory()
        self.y, self.last = Value(self.x), self.initial_values
        self.grads: dict[str, np.ndarray] = {}

    def _memory(self) -> Memory | None:
        return Memory(self.spec.capacity(len(self.x))) if isinstance(self.spec, TransformerSpec) else None

    def forward(self) -> None:
        self.y, self.last = run(self.spec, self.weights, Value(self.x), self.initial_values)

    def forward_backward(self) -> None:
        arrays = self.arrays | {"x": self.x} | self.initial_state
        inputs = {name: Value(array, needed=True) for name, array in arrays.items()}
        weights = {name: inputs[name] for name in self.arrays}
        state = tuple(inputs[name] for name in self.initial_state)
        self.y, self.last = run(self.spec, weights, inputs["x"], state)
        results = list(zip((self.y, *self.last), self.cotangents, strict=True))
        self.grads = dict(zip(inputs, arithmetic.gradients(results, list(inputs.values())), strict=True))

    def prefill(self) -> None:
        self.stream, self.position, self.memory = self.initial_values, len(self.x), self._memory()
        self.y, self.stream = run(self.spec, self.weights, Value(self.x), self.stream, self.memory)
        self.last = self.stream

    def step(self) -> None:
        token = Value(self.x[self.position % len(self.x)][None])
        self.y, self.stream = run(self.spec, self.weights, token, self.stream, self.memory)
        self.last, self.position = self.stream, self.position + 1

    def wait(self) -> None:
        """NumPy returns only when it is done."""

    def outputs(self) -> np.ndarray:
        return self.y.array.copy()

    def final_state(self) -> dict[str, np.ndarray]:
        return {name: value.array.copy() for name, value in zip(self.names, self.last, strict=True)}

    def gradients(self) -> dict[str, np.ndarray]:
        return {name: value.copy() for name, value in self.grads.items()}

    def provenance(self) -> dict[str, str]:
        return {"ran": "numpy", "numpy": np.__version__}
