"""The layer of ops.py in plain PyTorch, for second derivatives and transforms of functions: the kernels have no rule for them.

Differentiable operations without in-place writes, so that forward mode, vmap and higher derivatives are PyTorch's own.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.autograd import forward_ad

from impls.cuda.torch import recurrence
from impls.frameworks.torch.loop import step

NAME = "lstm_bench::plain_lstm_layer"  # as the profiler, and so provenance, names it
WARNING = (
    "LSTM: {} run through plain PyTorch operations, a loop over time, and not through lstm_bench's kernels; the results are "
    "the same, the time is not"
)


def is_transformed(*tensors: Tensor | None) -> bool:
    """Whether `torch.func` or forward-mode differentiation follows these tensors."""
    if torch._C._are_functorch_transforms_active():
        return True
    # Compiled code does not look for tangents: the operator does, when it runs.
    return not torch.compiler.is_compiling() and has_tangent(*tensors)


def has_tangent(*tensors: Tensor | None) -> bool:
    """Whether any of these is a dual tensor of `torch.autograd.forward_ad`."""
    return any(tensor is not None and forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors)


def warn(what: str) -> None:
    """Once a place of the calling code, as Python's filters do."""
    warnings.warn(WARNING.format(what), UserWarning, stacklevel=2)


def lstm_layer(
    x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None, h0: Tensor, c0: Tensor, lengths: Tensor,
    weight_hr: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Of one layer y [T, B, D·H], h_n and c_n [D, B, H], where H is P with `weight_hr` [D, P, H].

    Arguments as `lstm_layer` of ops.py takes them. 16-bit numbers are multiplied and added as float32.
    """
    dtype, wide = x.dtype, recurrence.wide(x.dtype)
    inputs = x.to(wide).unbind(0)
    valid = (torch.arange(len(inputs), device=x.device)[:, None] < lengths)[..., None].unbind(0)
    outputs, last = [], []
    with torch.profiler.record_function(NAME), torch.autocast(x.device.type, enabled=False):
        for direction in range(len(weight_hh)):
            given = (weight_ih, weight_hh, bias, None if bias is None else torch.zeros_like(bias), weight_hr)
            weights = tuple(None if tensor is None else tensor[direction].to(wide) for tensor in given)
            h, c, of_direction = h0[direction].to(wide), c0[direction].to(wide), []
            order = range(len(inputs))
            for t in reversed(order) if direction else order:
                y, h, c = step(inputs[t], h, c, *weights, valid=valid[t])
                of_direction.append(y)
            outputs.append(torch.stack(of_direction[::-1] if direction else of_direction))
            last.append((h, c))
        h_n, c_n = (torch.stack(states).to(dtype) for states in zip(*last, strict=True))
        return torch.cat(outputs, 2).to(dtype), h_n, c_n
