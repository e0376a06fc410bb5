"""One recurrence by the kernels, forward and backward, and what an operator takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from impls.cuda.runtime import Launch, Launcher, arguments, raise_if_failed, status_of
from impls.cuda.select import Plan
from impls.cuda.select.configurations import GridShape, pack_backward, pack_forward

# One layer's recurrence, one or two directions side by side, through either design. Tensors in, tensors out.
#
# Everywhere here: projected, gates and grad_gates [D, T, B, 4, H], gate by gate (i, f, g, o) as weights are; states [D, B, H];
# cells and gradients of states in the wide type (float32, or float64 for float64); direction 1 runs from the last step to the
# first.

Outputs = tuple[Tensor, Tensor, Tensor]  # y, h_n and c_n, or their gradients


@dataclass(frozen=True, slots=True)
class Result:
    y: Tensor  # [T, B, D·H]
    h_n: Tensor
    c_n: Tensor
    gates: Tensor | None
    cells: Tensor | None


def wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def pack(plan: Plan, weight_hh: Tensor, backward: bool = False) -> Tensor:
    """W_hh [D, 4H, H] as the plan's kernels read it."""
    if (plan.grid_backward if backward else plan.grid_forward) is not None:
        return weight_hh.contiguous()
    if plan.forward is None or plan.backward is None:
        return torch.stack([plan.steps().pack(weight, backward) for weight in weight_hh])
    if backward:
        return torch.stack([pack_backward(plan.backward, weight) for weight in weight_hh])
    return torch.stack([pack_forward(plan.forward, weight) for weight in weight_hh])


