"""What the JAX backends share: devices, a network's calls, and the recurrence as a scan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from impls import Unavailable, refusals
from impls.batch import SCALE, Batch, Draw, check_batch, filled, hashed_sum
from impls.params import Params, check_params
from impls.specs.recurrent import Recurrent, Spec

# What the JAX backends share: arrays resident on the device and the three timed calls, each compiled once, ahead of time.

Weights = Any  # a backend's own tree of arrays
State = tuple[Array, ...]  # h [L·D, B, R], and for an LSTM c [L·D, B, H]; empty for a Transformer
# Weights, x [T, B, I], the first state and the lengths [B] or None, to y [T, B, D·R] and the last state; traced by JAX.
# With `batch_first`, x is [B, T, I] and y [B, T, D·R].
Run = Callable[[Weights, Array, State, Array | None], tuple[Array, State]]
PLATFORMS = {"cpu": "cpu", "gpu": "cuda"}


def no_cuda(spec: Spec) -> str | None:
    return None if spec.device == "cpu" else refusals.no_cuda(spec, "jax", _has_cuda())


def _has_cuda() -> bool:
    try:
        return bool(jax.devices("cuda"))
    except RuntimeError:
        return False


def check(spec: Spec, params: Params, batch: Batch) -> None:
    """Raise unless the data fit the spec and its device is here."""
    if reason := no_cuda(spec):
        raise Unavailable(reason)
    check_params(spec, params)
    check_batch(spec, batch)


def wide(spec: Spec) -> AbstractContextManager[Any]:
    """JAX turns float64 into float32 unless it is asked not to."""
    return jax.enable_x64(True) if spec.dtype == "float64" else nullcontext()


def on_device(spec: Spec, value: np.ndarray | Draw) -> Array:
    with wide(spec):
        if isinstance(value, Draw):
            return _drawn(value, jax.numpy.dtype(spec.stored_dtype), jax.devices(spec.device)[0])
        return jax.device_put(value.astype(jax.numpy.dtype(spec.stored_dtype)), jax.devices(spec.device)[0])


def _drawn(draw: Draw, dtype: Any, device: Any) -> Array:
    """The values of `draw`, computed on the device."""

    def values() -> Array:
        positions = jax.numpy.arange(draw.size, dtype=jax.numpy.int32)
        return (hashed_sum(positions, draw.key) / jax.numpy.float32(SCALE)).astype(dtype).reshape(draw.shape)

    with jax.default_device(device):
        return jax.jit(values)()


def transposed(spec: Spec, params: Params) -> tuple[dict[str, Array], Callable[[Weights], dict[str, np.ndarray]]]:
    """Matrices on the device as products read them, under their own names, and how to turn their gradients back."""
    weights = {name: on_device(spec, value.T.copy()) for name, value in params.items()}
    return weights, lambda found: {name: found[name].T for name in found}


class Network:
    """One batch and the weights on their device, and a function `run` that computes the network.

    unpack      turns the gradients of `weights`, the same tree in NumPy, into canonical names and shapes
    recognise   names what runs from the text of a compiled program
    batch_first whether `run` has the batch before the time; arrays then lie so on the device, and no program transposes them
    """

    def __init__(
        self,
        spec: Spec,
        weights: Weights,
        batch: Batch,
        run: Run,
        unpack: Callable[[Weights], Mapping[str, np.ndarray]],
        *,
        recognise: Callable[[str], str] = lambda program: "xla",
        batch_first: bool = False,
    ) -> None:
        self.spec, self.weights, self.run, self.unpack, self.recognise = spec, weights, run, unpack, recognise
        full = filled(spec, batch)
        self.names = [f"{letter}0" for letter in spec.state_shapes(batch.batch)]
        self.time_axis = 1 if batch_first else 0
        self.x = self._turned(on_device(spec, full.x))
        self.initial_state: State = tuple(on_device(spec, getattr(full, name)) for name in self.names)
        values = (full.grad_y, full.grad_h_n, full.grad_c_n)[: 1 + len(self.names)]
        grad_y, *grad_last = (on_device(spec, value) for value in values if value is not None)
        self.cotangents = self._turned(grad_y), tuple(grad_last)
        device = self.x.device
        self.lengths = None if batch.lengths is None else jax.device_put(batch.lengths.astype(np.int32), device)
        # Copies, because every step gives the buffers of the state before back to XLA.
        self.stream: tuple[Array, State] = jax.device_put(np.int32(0), device), tuple(h.copy() for h in self.initial_state)
        self.compiled: dict[str, jax.stages.Compiled] = {}
        self.y, self.last = self.x, self.initial_state
        self.grads: tuple[Weights, Array, State] = self.weights, self.x, self.initial_state

    def forward(self) -> None:
        self.y, self.last = self._call("forward", self._forward, self.weights, self.x, self.initial_state, self.lengths)

    def _forward(self, weights: Weights, x: Array, first: State, lengths: Array | None) -> tuple[Array, State]:
        return self.run(weights, x, first, lengths)

    def forward_backward(self) -> None:
        (self.y, self.last), self.grads = self._call(
            "forward_backward", self._forward_backward, self.weights, self.x, self.initial_state, self.lengths, self.cotangents
        )

    def _forward_backward(self, weights: Weights, x: Array, first: State, lengths: Array | None, cotangents: Any) -> Any:
        def run(weights: Weights, x: Array, first: State) -> tuple[Array, State]:
            return self.run(weights, x, first, lengths)

        outputs, pull_back = jax.vjp(run, weights, x, first)
        return outputs, pull_back(cotangents)

    def step(self) -> None:
        self.y, self.stream = self._call("step", self._step, self.weights, self.x, self.stream)
        self.last = self.stream[1]

    def _step(self, weights: Weights, x: Array, stream: tuple[Array, State]) -> tuple[Array, tuple[Array, State]]:
        position, state = stream
        y, state = self.run(weights, lax.dynamic_slice_in_dim(x, position, 1, self.time_axis), state, None)
        return y, ((position + 1) % x.shape[self.time_axis], state)

    def _call(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        compiled = self.compiled.get(name)
        if compiled is None:
            compiled = self.compiled[name] = self._compile(name, function, arguments)
        return compiled(*arguments)

    def _compile(self, name: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> jax.stages.Compiled:
        jitted = jax.jit(function, donate_argnums=(2,) if name == "step" else ())
        # On a GPU the default precision of a float32 product is TF32.
        precision = "tensorfloat32" if self.spec.dtype == "tensorfloat32" else "highest"
        with wide(self.spec), jax.default_matmul_precision(precision):
            return jitted.lower(*arguments).compile()

    def wait(self) -> None:
        jax.block_until_ready((self.y, self.last, self.grads, self.stream))

    def outputs(self) -> np.ndarray:
        return self._turned(on_host(self.y))

    def final_state(self) -> dict[str, np.ndarray]:
        return dict(zip(("h_n", "c_n"), map(on_host, self.last), strict=False))

    def gradients(self) -> dict[str, np.ndarray]:
        weights, x, first = jax.tree.map(on_host, self.grads)
        return {**self.unpack(weights), "x": self._turned(x), **dict(zip(self.names, first, strict=True))}

    def _turned(self, value: Any) -> Any:
        """Time first as `run` has it, or back again; a new array, JAX's or NumPy's."""
        return value.swapaxes(0, 1).copy() if self.time_axis else value

    def provenance(self) -> dict[str, str]:
        platforms = {device.platform for device in self.y.devices()}
        where = PLATFORMS.get(platforms.pop(), "elsewhere") if len(platforms) == 1 else "several devices"
        ran = "+".join(sorted({self.recognise(compiled.as_text() or "") for compiled in self.compiled.values()}))
        ran = ran if where == self.spec.device else f"{ran} on {where}"
        return {"ran": ran, "jax": jax.__version__, "device": str(self.y.device)}


def on_host(value: Array) -> np.ndarray:
    """A fresh array; 16-bit floats become float32, which holds them exactly."""
    host = np.array(value)
    return host if host.dtype in (np.float32, np.float64) else host.astype(np.float32)


# One layer as `jax.lax.scan`: one product for all inputs before the scan, one for dW_hh after it.
#
# Differentiated plainly, a scan adds to dW_hh [R, G·H] at every step. Here JAX differentiates the scan for everything but
# W_hh, whose gradient is then a single product over all steps (Appleyard et al. 2016, section 3.3, for the same in cuDNN).
# The input's part enters the scan as one array a gate: XLA's loop then ran 6.6 → 4.1 ms (T 50, B 32, I = H = 128, one CPU
# core).

Gates = Sequence[Array]  # one array a gate, [B, H] or [T, B, H]
# The part of the gates from the input and from h, the state before and W_hr [H, P] or None; to the state after.
Cell = Callable[[Gates, Gates, State, Array | None], State]
# The cell, whether in reverse, and whether the gates do more with W_hh h than add it to the input's part.
How = tuple[Cell, bool, bool]
OfHidden = tuple[Array, Array | None, Array | None]  # W_hh, b_hh and W_hr: what acts on h


def layer(
    spec: Recurrent, weights: dict[str, Array], x: Array, state: State, live: Array | None, reverse: bool
) -> tuple[Array, State]:
    projected = x @ weights["weight_ih"]
    bias_hh = weights.get("bias_hh")
    if bias_hh is not None:
        projected += weights["bias_ih"]
        if spec.cell != "gru":
            projected, bias_hh = projected + bias_hh, None
    how = ADVANCE[spec.cell], reverse, spec.cell == "gru"
    gates = tuple(jnp.split(projected, spec.gates, axis=-1))
    recurred = recur(how, (weights["weight_hh"], bias_hh, weights.get("weight_hr")), gates, state, live)
    last, hidden = cast(tuple[State, Array], recurred)
    return hidden if live is None else jnp.where(live[..., None], hidden, 0), last


def scan(how: How, weights: OfHidden, projected, extra, state: State, live) -> tuple[State, Array]:
    """To the last state and h after every step [T, B, R]; `extra` [T, B, G·H] or None is added to the product with W_hh."""
    (cell, reverse, _), (weight_hh, bias_hh, weight_hr) = how, weights

    def advance(state, inputs):
        projected, extra, live = inputs
        recurrent = state[0] @ weight_hh
        for term in (bias_hh, extra):
            recurrent = recurrent if term is None else recurrent + term
        new = cell(projected, jnp.split(recurrent, len(projected), axis=-1), state, weight_hr)
        if live is not None:
            new = tuple(jnp.where(live[:, None], after, before) for after, before in zip(new, state, strict=True))
        return new, new[0]

    return lax.scan(advance, state, (projected, extra, live), reverse=reverse)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def recur(how: How, weights: OfHidden, projected, state, live) -> tuple[State, Array]:
    return scan(how, weights, projected, None, state, live)


def recur_forward(how, weights, projected, state, live):
    weight_hh, bias_hh, weight_hr = weights

    def with_fixed_weight(weight_hr, projected, extra, state):
        return scan(how, (weight_hh, bias_hh, weight_hr), projected, extra, state, live)

    extra = jnp.zeros_like(jnp.concatenate(projected, axis=-1)) if how[2] else None
    outputs, pull_back = jax.vjp(with_fixed_weight, weight_hr, projected, extra, state)
    return outputs, (pull_back, outputs[1], state[0], bias_hh)


def recur_backward(how, saved, cotangents):
    pull_back, hidden, h0, bias_hh = saved
    grad_weight_hr, grad_projected, grad_extra, grad_state = pull_back(cotangents)
    grad_recurrent = jnp.concatenate(grad_projected, axis=-1) if grad_extra is None else grad_extra  # [T, B, G·H]
    before = jnp.concatenate([hidden[1:], h0[None]] if how[1] else [h0[None], hidden[:-1]])
    grad_weight_hh = jnp.einsum("tbr,tbg->rg", before, grad_recurrent)
    grad_bias_hh = None if bias_hh is None else grad_recurrent.sum(axis=(0, 1))
    return (grad_weight_hh, grad_bias_hh, grad_weight_hr), grad_projected, grad_state, None


recur.defvjp(recur_forward, recur_backward)


def lstm(projected: Gates, recurrent: Gates, state: State, weight_hr: Array | None) -> State:
    i, f, g, o = (from_x + from_h for from_x, from_h in zip(projected, recurrent, strict=True))
    c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    hidden = jax.nn.sigmoid(o) * jnp.tanh(c)
    return hidden if weight_hr is None else hidden @ weight_hr, c


def gru(projected: Gates, recurrent: Gates, state: State, weight_hr: Array | None) -> State:
    (r_x, z_x, n_x), (r_h, z_h, n_h) = projected, recurrent
    n = jnp.tanh(n_x + jax.nn.sigmoid(r_x + r_h) * n_h)
    z = jax.nn.sigmoid(z_x + z_h)
    return ((1 - z) * n + z * state[0],)


def rnn(projected: Gates, recurrent: Gates, state: State, weight_hr: Array | None) -> State:
    return (jnp.tanh(projected[0] + recurrent[0]),)


ADVANCE: dict[str, Cell] = {"lstm": lstm, "gru": gru, "rnn": rnn}
