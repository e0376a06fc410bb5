"""Residual models in JAX: Transformer and LSTM stack."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from impls.batch import Batch
from impls.frameworks.jax import network
from impls.params import Params
from impls.specs.recurrent import LSTMSpec, LSTMStackSpec, TransformerSpec

# What the models are built of. Weights are transposed, [in, out]; what 16 bits would lose is computed in float32.

Weights = dict[str, Array]  # of one block, or of the whole model


def enter(weights: Weights, x: Array) -> Array:
    """x [T, B, I], projected to the width H where it has another."""
    return x @ weights["weight_in"] if "weight_in" in weights else x


def of_block(weights: Weights, layer: int) -> Weights:
    prefix = f"layers.{layer}."
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def wide(x: Array) -> Array:
    """As float32 where it has fewer bits."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def norm(x: Array, weight: Array) -> Array:
    """Over the last axis, with a weight and no bias (Ba et al. 2016)."""
    values = wide(x)
    centred = values - values.mean(-1, keepdims=True)
    unit = centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
    return (unit * wide(weight)).astype(x.dtype)


def gelu(x: Array) -> Array:
    return jax.nn.gelu(wide(x), approximate=True).astype(x.dtype)


# A pre-norm Transformer with rotary positions, attention with all its weights, and its ring of keys and values.

ROTARY_BASE = 10_000.0  # Su et al. 2021, section 3.2.2
# Tokens passed, and each layer's keys, rotated, and values [B, n_kv, C, d]: token p lies at p mod C.
Ring = tuple[Array, list[tuple[Array, Array]]]
# The layer, its queries [B, n_kv, n_q / n_kv, T, d], keys and values [B, n_kv, T, d]; to what was attended, as the queries.
Attend = Callable[[int, Array, Array, Array], Array]


def run_transformer(
    spec: TransformerSpec, weights: Weights, x: Array, first: network.State, lengths: Array | None
) -> tuple[Array, network.State]:
    """x [T, B, I] to y [T, B, H]; there is no state, and `lengths` is None."""
    return blocks(spec, weights, x, jnp.arange(len(x)), lambda _, *heads: attend_sequence(spec, *heads)), ()


def prefill(spec: TransformerSpec, weights: Weights, x: Array) -> tuple[Array, Ring]:
    """As `run`, with the ring that holds the last tokens."""
    steps, kept = len(x), []
    capacity = spec.capacity(steps)

    def attend(_: int, query: Array, key: Array, value: Array) -> Array:
        keys, values = (jnp.roll(part[:, :, -capacity:], steps % capacity, axis=2) for part in (key, value))
        kept.append((keys, values))
        return attend_sequence(spec, query, key, value)

    y = blocks(spec, weights, x, jnp.arange(steps), attend)
    return y, (jnp.int32(steps), kept)


def step(spec: TransformerSpec, weights: Weights, x: Array, ring: Ring) -> tuple[Array, Ring]:
    """One token of x [T, B, I], read in turn, to y [1, B, H]; its key and value take the place of the oldest."""
    passed, before = ring
    after = []

    def attend(layer: int, query: Array, key: Array, value: Array) -> Array:
        capacity = before[layer][0].shape[2]
        keys, values = (
            lax.dynamic_update_slice_in_dim(old, new, passed % capacity, axis=2)
            for old, new in zip(before[layer], (key, value), strict=True)
        )
        after.append((keys, values))
        return attention(query, keys, values, jnp.arange(capacity) <= passed)

    token = lax.dynamic_slice_in_dim(x, passed % len(x), 1)
    return blocks(spec, weights, token, passed[None], attend), (passed + 1, after)


def empty(spec: TransformerSpec, x: Array) -> Ring:
    """For as many tokens as x has, or the window; of its dtype and on its device. Each buffer is its own: steps donate them."""
    shape = (x.shape[1], spec.kv_heads, spec.capacity(len(x)), spec.head_size)

    def zeros() -> Array:
        return jnp.zeros(shape, x.dtype, device=x.device)

    with network.wide(spec):
        kept = [(zeros(), zeros()) for _ in range(spec.num_layers)]
    return jax.device_put(np.int32(0), x.device), kept


def blocks(spec: TransformerSpec, weights: Weights, x: Array, positions: Array, attend: Attend) -> Array:
    """Every block and the last normalisation, x [T, B, I] to [T, B, H]."""
    steps, batch = x.shape[:2]
    turn = rotation(positions, spec.head_size, x.dtype)
    stream = enter(weights, x)
    for layer in range(spec.num_layers):
        block = of_block(weights, layer)
        read = norm(stream, block["norm_attention.weight"]) @ block["weight_qkv"]
        heads = read.reshape(steps, batch, -1, spec.head_size).transpose(1, 2, 0, 3)
        query, key, value = jnp.split(heads, (spec.num_heads, spec.num_heads + spec.kv_heads), axis=1)
        query = rotate(query, turn).reshape(batch, spec.kv_heads, -1, steps, spec.head_size)
        attended = attend(layer, query, rotate(key, turn), value)
        joined = attended.transpose(3, 0, 1, 2, 4).reshape(steps, batch, spec.hidden_size)
        stream = stream + joined @ block["weight_out"]
        inner = gelu(norm(stream, block["norm_feed_forward.weight"]) @ block["weight_up"])
        stream = stream + inner @ block["weight_down"]
    return norm(stream, weights["norm.weight"])


