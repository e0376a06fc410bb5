"""One layer as a JAX function with a gradient of its own, on the operators of ops.py: no C++ build, no copy of its inputs.

`jax.experimental.buffer_callback` hands over device buffers and XLA's stream; PyTorch sees them through DLPack.
Needs JAX and PyTorch. On CPU arrays the kernels run under the emulation, where ops.py lets them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import torch
from jax.experimental.buffer_callback import buffer_callback
from torch.utils.dlpack import DLDeviceType

from impls.cuda.select import Design, Memory
from impls.cuda.torch.ops import flat, gathered, lstm_layer, lstm_layer_backward
from impls.cuda.torch.recurrence import check_layer

Choice = tuple[Design, Memory, bool]


def lstm(
    x: jax.Array, weight_ih: jax.Array, weight_hh: jax.Array, bias: jax.Array | None, h0: jax.Array, c0: jax.Array, *,
    lengths: jax.Array, design: Design = "auto", memory: Memory = "saved", tf32: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
    """y [T, B, D·H], h_n and c_n [D, B, H].

    x [T, B, I]; stacked over directions weight_ih [D, 4H, I], weight_hh [D, 4H, H] and bias (b_ih + b_hh) [D, 4H] or None; h0
    and c0 [D, B, H], lengths [B] int32. The options are those of `lstm_layer` of ops.py.

    Raises a RuntimeError for arrays that do not fit together, while it is traced.
    """
    described = (_described(array) for array in (x, h0, c0))
    weights, recurrent = (_of_directions(_described(array)) for array in (weight_ih, weight_hh))
    biases = [] if bias is None else _of_directions(_described(bias))
    x_described, *states = described
    check_layer(x_described, (weights, recurrent, biases), *states, lengths=_described(lengths), operator="lstm")
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
    found = _called(_run_backward, given[:6], *grads, *given, y, gates, cells, options=choice)
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
    return _called(_run_forward, shapes, *given, options=(training, *choice))


def _run_forward(x, weight_ih, weight_hh, bias, *rest) -> Sequence[torch.Tensor]:
    return lstm_layer(x, *_flat(weight_ih, weight_hh, bias), *rest)


def _run_backward(*given) -> Sequence[torch.Tensor]:
    before, weights, rest = given[:4], _flat(*given[4:7]), given[7:]  # the weights come after three gradients and x
    grad_x, *found, grad_h0, grad_c0 = lstm_layer_backward(*before, *weights, *rest)
    grad_ih, grad_hh, grad_bias = gathered("lstm", *(None if w is None else g for w, g in zip(weights, found, strict=True)))
    return grad_x, *(torch.stack(list(each)) for each in (grad_ih, grad_hh, grad_bias)), grad_h0, grad_c0


def _flat(*stacked: torch.Tensor) -> list[torch.Tensor | None]:
    weight_ih, weight_hh, bias = map(_of_directions, stacked)
    return flat((weight_ih, weight_hh, bias))


def _of_directions(stacked: torch.Tensor) -> list[torch.Tensor]:
    """Of an array [D, …] its parts; one alone where it has no such axis, so that it is refused by its own shape."""
    return list(stacked.unbind()) if stacked.dim() > 1 else [stacked]


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
