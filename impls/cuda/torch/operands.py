"""What the operators of ops.py take: shapes, dtypes and devices that fit together, or PyTorch's kind of error.

Called by the real and by the fake implementation: with any one tensor on `meta` the dispatcher takes the latter.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from impls.cuda.torch.recurrence import wide

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
Expected = Mapping[str, tuple[Tensor, tuple[int, ...], torch.dtype]]


def check_layer(
    x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None, h0: Tensor, c0: Tensor, lengths: Tensor,
    operator: str = "lstm_layer",
) -> None:  # fmt: skip
    """Raise a RuntimeError with a sentence for what `lstm_layer` cannot take."""
    if x.dim() != 3 or not x.shape[0] or not x.shape[2]:
        raise RuntimeError(f"{operator}: x must be [T, B, I], T and I at least 1; got shape {list(x.shape)}")
    if x.dtype not in DTYPES:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
        raise RuntimeError(f"{operator}: x must be {known}; got {x.dtype}")
    if weight_hh.dim() != 3 or len(weight_hh) not in (1, 2) or weight_hh.shape[1] != 4 * weight_hh.shape[2]:
        raise RuntimeError(f"{operator}: weight_hh must be [D, 4H, H] with D = 1 or 2; got shape {list(weight_hh.shape)}")
    directions, rows, hidden = weight_hh.shape
    batch, states = x.shape[1], (directions, x.shape[1], hidden)
    expected = {
        "weight_ih": (weight_ih, (directions, rows, x.shape[2]), x.dtype),
        "weight_hh": (weight_hh, (directions, rows, hidden), x.dtype),
        "h0": (h0, states, x.dtype), "c0": (c0, states, x.dtype), "lengths": (lengths, (batch,), torch.int32),
    } | ({} if bias is None else {"bias": (bias, (directions, rows), x.dtype)})  # fmt: skip
    _check(operator, x, expected)


def check_backward(
    grad_y: Tensor, grad_h_n: Tensor, grad_c_n: Tensor, x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None,
    h0: Tensor, c0: Tensor, lengths: Tensor, y: Tensor, gates: Tensor, cells: Tensor,
) -> None:  # fmt: skip
    """The same for `lstm_layer_backward`. `gates` may be empty: they are then computed again."""
    operator = "lstm_layer_backward"
    check_layer(x, weight_ih, weight_hh, bias, h0, c0, lengths, operator)
    steps, batch, _ = x.shape
    directions, _, hidden = weight_hh.shape
    outputs, states, cell = (steps, batch, directions * hidden), (directions, batch, hidden), (directions, steps, batch, hidden)
    expected = {
        "grad_y": (grad_y, outputs, x.dtype), "grad_h_n": (grad_h_n, states, x.dtype), "grad_c_n": (grad_c_n, states, x.dtype),
        "y": (y, outputs, x.dtype), "cells": (cells, cell, wide(x.dtype)),
        "gates": (gates, (0,) if gates.shape == (0,) else (*cell, 4), x.dtype),
    }  # fmt: skip
    _check(operator, x, expected)


def _check(operator: str, x: Tensor, expected: Expected) -> None:
    for name, (tensor, shape, dtype) in expected.items():
        if tuple(tensor.shape) != shape:
            raise RuntimeError(f"{operator}: {name} must have shape {list(shape)}; got {list(tensor.shape)}")
        if tensor.dtype != dtype:
            raise RuntimeError(f"{operator}: {name} must be {dtype} where x is {x.dtype}; got {tensor.dtype}")
    devices = {str(tensor.device) for tensor in (x, *(tensor for tensor, _, _ in expected.values()))}
    if len(devices) > 1:
        raise RuntimeError(f"{operator}: expected all tensors on one device; got {', '.join(sorted(devices))}")
