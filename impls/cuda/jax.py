"""One layer as a JAX function with a gradient of its own, on the operators of ops.py: no C++ build, no copy of its inputs.

`jax.experimental.buffer_callback` hands over device buffers and XLA's stream; PyTorch sees them through DLPack.
Needs JAX and PyTorch. On CPU arrays the kernels run under the emulation, where ops.py lets them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import torch
from jax.experimental.buffer_callback import buffer_callback
from torch.utils.dlpack import DLDeviceType

from impls.cuda.select import Design, Memory
from impls.cuda.torch.ops import lstm_layer, lstm_layer_backward
from impls.cuda.torch.recurrence import check_layer

Choice = tuple[Design, Memory, bool]


def lstm(
    x: jax.Array, weight_ih: jax.Array, weight_hh: jax.Array, bias: jax.Array | None, h0: jax.Array, c0: jax.Array, *,
    lengths: jax.Array, design: Design = "auto", memory: Memory = "saved", tf32: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
    """y [T, B, D·H], h_n and c_n [D, B, H]; arguments as `lstm_layer` of ops.py takes them (b_ih + b_hh as bias, or None).

    Raises a RuntimeError for arrays that do not fit together, while it is traced.
    """
    described = (None if array is None else _described(array) for array in (x, weight_ih, weight_hh, bias, h0, c0))
    check_layer(*described, lengths=_described(lengths), operator="lstm")  # type: ignore[arg-type]
    if bias is None:
        bias = jnp.zeros(weight_hh.shape[:2], x.dtype)
    return _layer((design, memory, tf32), x, weight_ih, weight_hh, bias, h0, c0, lengths)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _layer(choice: Choice, *given: jax.Array) -> tuple[jax.Array, ...]:
    return _forward(choice, given, training=False)[:3]


def _keeping(choice: Choice, *given: jax.Array):
    y, h_n, c_n, gates, cells = _forward(choice, given, training=True)
    return (y, h_n, c_n), (given, y, gates, cells)


def _back(choice: Choice, kept, grads):
    given, y, gates, cells = kept
    found = _called(lstm_layer_backward, given[:6], *grads, *given, y, gates, cells, options=choice)
    return *found, jnp.zeros(given[6].shape, jax.dtypes.float0)


_layer.defvjp(_keeping, _back)


def _forward(choice: Choice, given: tuple[jax.Array, ...], training: bool) -> tuple[jax.Array, ...]:
    x, _, weight_hh, _, h0, _, _ = given
    (steps, batch, _), (directions, _, hidden) = x.shape, weight_hh.shape
    like = jax.ShapeDtypeStruct
    wide = jnp.float64 if x.dtype == jnp.float64 else jnp.float32
    shapes = [like((steps, batch, directions * hidden), x.dtype), like(h0.shape, x.dtype), like(h0.shape, x.dtype)]
    if training:
        tokens = (directions, steps, batch, hidden)
        gates = like((*tokens[:3], 4, hidden) if choice[1] == "saved" else (0,), x.dtype)
        shapes += [gates, like(tokens, wide)]
    return _called(lstm_layer, shapes, *given, options=(training, *choice))


def _called(operator, shapes, *given: jax.Array, options: tuple) -> tuple[jax.Array, ...]:
    """The operator on JAX's buffers and stream; its first results, one for each of `shapes`."""

    def run(context: Any, out: Any, *buffers: Any) -> None:
        # On XLA's stream from the first: taking a buffer over orders it before the stream that is current then.
        with torch.no_grad(), torch.cuda.stream(_stream(context, buffers[0])):
            tensors = [torch.from_dlpack(buffer) for buffer in buffers]
            for to, found in zip(out, operator(*tensors, *options), strict=False):
                if found.numel():
                    torch.from_dlpack(to).copy_(found)

    return buffer_callback(run, tuple(jax.ShapeDtypeStruct(shape.shape, shape.dtype) for shape in shapes))(*given)


def _stream(context: Any, buffer: Any) -> torch.cuda.Stream | None:
    kind, index = buffer.__dlpack_device__()
    if kind != DLDeviceType.kDLCUDA:
        return None
    return torch.cuda.ExternalStream(context.stream, device=torch.device("cuda", index))


def _described(array: jax.Array) -> torch.Tensor:
    """A tensor of the array's shape and dtype, without its data."""
    dtype = getattr(torch, jnp.result_type(array).name, None)
    if not isinstance(dtype, torch.dtype):
        raise RuntimeError(f"lstm: PyTorch knows no {jnp.result_type(array)}; use float32, float64, bfloat16 or float16")
    return torch.empty(jnp.shape(array), dtype=dtype, device="meta")
