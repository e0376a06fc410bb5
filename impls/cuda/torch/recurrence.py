"""One recurrence by the kernels, forward and backward, and what an operator takes."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from impls.cuda.runtime import Kernel, Launch, Launcher, arguments, raise_if_failed, status_of
from impls.cuda.select import Plan
from impls.cuda.select.cluster import BackwardShape, ForwardShape
from impls.cuda.select.grid import GridShape
from impls.cuda.select.steps import PACKING_AXES, PACKING_THREADS, ExactSteps, GemmSteps, Packing, TensorSteps

# One layer's recurrence, one or two directions side by side, through any design but `gemm_step`. Tensors in, tensors out.
#
# Everywhere here: W_hh [4H, H] and projected [T·B, 4H] a direction; gates and grad_gates [D, T, B, 4, H], gate by gate (i, f,
# g, o) as weights are; states [D, B, H], None for zeros; cells and gradients of states in the wide type (float32, or float64
# for float64); lengths [B] int32, None where all sequences have T steps; direction 1 runs from the last step to the first.

Outputs = tuple[Tensor, Tensor | None, Tensor | None]  # gradients of y, h_n and c_n
States = tuple[Tensor | None, Tensor | None]  # h0, and c0 in the wide type
OTHER = "gemm_step.py runs this design"
READ_BYTES = 16  # at once, of rows of W_hh and columns of h


@dataclass(frozen=True, slots=True)
class Result:
    y: Tensor  # [T, B, D·H]
    h_n: Tensor
    c_n: Tensor
    gates: Tensor | None
    cells: Tensor | None


def wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


class _Step(ctypes.Structure):
    _fields_ = (("gate", ctypes.c_int), ("unit", ctypes.c_int), ("input", ctypes.c_int))


class _PackDirection(ctypes.Structure):
    _fields_ = (("weights", ctypes.c_void_p), ("packed", ctypes.c_void_p), ("unused", ctypes.c_longlong))


class PackArguments(ctypes.Structure):
    """pack.cu says what each is."""

    _fields_ = (
        ("directions", _PackDirection * 2), ("hidden", ctypes.c_int), ("count", ctypes.c_int),
        ("sizes", ctypes.c_int * PACKING_AXES), ("steps", _Step * PACKING_AXES), ("inner", _Step * 3),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Packer:
    """A packing with its kernel and all of its argument but the arrays."""

    kernel: Kernel
    pieces: int
    argument: PackArguments

    @classmethod
    def of(cls, packing: Packing, hidden: int) -> Packer:
        axes = (*packing.axes, *[(1, (0, 0, 0))] * (PACKING_AXES - len(packing.axes)))
        argument = PackArguments(
            hidden=hidden, count=packing.pieces, sizes=(ctypes.c_int * PACKING_AXES)(*(size for size, _ in axes)),
            steps=(_Step * PACKING_AXES)(*(_Step(*step) for _, step in axes)),
            inner=(_Step * 3)(*(_Step(*step) for step in packing.inner)),
        )  # fmt: skip
        return cls(packing.kernel(), packing.pieces, argument)

    def run(self, launcher: Launcher, weight_hh: Sequence[Tensor]) -> list[Tensor]:
        """Packed by one launch, [pieces, values in 16 bytes] a direction. `weight_hh` contiguous."""
        values = READ_BYTES // weight_hh[0].element_size()
        packed = [weight.new_empty(self.pieces, values) for weight in weight_hh]
        filled = PackArguments.from_buffer_copy(self.argument)
        for index, (weight, to) in enumerate(zip(weight_hh, packed, strict=True)):
            filled.directions[index].weights, filled.directions[index].packed = weight.data_ptr(), to.data_ptr()
        grid = (-(-self.pieces // PACKING_THREADS), 1, len(packed))
        launcher(Launch(self.kernel, grid, filled, weight_hh, packed))
        return packed


def pack(plan: Plan, launcher: Launcher, weight_hh: Sequence[Tensor], backward: bool = False) -> list[Tensor]:
    """W_hh [4H, H] of each direction as the plan's kernels read it: where it lies, or packed by one launch."""
    packer = _packer(plan, weight_hh[0].shape[1], backward)
    weights = [weight.contiguous() for weight in weight_hh]
    if packer is not None:
        return packer.run(launcher, weights)
    anywhere = isinstance(plan.backward if backward else plan.forward, ExactSteps | GridShape | GemmSteps)
    return weights if anywhere else [aligned(weight) for weight in weights]


# What a call would compute anew from its plan.


@lru_cache(maxsize=1024)
def _packer(plan: Plan, hidden: int, backward: bool) -> Packer | None:
    shape = plan.backward if backward else plan.forward
    if isinstance(shape, GridShape | GemmSteps):
        return None
    packing = shape.packing(hidden, backward) if isinstance(shape, ExactSteps | TensorSteps) else shape.packing(hidden)
    return None if packing is None else Packer.of(packing, hidden)


