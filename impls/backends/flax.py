"""Flax as its users write it: `nnx.RNN` over `nnx.OptimizedLSTMCell`, both directions in `nnx.Bidirectional`, layers in a list.

The cell multiplies inputs and state at every step, so no product over all inputs is hoisted out of the scan.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from impls import refusals
from impls.batch import Batch
from impls.frameworks.jax import network as jax_network
from impls.interface import Phase
from impls.params import Params
from impls.specs.recurrent import Recurrent, Spec, require_recurrent

RUNS = ("xla",)
FRAMEWORK = ("jax",)
PACKAGE = "flax"
CELLS = ("lstm",)


def refuses(spec: Spec, phase: Phase, ragged: bool) -> str | None:
    return refusals.first(
        refusals.in_principle(spec, phase, ragged),
        refusals.cell(spec, *CELLS),
        refusals.projection(spec),
        refusals.bias(spec, "Flax's OptimizedLSTMCell"),
        jax_network.no_cuda(spec),
    )


def load(spec: Spec, params: Params, batch: Batch) -> jax_network.Network:
    spec = require_recurrent(spec)
    jax_network.check(spec, params, batch)
    with jax_network.wide(spec):
        network = Stack(spec)
        for suffix, cell in zip(spec.suffixes(), network.cells(), strict=True):
            cell.dense_i.kernel[...] = jax_network.on_device(spec, params[f"weight_ih_{suffix}"].T)
            cell.dense_h.kernel[...] = jax_network.on_device(spec, params[f"weight_hh_{suffix}"].T)
            assert cell.dense_h.bias is not None
            cell.dense_h.bias[...] = jax_network.on_device(spec, params[f"bias_ih_{suffix}"] + params[f"bias_hh_{suffix}"])
    definition, weights = nnx.split(network)
    return jax_network.Network(spec, weights, batch, partial(run, definition), partial(unpack, spec, definition))


def run(definition, weights, x: Array, first: jax_network.State, lengths: Array | None) -> tuple[Array, jax_network.State]:
    return nnx.merge(definition, weights)(x, first, lengths)


def unpack(spec: Recurrent, definition, gradients) -> dict[str, np.ndarray]:
    """The one bias of a cell stands for the sum of two; each gets its gradient."""
    found = {}
    for suffix, cell in zip(spec.suffixes(), nnx.merge(definition, gradients).cells(), strict=True):
        found[f"weight_ih_{suffix}"] = cell.dense_i.kernel[...].T
        found[f"weight_hh_{suffix}"] = cell.dense_h.kernel[...].T
        found[f"bias_ih_{suffix}"] = cell.dense_h.bias[...]
        found[f"bias_hh_{suffix}"] = cell.dense_h.bias[...].copy()
    return found


class Stack(nnx.Module):
    """Layers one above the other, the weights still zero."""

    def __init__(self, spec: Recurrent) -> None:
        self.bidirectional = spec.bidirectional
        layers = []
        for depth in range(spec.num_layers):
            directions = [recurrent(spec, spec.layer_input_size(depth)) for _ in range(spec.num_directions)]
            if self.bidirectional:
                layers.append(nnx.Bidirectional(*directions, time_major=True, return_carry=True, rngs=False))
            else:
                layers.append(directions[0])
        self.layers = nnx.List(layers)

    def cells(self) -> Iterator[nnx.OptimizedLSTMCell]:
        for layer in self.layers:
            yield from [layer.forward_rnn.cell, layer.backward_rnn.cell] if self.bidirectional else [layer.cell]

    def __call__(self, x: Array, first: jax_network.State, lengths: Array | None) -> tuple[Array, jax_network.State]:
        carries = list(zip(first[1], first[0], strict=True))  # Flax puts c before h.
        last, y = [], x
        for depth, layer in enumerate(self.layers):
            start = (carries[2 * depth], carries[2 * depth + 1]) if self.bidirectional else carries[depth]
            carry, y = layer(y, initial_carry=start, seq_lengths=lengths)
            last.extend(carry if self.bidirectional else [carry])
        if lengths is not None:
            # Flax leaves what it computed from the padding in the outputs.
            y = jnp.where((jnp.arange(len(y))[:, None] < lengths)[..., None], y, 0)
        return y, (jnp.stack([h for _, h in last]), jnp.stack([c for c, _ in last]))


def recurrent(spec: Recurrent, inputs: int) -> nnx.RNN:
    dtype, zeros = jnp.dtype(spec.stored_dtype), nnx.initializers.zeros_init()
    cell = nnx.OptimizedLSTMCell(
        inputs, spec.hidden_size, dtype=dtype, param_dtype=dtype,
        kernel_init=zeros, recurrent_kernel_init=zeros, rngs=nnx.Rngs(0),
    )  # fmt: skip
    return nnx.RNN(cell, time_major=True, return_carry=True, rngs=False)
