"""The Transformer and the residual LSTM stack in plain `jax.numpy`, as functions of their weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from impls.batch import Batch
from impls.frameworks.jax import network
from impls.frameworks.jax.models import lstm_stack, transformer
from impls.params import Params
from impls.specs.recurrent import LSTMStackSpec, TransformerSpec


def load(spec: TransformerSpec | LSTMStackSpec, params: Params, batch: Batch) -> network.Network:
    network.check(spec, params, batch)
    if isinstance(spec, TransformerSpec):
        return Streaming(spec, params, batch)
    weights, unpack = network.transposed(spec, params)
    return network.Network(spec, weights, batch, partial(lstm_stack.run, spec), unpack)


class Streaming(network.Network):
    """A Transformer, whose stream is a ring of keys and values for T tokens or the window, the oldest overwritten in place.

    Shapes are fixed when XLA compiles, so a step reads the whole ring, however much of it is filled.
    """

    def __init__(self, spec: TransformerSpec, params: Params, batch: Batch) -> None:
        weights, unpack = network.transposed(spec, params)
        super().__init__(spec, weights, batch, partial(transformer.run, spec), unpack)
        self.model, self.ring = spec, transformer.empty(spec, self.x)

    def prefill(self) -> None:
        self.y, self.ring = self._call("prefill", partial(transformer.prefill, self.model), self.weights, self.x)

    def step(self) -> None:
        self.y, self.ring = self._call("step", partial(transformer.step, self.model), self.weights, self.x, self.ring)

    def wait(self) -> None:
        super().wait()
        jax.block_until_ready(self.ring)

    def cache_bytes(self) -> int:
        return sum(part.nbytes for pair in self.ring[1] for part in pair)

    def _compile(self, name: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> jax.stages.Compiled:
        with jax.enable_x64(True):  # for the angles of positions; nothing else is float64 unless the spec is
            return super()._compile(name, function, arguments)
