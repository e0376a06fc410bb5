"""JAX's own binding of cuDNN's LSTM, `jax.experimental.rnn`: float32 or TF32, always cuDNN's STANDARD algorithm.

The binding is batch-first and copies the lengths to the host on every call (jaxlib/gpu/rnn_kernels.cc); both are in the time.
"""

from __future__ import annotations

import math
from functools import partial
from typing import cast

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.experimental import rnn

from impls import Unavailable, refusals
from impls.backend import Phase
from impls.backends import _jax
from impls.batch import Batch
from impls.params import Params
from impls.spec import Recurrent, Spec, require_recurrent

RUNS = ("cudnn",)
FRAMEWORK = ("jax",)
DEVICES = ("cuda",)
CELLS = ("lstm",)
DTYPES = ("float32", "tensorfloat32")


def refuses(spec: Spec, phase: Phase, ragged: bool) -> str | None:
    return refusals.first(
        refusals.in_principle(spec, phase, ragged),
        refusals.cell(spec, *CELLS),
        refusals.projection(spec),
        refusals.dtype(spec, *DTYPES),
        refusals.bias(spec, "JAX's binding of cuDNN"),
        refusals.device(spec, *DEVICES),
        _jax.no_cuda(spec),
    )


def load(spec: Spec, params: Params, batch: Batch) -> _jax.Network:
    if reason := refusals.first(refusals.device(spec, *DEVICES), _jax.no_cuda(spec)):
        raise Unavailable(reason)
    spec = require_recurrent(spec)
    _jax.check(spec, params, batch)
    weights = _jax.on_device(spec, pack(spec, params))
    return _jax.Network(spec, weights, batch, partial(run, spec), partial(unpack, spec), what_runs)


def what_runs(program: str) -> str:
    return "cudnn" if "cudnn_rnn" in program else "xla"


def run(spec: Recurrent, weights: Array, x: Array, first: _jax.State, lengths: Array | None) -> tuple[Array, _jax.State]:
    if lengths is None:
        lengths = jnp.full(x.shape[1], len(x), jnp.int32)
    found = rnn.lstm(
        x.swapaxes(0, 1), *first, weights, lengths, spec.input_size, spec.hidden_size, spec.num_layers,
        0.0, spec.bidirectional, lax.Precision.HIGH if spec.dtype == "tensorfloat32" else lax.Precision.HIGHEST,
    )  # fmt: skip
    y, h_n, c_n = cast(tuple[Array, Array, Array], found)
    return y.swapaxes(0, 1), (h_n, c_n)


def order(spec: Recurrent) -> list[str]:
    """Parameters in cuDNN's order: first all matrices, layer by layer, then all biases; the gates lie as in PyTorch."""
    kinds = (("weight_ih", "weight_hh"), ("bias_ih", "bias_hh"))
    return [f"{name}_{suffix}" for kind in kinds for suffix in spec.suffixes() for name in kind]


def pack(spec: Recurrent, params: Params) -> np.ndarray:
    return np.concatenate([params[name].ravel() for name in order(spec)])


def unpack(spec: Recurrent, flat: np.ndarray) -> dict[str, np.ndarray]:
    shapes = spec.parameter_shapes()
    ends = np.cumsum([math.prod(shapes[name]) for name in order(spec)])
    parts = np.split(flat, ends[:-1])
    return {name: part.reshape(shapes[name]) for name, part in zip(order(spec), parts, strict=True)}