def attend_sequence(spec: TransformerSpec, query: Array, key: Array, value: Array) -> Array:
    steps = key.shape[2]
    if spec.window and spec.window < steps:
        return attend_in_window(query, key, value, spec.window)
    allowed = jnp.arange(steps)[:, None] >= jnp.arange(steps)
    return attention(query, key, value, allowed | spec.bidirectional)


def attend_in_window(query: Array, key: Array, value: Array, window: int) -> Array:
    """Each to the last `window` tokens: in blocks of W queries, each with the keys of its own block and of the one before it,
    so that the work is 2·T·W and not T² (Beltagy et al. 2020, section 3.1)."""
    steps = key.shape[2]
    count = -(-steps // window)

    def folded(x: Array) -> Array:
        """[…, T, d] to [blocks, …, W, d], zeros beyond the end."""
        padded = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, count * window - steps), (0, 0)])
        return jnp.moveaxis(padded.reshape(*x.shape[:-2], count, window, x.shape[-1]), -3, 0)

    def with_before(x: Array) -> Array:
        own = folded(x)
        return jnp.concatenate([jnp.concatenate([jnp.zeros_like(own[:1]), own[:-1]]), own], axis=-2)

    behind = jnp.arange(window, 2 * window)[:, None] - jnp.arange(2 * window)
    there = (jnp.arange(count)[:, None] > 0) | (jnp.arange(2 * window) >= window)  # the first block has none before it
    allowed = ((behind >= 0) & (behind < window)) & there[:, None, :]  # [blocks, W, 2W]
    attended = jax.vmap(attention)(folded(query), with_before(key), with_before(value), allowed)
    unfolded = jnp.moveaxis(attended, 0, -3)
    return unfolded.reshape(*unfolded.shape[:-3], count * window, -1)[..., :steps, :]


def attention(query: Array, key: Array, value: Array, allowed: Array) -> Array:
    """query [B, n_kv, g, T, d], key and value [B, n_kv, S, d], allowed [T, S] or [S]; to [B, n_kv, g, T, d]."""
    exact = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum("bkgtd,bksd->bkgts", query, key, preferred_element_type=exact) * query.shape[-1] ** -0.5
    shares = jax.nn.softmax(jnp.where(allowed, scores, -jnp.inf), axis=-1).astype(value.dtype)
    return jnp.einsum("bkgts,bksd->bkgtd", shares, value)


def rotation(positions: Array, head_size: int, dtype: jnp.dtype) -> tuple[Array, Array]:
    """Cosines and sines [T, d/2] of each position's angles, which float32 could not tell apart at the millionth token."""
    frequencies = ROTARY_BASE ** (-jnp.arange(0, head_size, 2, dtype=jnp.float64) / head_size)
    angles = positions.astype(jnp.float64)[:, None] * frequencies
    return jnp.cos(angles).astype(dtype), jnp.sin(angles).astype(dtype)


def rotate(x: Array, turn: tuple[Array, Array]) -> Array:
    """x [B, n, T, d] with feature i and feature i + d/2 as a pair."""
    cos, sin = turn
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


# Residual blocks of the backend's own LSTM layer.


def run_lstm_stack(
    spec: LSTMStackSpec, weights: Weights, x: Array, first: network.State, lengths: Array | None
) -> tuple[Array, network.State]:
    """x [T, B, I] and h, c [L, B, H] to y [T, B, H] and the last h and c; `lengths` is None."""
    inner = LSTMSpec(spec.hidden_size, spec.hidden_size, dtype=spec.dtype, device=spec.device)
    stream, last = enter(weights, x), []
    for index in range(spec.num_layers):
        block = of_block(weights, index)
        of_lstm = {name.removeprefix("lstm.").removesuffix("_l0"): value for name, value in block.items()}
        read, state = norm(stream, block["norm.weight"]), tuple(value[index] for value in first)
        added, after = network.layer(inner, of_lstm, read, state, live=None, reverse=False)
        stream = stream + added
        last.append(after)
    return norm(stream, weights["norm.weight"]), tuple(jnp.stack(values) for values in zip(*last, strict=True))


# The Transformer and the residual LSTM stack in plain `jax.numpy`, as functions of their weights.


def load(spec: TransformerSpec | LSTMStackSpec, params: Params, batch: Batch) -> network.Network:
    network.check(spec, params, batch)
    if isinstance(spec, TransformerSpec):
        return Streaming(spec, params, batch)
    weights, unpack = network.transposed(spec, params)
    return network.Network(spec, weights, batch, partial(run_lstm_stack, spec), unpack)


class Streaming(network.Network):
    """A Transformer, whose stream is a ring of keys and values for T tokens or the window, the oldest overwritten in place.

    Shapes are fixed when XLA compiles, so a step reads the whole ring, however much of it is filled.
    """

    def __init__(self, spec: TransformerSpec, params: Params, batch: Batch) -> None:
        weights, unpack = network.transposed(spec, params)
        super().__init__(spec, weights, batch, partial(run_transformer, spec), unpack)
        self.model, self.ring = spec, empty(spec, self.x)

    def prefill(self) -> None:
        self.y, self.ring = self._call("prefill", partial(prefill, self.model), self.weights, self.x)

    def step(self) -> None:
        self.y, self.ring = self._call("step", partial(step, self.model), self.weights, self.x, self.ring)

    def wait(self) -> None:
        super().wait()
        jax.block_until_ready(self.ring)

    def cache_bytes(self) -> int:
        return sum(part.nbytes for pair in self.ring[1] for part in pair)

    def _compile(self, name: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> jax.stages.Compiled:
        with jax.enable_x64(True):  # for the angles of positions; nothing else is float64 unless the spec is
            return super()._compile(name, function, arguments)