@lru_cache(maxsize=1024)
def _kernel(plan: Plan, backward: bool) -> Kernel:
    shape = plan.backward if backward else plan.forward
    assert not isinstance(shape, GemmSteps), OTHER
    return shape.kernel(backward) if isinstance(shape, ExactSteps | TensorSteps) else shape.kernel()


def aligned(tensor: Tensor) -> Tensor:
    """The tensor, or a copy that begins where 16 bytes can be read at once; views may begin anywhere."""
    return tensor if tensor.data_ptr() % READ_BYTES == 0 else tensor.clone()


def forward(
    plan: Plan, launcher: Launcher, weights: Sequence[Tensor], projected: Sequence[Tensor], states: States, *,
    steps: int, lengths: Tensor | None, save_gates: bool = False, save_cells: bool = False,
) -> Result:  # fmt: skip
    """`weights` from `pack`. Beyond a sequence's length y is zero, and h_n and c_n are of its last valid step."""
    first, (h0, c0), directions = projected[0], states, len(projected)
    batch, hidden = len(first) // steps, first.shape[1] // 4
    state = (directions, batch, hidden)
    y = first.new_empty(steps, batch, directions * hidden)
    h_n, c_n = first.new_empty(state), first.new_empty(state, dtype=wide(first.dtype))
    gates = first.new_empty(directions, steps, batch, 4, hidden) if save_gates else None
    cells = c_n.new_empty(directions, steps, batch, hidden) if save_cells else None
    numbers = {"steps": steps, "batch": batch, "hidden": hidden, "y_stride": directions * hidden}
    # What both designs take of a direction, and of the whole layer.
    common = {"weights": weights, "projected": projected, "gates": gates, "cells": cells}
    whole = [{"lengths": address(lengths), "y": y.data_ptr() + d * hidden * y.element_size()} for d in range(directions)]
    reads, writes = present(*weights, *projected, h0, c0, lengths), present(y, gates, cells, h_n, c_n)
    design = plan.forward
    if isinstance(design, ForwardShape):
        arrays = _of(common | {"h0": h0, "c0": c0, "h_n": h_n, "c_n": c_n}, whole)
        grid = (-(-batch // design.columns) * design.cluster, directions, 1)
        filled = arguments("cluster_forward", arrays, **numbers, columns=design.columns)
        launcher(Launch(_kernel(plan, backward=False), grid, filled, reads, writes))
        return Result(y, h_n, c_n, gates, cells)
    if isinstance(design, GridShape):
        arrays = _of(common | {"h0": h0, "c0": c0, "h_n": h_n, "c_n": c_n}, whole)
        _on_grid(plan, False, launcher, (arrays, numbers), (reads, writes))
        return Result(y, h_n, c_n, gates, cells)
    assert not isinstance(design, GemmSteps), OTHER
    pitch = design.pitch(hidden)
    start, ends = _working_copies(h0, h_n, steps, pitch)
    layout = "step_forward"
    if isinstance(design, TensorSteps):
        layout, numbers = "tensor_step_forward", numbers | {"pitch": pitch}
    arrays = _of(common | {"h": None, "h_next": None, "c": None, "c_next": c_n}, whole)
    filled = arguments(layout, arrays, **numbers)
    grid = design.grid(hidden, batch, directions, backward=False)
    launch = Launch(_kernel(plan, backward=False), grid, filled, present(*reads, start), [*writes, *ends])
    h, c = start, c0
    for step in range(steps):
        filled.step, h_next = step, ends[(steps - 1 - step) % 2]
        for d in range(directions):
            of_direction = filled.directions[d]
            of_direction.h, of_direction.h_next, of_direction.c = address(h, d), address(h_next, d), address(c, d)
        launcher(launch)
        h, c = h_next, c_n
    if pitch != hidden:
        h_n.copy_(ends[0][..., :hidden])
    return Result(y, h_n, c_n, gates, cells)


def _working_copies(h0: Tensor | None, h_n: Tensor, steps: int, pitch: int) -> tuple[Tensor | None, list[Tensor]]:
    """What the first step reads of h, and the arrays that steps write in turn, the last step the first of them."""
    directions, batch, hidden = h_n.shape
    if pitch == hidden:
        return None if h0 is None else aligned(h0), [h_n, torch.empty_like(h_n)] if steps > 1 else [h_n]
    ends = [h_n.new_zeros(directions, batch, pitch) for _ in range(min(steps, 2))]
    return None if h0 is None else torch.nn.functional.pad(h0, (0, pitch - hidden)), ends


def backward(
    plan: Plan, launcher: Launcher, weights: Sequence[Tensor], gates: Sequence[Tensor], cells: Tensor, c0: Tensor | None, *,
    lengths: Tensor | None, grads: Outputs, recompute: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of the preactivations, of h0 and of c0. `gates` of each direction; `grads`: those of h_n and c_n wide.

    `recompute`: `gates` holds preactivations.
    """
    grad_y, grad_h_n, grad_c_n = grads
    directions, steps, batch, hidden = cells.shape
    grad_gates = grad_y.new_empty(directions, steps, batch, 4, hidden)
    grad_h0, grad_c0 = cells.new_empty(directions, batch, hidden), cells.new_empty(directions, batch, hidden)
    numbers = {"steps": steps, "batch": batch, "hidden": hidden, "y_stride": directions * hidden, "recompute": int(recompute)}
    common = {"weights": weights, "gates": gates, "cells": cells, "c0": c0, "grad_gates": grad_gates}
    item = grad_y.element_size()
    whole = [{"lengths": address(lengths), "grad_y": grad_y.data_ptr() + d * hidden * item} for d in range(directions)]
    reads = present(*weights, *gates, cells, c0, lengths, grad_y, grad_h_n, grad_c_n)
    writes = [grad_gates, grad_h0, grad_c0]
    design = plan.backward
    if isinstance(design, BackwardShape):
        states = {"grad_h_n": grad_h_n, "grad_c_n": grad_c_n, "grad_h0": grad_h0, "grad_c0": grad_c0}
        numbers |= {"columns": design.columns, "pitch": design.pitch(hidden)}
        filled = arguments("cluster_backward", _of(common | states, whole), **numbers)
        grid = (-(-batch // design.columns) * design.cluster, directions, 1)
        launcher(Launch(_kernel(plan, backward=True), grid, filled, reads, writes))
        return grad_gates, grad_h0, grad_c0
    if isinstance(design, GridShape):
        states = {"grad_h_n": grad_h_n, "grad_c_n": grad_c_n, "grad_h0": grad_h0, "grad_c0": grad_c0}
        _on_grid(plan, True, launcher, (_of(common | states, whole), numbers), (reads, writes))
        return grad_gates, grad_h0, grad_c0
    assert not isinstance(design, GemmSteps), OTHER
    states = {"grad_h": grad_h_n, "grad_c": grad_c_n, "grad_h_next": grad_h0, "grad_c_next": grad_c0}
    filled = arguments("step_backward", _of(common | states, whole), **numbers)
    grid = design.grid(hidden, batch, directions, backward=True)
    launch = Launch(_kernel(plan, backward=True), grid, filled, reads, writes)
    for step in range(steps + 1):
        filled.step = step
        launcher(launch)
        if not step:
            for d in range(directions):
                of_direction = filled.directions[d]
                of_direction.grad_h, of_direction.grad_c = address(grad_h0, d), address(grad_c0, d)
    return grad_gates, grad_h0, grad_c0


def _on_grid(
    plan: Plan, backward: bool, launcher: Launcher,
    given: tuple[list[dict[str, int | None]], dict[str, int]], touched: tuple[list[Tensor], list[Tensor]],
) -> None:  # fmt: skip
    """Launch a persistent-grid kernel. given: arrays and numbers of `arguments`; touched: what is read and written.

    Raises `LaunchFailed` for an earlier launch on the device that has reported a failure since.
    """
    shape = plan.backward if backward else plan.forward
    assert isinstance(shape, GridShape)
    (arrays, numbers), (reads, writes) = given, touched
    device, status = writes[0].device, status_of(writes[0].device)
    raise_if_failed(device)
    spread = shape.spread(numbers["hidden"], numbers["batch"])
    # Zeros each time: a word says by its own bit that it has come, and the first to come sets it.
    exchange = torch.zeros(len(arrays), *spread.exchanged, dtype=torch.int32, device=device)
    own = [{"exchange": address(exchange, d), "status": status.data_ptr()} for d in range(len(arrays))]
    arrays = [of_direction | own[d] for d, of_direction in enumerate(arrays)]
    geometry = {"groups": shape.copies, "rounds": spread.rounds, "columns": spread.columns}
    filled = arguments("grid_backward" if backward else "grid_forward", arrays, **numbers, **geometry)
    rows = 1 if plan.apart else len(arrays)
    for first in range(0, len(arrays), rows):
        filled.directions[0] = filled.directions[first]
        launcher(Launch(_kernel(plan, backward), (spread.blocks, rows, 1), filled, reads, [*writes, exchange, status]))
    if device.type == "cpu":  # emulated, so it has ended
        raise_if_failed(device)


def address(of: Tensor | Sequence[Tensor] | None, direction: int = 0) -> int | None:
    """Where a direction's array begins: one of several, or a part of one."""
    if of is None:
        return None
    if not isinstance(of, Tensor):
        return of[direction].data_ptr()
    return of.data_ptr() + (direction * of.stride(0) * of.element_size() if direction else 0)


def _of(
    arrays: Mapping[str, Tensor | Sequence[Tensor] | None], whole: Sequence[Mapping[str, int | None]]
) -> list[dict[str, int | None]]:
    return [{name: address(of, d) for name, of in arrays.items()} | dict(each) for d, each in enumerate(whole)]


def present(*tensors: Tensor | None) -> list[Tensor]:
    return [tensor for tensor in tensors if tensor is not None]


# What the operators of ops.py take: shapes, dtypes and devices that fit together, or PyTorch's kind of error.
#
# Called by the real and by the fake implementation: with any one tensor on `meta` the dispatcher takes the latter.

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
Expected = list[tuple[str, Tensor | None, tuple[int, ...], torch.dtype]]
Parameters = tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]  # weight_ih, weight_hh, bias: see `lstm_layer`


def check_layer(
    x: Tensor, weights: Parameters, h0: Tensor | None, c0: Tensor | None, *, lengths: Tensor | None,
    operator: str = "lstm_layer",
) -> None:  # fmt: skip
    """Raise a RuntimeError with a sentence for what `lstm_layer` cannot take."""
    weight_ih, weight_hh, bias = weights
    if x.dim() != 3 or not x.shape[0] or not x.shape[2]:
        raise RuntimeError(f"{operator}: x must be [T, B, I], T and I at least 1; got shape {list(x.shape)}")
    if x.dtype not in DTYPES:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
        raise RuntimeError(f"{operator}: x must be {known}; got {x.dtype}")
    directions = len(weight_hh)
    if directions not in (1, 2) or len(weight_ih) != directions or len(bias) not in (0, directions, 2 * directions):
        raise RuntimeError(
            f"{operator}: expected 1 or 2 of weight_ih and of weight_hh, and none, as many or twice as many biases; got "
            f"{len(weight_ih)}, {directions} and {len(bias)}"
        )
    first = weight_hh[0]
    if first.dim() != 2 or first.shape[0] != 4 * first.shape[1]:
        raise RuntimeError(f"{operator}: weight_hh must be [4H, H]; got shape {list(first.shape)}")
    (_, batch, inputs), (rows, hidden), dtype = x.shape, first.shape, x.dtype
    states = (directions, batch, hidden)
    expected: Expected = [("weight_ih", weight, (rows, inputs), dtype) for weight in weight_ih]
    expected += [("weight_hh", weight, (rows, hidden), dtype) for weight in weight_hh]
    expected += [("bias", each, (rows,), dtype) for each in bias]
    expected += [("h0", h0, states, dtype), ("c0", c0, states, dtype), ("lengths", lengths, (batch,), torch.int32)]
    _check(operator, x, expected)


def check_backward(
    x: Tensor, weights: Parameters, h0: Tensor | None, c0: Tensor | None, *,
    lengths: Tensor | None, y: Tensor, gates: Tensor, cells: Tensor, grads: Outputs,
) -> None:  # fmt: skip
    """The same for `lstm_layer_backward`. `gates` may be empty: they are then computed again."""
    operator, (grad_y, grad_h_n, grad_c_n) = "lstm_layer_backward", grads
    check_layer(x, weights, h0, c0, lengths=lengths, operator=operator)
    (steps, batch, _), directions, hidden = x.shape, len(weights[1]), weights[1][0].shape[1]
    outputs, states, cell = (steps, batch, directions * hidden), (directions, batch, hidden), (directions, steps, batch, hidden)
    _check(operator, x, [
        ("grad_y", grad_y, outputs, x.dtype), ("grad_h_n", grad_h_n, states, x.dtype),
        ("grad_c_n", grad_c_n, states, x.dtype), ("y", y, outputs, x.dtype), ("cells", cells, cell, wide(x.dtype)),
        ("gates", gates, (0,) if gates.shape == (0,) else (*cell[:3], 4, hidden), x.dtype),
    ])  # fmt: skip


def _check(operator: str, x: Tensor, expected: Expected) -> None:
    for name, tensor, shape, dtype in expected:
        if tensor is None:
            continue
        if tensor.shape != shape:
            raise RuntimeError(f"{operator}: {name} must have shape {list(shape)}; got {list(tensor.shape)}")
        if tensor.dtype != dtype:
            raise RuntimeError(f"{operator}: {name} must be {dtype} where x is {x.dtype}; got {tensor.dtype}")
    if any(tensor is not None and tensor.device != x.device for _, tensor, _, _ in expected):
        devices = {str(tensor.device) for tensor in (x, *(tensor for _, tensor, _, _ in expected)) if tensor is not None}
        raise RuntimeError(f"{operator}: expected all tensors on one device; got {', '.join(sorted(devices))}")
