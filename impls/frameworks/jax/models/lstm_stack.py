"""Residual blocks of the backend's own LSTM layer."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from impls.frameworks.jax import network, recurrence
from impls.frameworks.jax.models import parts
from impls.specs.recurrent import LSTMSpec, LSTMStackSpec


def run(
    spec: LSTMStackSpec, weights: parts.Weights, x: Array, first: network.State, lengths: Array | None
) -> tuple[Array, network.State]:
    """x [T, B, I] and h, c [L, B, H] to y [T, B, H] and the last h and c; `lengths` is None."""
    inner = LSTMSpec(spec.hidden_size, spec.hidden_size, dtype=spec.dtype, device=spec.device)
    stream, last = parts.enter(weights, x), []
    for index in range(spec.num_layers):
        block = parts.of_block(weights, index)
        of_lstm = {name.removeprefix("lstm.").removesuffix("_l0"): value for name, value in block.items()}
        read, state = parts.norm(stream, block["norm.weight"]), tuple(value[index] for value in first)
        added, after = recurrence.layer(inner, of_lstm, read, state, live=None, reverse=False)
        stream = stream + added
        last.append(after)
    return parts.norm(stream, weights["norm.weight"]), tuple(jnp.stack(values) for values in zip(*last, strict=True))
