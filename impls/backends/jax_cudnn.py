"""JAX's own binding of cuDNN's LSTM, `jax.experimental.rnn`: float32 or TF32, always cuDNN's STANDARD algorithm.

The binding copies the lengths to the host on every call (jaxlib/gpu/rnn_kernels.cc), which is in the time. It is batch-first,
and so are the arrays here from the first: its lowering (jaxlib/gpu_rnn.py, the same in jax 0.10.2 and 0.11.2) asks for no
layout of its operands and results, so XLA turns a transposition next to the call into a layout, of which cuDNN is not told.
With `swapaxes` in the program an H100 answered off by 0.25; github.com/jax-ml/jax/issues/19177 reports the same of `moveaxis`
under jit.
"""

from __future__ import annotations

import math
import re
from functools import partial
from typing import cast

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.experimental import rnn

from impls import Unavailable, refusals
from impls.batch import Batch
from impls.frameworks.jax import network
from impls.interface import Phase
from impls.params import Params
from impls.specs.recurrent import Recurrent, Spec, require_recurrent

RUNS = ("cudnn",)
FRAMEWORK = ("jax",)
DEVICES = ("cuda",)
CELLS = ("lstm",)
DTYPES = ("float32", "tensorfloat32")
BATCH_FIRST = True
LAYOUT = re.compile(r"\]\{([\d,]+)")  # of an array in XLA's text, its last axis first where it is row-major


def refuses(spec: Spec, phase: Phase, ragged: bool) -> str | None:
    return refusals.first(
        refusals.in_principle(spec, phase, ragged),
        refusals.cell(spec, *CELLS),
        refusals.projection(spec),
        refusals.dtype(spec, *DTYPES),
        refusals.bias(spec, "JAX's binding of cuDNN"),
        refusals.device(spec, *DEVICES),
        network.no_cuda(spec),
    )


def load(spec: Spec, params: Params, batch: Batch) -> network.Network:
    if reason := refusals.first(refusals.device(spec, *DEVICES), network.no_cuda(spec)):
        raise Unavailable(reason)
    spec = require_recurrent(spec)
    network.check(spec, params, batch)
    weights = network.on_device(spec, pack(spec, params))
    return network.Network(
        spec, weights, batch, partial(run, spec), partial(unpack, spec), recognise=what_runs, batch_first=BATCH_FIRST
    )


def what_runs(program: str) -> str:
    """From the text of a compiled program: "cudnn" if its results lie row-major, as cuDNN writes them whatever XLA expects."""
    calls = [line for line in program.splitlines() if 'custom_call_target="cudnn_rnn' in line]
    if not calls:
        return "xla"
    layouts = [
        list(map(int, found.split(","))) for line in calls for found in LAYOUT.findall(line.partition("custom-call(")[0])
    ]
    return "cudnn" if all(found == sorted(found, reverse=True) for found in layouts) else "cudnn on transposed arrays"


def run(spec: Recurrent, weights: Array, x: Array, first: network.State, lengths: Array | None) -> tuple[Array, network.State]:
    """x [B, T, I] to y [B, T, D·H]: not to be transposed in the same program, see above."""
    if lengths is None:
        lengths = jnp.full(len(x), x.shape[1], jnp.int32)
    found = rnn.lstm(
        x, *first, weights, lengths, spec.input_size, spec.hidden_size, spec.num_layers,
        0.0, spec.bidirectional, lax.Precision.HIGH if spec.dtype == "tensorfloat32" else lax.Precision.HIGHEST,
    )  # fmt: skip
    y, h_n, c_n = cast(tuple[Array, Array, Array], found)
    return y, (h_n, c_n)


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