def forward(
    plan: Plan, launcher: Launcher, weights: Tensor, projected: Tensor, h0: Tensor, c0: Tensor, *,
    lengths: Tensor, save_gates: bool = False, save_cells: bool = False,
) -> Result:  # fmt: skip
    """`weights` from `pack`; c0 wide; `lengths` [B] int32: beyond them y is zero, h_n and c_n are of the last valid step."""
    directions, steps, batch, _, hidden = projected.shape
    y = projected.new_empty(steps, batch, directions * hidden)
    gates = torch.empty_like(projected) if save_gates else None
    cells = c0.new_empty(directions, steps, batch, hidden) if save_cells else None
    numbers = {"steps": steps, "batch": batch, "hidden": hidden, "y_stride": directions * hidden}
    offsets = [{"y": direction * hidden} for direction in range(directions)]
    common = {"weights": weights, "projected": projected, "gates": gates, "cells": cells}
    if plan.forward is not None:
        h_n, c_n = torch.empty_like(h0), torch.empty_like(c0)
        arrays = [
            _of(common | {"h0": h0, "c0": c0, "h_n": h_n, "c_n": c_n}, d) | {"lengths": lengths, "y": y}
            for d in range(directions)
        ]
        clusters = -(-batch // plan.forward.columns)
        filled = arguments("cluster_forward", arrays, offsets, **numbers)
        grid = (clusters * plan.forward.cluster, directions, 1)
        reads = [weights, projected, h0, c0, lengths]
        launcher(Launch(plan.forward.kernel(), grid, filled, reads, _present(y, gates, cells, h_n, c_n)))
        return Result(y, h_n, c_n, gates, cells)
    if plan.grid_forward is not None:
        h_n, c_n = torch.empty_like(h0), torch.empty_like(c0)
        states = {"h0": h0, "c0": c0, "h_n": h_n, "c_n": c_n}
        arrays = [_of(common | states, d) | {"lengths": lengths, "y": y} for d in range(directions)]
        reads, writes = [weights, projected, h0, c0, lengths], _present(y, gates, cells, h_n, c_n)
        _on_grid(plan, plan.grid_forward, launcher, "grid_forward", (arrays, offsets, numbers), (reads, writes))
        return Result(y, h_n, c_n, gates, cells)
    design = plan.steps()
    h, c = h0.new_zeros(directions, 2, batch, design.pitch(hidden)), c0.clone()
    h[:, 0, :, :hidden] = h0
    arrays = [_of(common | {"h": h, "c": c}, d) | {"lengths": lengths, "y": y} for d in range(directions)]
    filled = arguments("step_forward", arrays, offsets, **numbers)
    grid = design.grid(hidden, batch, directions, backward=False)
    reads, writes = [weights, projected, lengths], _present(y, gates, cells, h, c)
    launch = Launch(design.kernel(backward=False), grid, filled, reads, writes)
    for step in range(steps):
        filled.step = step
        launcher(launch)
    return Result(y, h[:, steps % 2, :, :hidden].clone(memory_format=torch.contiguous_format), c, gates, cells)


def backward(
    plan: Plan, launcher: Launcher, weights: Tensor, gates: Tensor, cells: Tensor, c0: Tensor, *,
    lengths: Tensor, grads: Outputs, recompute: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of the preactivations, of h0 and of c0. `grads`: of y [T, B, D·H], and of h_n and c_n, wide.

    `recompute`: `gates` holds preactivations.
    """
    grad_y, grad_h_n, grad_c_n = grads
    directions, steps, batch, _, hidden = gates.shape
    grad_gates = torch.empty_like(gates)
    numbers = {"steps": steps, "batch": batch, "hidden": hidden, "y_stride": directions * hidden, "recompute": int(recompute)}
    offsets = [{"grad_y": direction * hidden} for direction in range(directions)]
    common = {"weights": weights, "gates": gates, "cells": cells, "c0": c0, "grad_gates": grad_gates}
    whole = {"lengths": lengths, "grad_y": grad_y}
    reads = [weights, gates, cells, c0, lengths, grad_y]
    if plan.backward is not None:
        grad_h0, grad_c0 = torch.empty_like(c0), torch.empty_like(c0)
        states = {"grad_h_n": grad_h_n, "grad_c_n": grad_c_n, "grad_h0": grad_h0, "grad_c0": grad_c0}
        arrays = [_of(common | states, d) | whole for d in range(directions)]
        filled = arguments("cluster_backward", arrays, offsets, **numbers)
        grid = (-(-batch // plan.backward.columns) * plan.backward.cluster, directions, 1)
        reads += [grad_h_n, grad_c_n]
        launcher(Launch(plan.backward.kernel(), grid, filled, reads, [grad_gates, grad_h0, grad_c0]))
        return grad_gates, grad_h0, grad_c0
    if plan.grid_backward is not None:
        grad_h0, grad_c0 = torch.empty_like(c0), torch.empty_like(c0)
        states = {"grad_h_n": grad_h_n, "grad_c_n": grad_c_n, "grad_h0": grad_h0, "grad_c0": grad_c0}
        arrays = [_of(common | states, d) | whole for d in range(directions)]
        touched = [*reads, grad_h_n, grad_c_n], [grad_gates, grad_h0, grad_c0]
        _on_grid(plan, plan.grid_backward, launcher, "grid_backward", (arrays, offsets, numbers), touched)
        return grad_gates, grad_h0, grad_c0
    grad_h, grad_c = grad_h_n.clone(), grad_c_n.clone()
    arrays = [_of(common | {"grad_h": grad_h, "grad_c": grad_c}, d) | whole for d in range(directions)]
    filled = arguments("step_backward", arrays, offsets, **numbers)
    design = plan.steps()
    grid = design.grid(hidden, batch, directions, backward=True)
    launch = Launch(design.kernel(backward=True), grid, filled, reads, [grad_gates, grad_h, grad_c])
    for step in range(steps + 1):
        filled.step = step
        launcher(launch)
    return grad_gates, grad_h, grad_c


def _on_grid(
    plan: Plan, shape: GridShape, launcher: Launcher, layout: str,
    given: tuple[list[dict[str, Tensor | None]], list[dict[str, int]], dict[str, int]],
    touched: tuple[list[Tensor], list[Tensor]],
) -> None:  # fmt: skip
    """Launch a persistent-grid kernel. given: arrays, offsets and numbers of `arguments`; touched: what is read and written.

    Raises `LaunchFailed` for an earlier launch on the device that has reported a failure since.
    """
    (arrays, offsets, numbers), (reads, writes) = given, touched
    device, status = writes[0].device, status_of(writes[0].device)
    raise_if_failed(device)
    spread = shape.spread(numbers["hidden"], numbers["batch"])
    # Zeros each time: a word says by its own bit that it has come, and the first to come sets it.
    exchange = torch.zeros(len(arrays), *spread.exchanged, dtype=torch.int32, device=device)
    arrays = [of_direction | {"exchange": exchange[d], "status": status} for d, of_direction in enumerate(arrays)]
    geometry = {"groups": shape.copies, "rounds": spread.rounds, "columns": spread.columns}
    filled = arguments(layout, arrays, offsets, **numbers, **geometry)
    rows = 1 if plan.apart else len(arrays)
    for first in range(0, len(arrays), rows):
        filled.directions[0] = filled.directions[first]
        launcher(Launch(shape.kernel(), (spread.blocks, rows, 1), filled, reads, [*writes, exchange, status]))
    if device.type == "cpu":  # emulated, so it has ended
        raise_if_failed(device)


def _of(arrays: Mapping[str, Tensor | None], direction: int) -> dict[str, Tensor | None]:
    return {name: None if tensor is None else tensor[direction] for name, tensor in arrays.items()}


def _present(*tensors: Tensor | None) -> list[Tensor]:
    return [tensor for tensor in tensors if tensor is not None]


# What the operators of ops.py take: shapes, dtypes and devices that fit together, or PyTorch's kind of error.
#
# Called by the real and by the fake implementation: with any one tensor on `meta` the dispatcher takes the latter.

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
Expected = Mapping[str, tuple[Tensor, tuple[int, ...], torch.dtype]]


def check_layer(
    x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None, h0: Tensor, c0: Tensor, *,
    lengths: Tensor, operator: str = "lstm_layer",
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
    x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None, h0: Tensor, c0: Tensor, *,
    lengths: Tensor, y: Tensor, gates: Tensor, cells: Tensor, grads: Outputs,
) -> None:  # fmt: skip
    """The same for `lstm_layer_backward`. `gates` may be empty: they are then computed again."""
    operator, (grad_y, grad_h_n, grad_c_n) = "lstm_layer_backward", grads
    check_layer(x, weight_ih, weight_hh, bias, h0, c0, lengths=lengths, operator=operator)
    steps, batch, _ = x.shape
    directions, _, hidden = weight_hh.shape
    outputs, states, cell = (steps, batch, directions * hidden), (directions, batch, hidden), (directions, steps, batch, hidden)
    expected = {
        "grad_y": (grad_y, outputs, x.dtype), "grad_h_n": (grad_h_n, states, x.dtype), "grad_c_n": (grad_c_n, states, x.dtype),
        "y": (y, outputs, x.dtype), "cells": (cells, cell, wide(x.dtype)),
        "gates": (gates, (0,) if gates.shape == (0,) else (*cell[:3], 4, hidden), x.dtype),
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
