"""XLA: recurrences as `jax.lax.scan` (see `_jax_recurrence`), Transformers and residual LSTM stacks (see `_jax_models`)."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from jax import Array

from impls import refusals
from impls.batch import Batch
from impls.frameworks.jax import models, network
from impls.frameworks.jax.network import layer
from impls.interface import Phase
from impls.params import Params
from impls.specs.recurrent import LSTMStackSpec, Recurrent, Spec, TransformerSpec, require_recurrent

RUNS = ("xla",)
FRAMEWORK = ("jax",)
CELLS = ("lstm", "gru", "rnn", "transformer", "lstm_stack")


def refuses(spec: Spec, phase: Phase, ragged: bool) -> str | None:
    return refusals.first(refusals.in_principle(spec, phase, ragged), refusals.cell(spec, *CELLS), network.no_cuda(spec))


def load(spec: Spec, params: Params, batch: Batch) -> network.Network:
    if isinstance(spec, (TransformerSpec, LSTMStackSpec)):
        return models.load(spec, params, batch)
    spec = require_recurrent(spec)
    network.check(spec, params, batch)
    weights, unpack = network.transposed(spec, params)
    return network.Network(spec, weights, batch, partial(run, spec), unpack)


def run(
    spec: Recurrent, weights: dict[str, Array], x: Array, first: network.State, lengths: Array | None
) -> tuple[Array, network.State]:
    """Every layer and direction; `weights` are canonical but transposed, so that products read them as they lie."""
    live = None if lengths is None else jnp.arange(len(x))[:, None] < lengths
    y, last = x, []
    for depth in range(spec.num_layers):
        below, outputs = y, []
        for direction in range(spec.num_directions):
            index = depth * spec.num_directions + direction
            ending = f"_{spec.suffixes()[index]}"
            of_layer = {name.removesuffix(ending): value for name, value in weights.items() if name.endswith(ending)}
            hidden, state = layer(spec, of_layer, below, tuple(value[index] for value in first), live, bool(direction))
            outputs.append(hidden)
            last.append(state)
        y = jnp.concatenate(outputs, axis=-1)
    return y, tuple(jnp.stack(values) for values in zip(*last, strict=True))
