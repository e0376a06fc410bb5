"""A layer as PyTorch operators: `lstm_bench::lstm_layer` and its backward, opaque to torch.compile, with autograd.

On a CUDA tensor they launch the kernels; on a CPU tensor they run the same host code and the same kernel source under the
emulation (needs g++, and is for tests: it is slow). Weights are stacked over directions as in layer.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

from impls.backends._cuda import layer, recurrence
from impls.backends._cuda.driver import Driver, resident_clusters
from impls.backends._cuda.emulate import Emulation
from impls.backends._cuda.kernels import Launcher
from impls.backends._cuda.plan import Design, Memory, Plan, choose

EMULATED_CAPABILITY = (9, 0)


def launcher_for(device: torch.device) -> Launcher:
    """Raises PyTorch's kind of error for a device that neither has kernels nor an emulation."""
    if device.type == "cuda":
        return Driver()
    if device.type == "cpu":
        return Emulation()
    raise RuntimeError(f"lstm_layer runs on cuda (and, emulated, on cpu), not on {device.type}")


def plan_for(x: Tensor, weight_hh: Tensor, design: Design = "auto", memory: Memory = "saved", tf32: bool = False) -> Plan:
    directions, _, hidden = weight_hh.shape
    sizes = hidden, x.shape[1], directions, x.dtype
    if x.device.type != "cuda":
        return choose(*sizes, EMULATED_CAPABILITY, tf32=tf32, design=design, memory=memory)
    with torch.cuda.device(x.device):
        capability = torch.cuda.get_device_capability()
        return choose(*sizes, capability, tf32=tf32, design=design, memory=memory, resident=resident_clusters)


@torch.library.custom_op("lstm_bench::lstm_layer", mutates_args=())
def lstm_layer(
    x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None, h0: Tensor, c0: Tensor, lengths: Tensor,
    training: bool, design: str, memory: str, tf32: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """y [T, B, D·H], h_n and c_n [D, B, H], and what a backward pass needs (gates, cells): empty unless `training`.

    x [T, B, I], weight_ih [D, 4H, I], weight_hh [D, 4H, H], bias [D, 4H], h0 and c0 [D, B, H], lengths [B] int32 on the same
    device, each in 0…T. `design` is one of plan.py's; `memory` saved or rebuilt; `tf32` lets float32 be multiplied so.
    """
    check(x, weight_ih, weight_hh, bias, h0, c0, lengths)
    plan = plan_for(x, weight_hh, design, memory, tf32)  # type: ignore[arg-type]  (custom_op takes str, choose checks it)
    weights = layer.pack(plan, weight_ih, weight_hh, bias)
    wide_c0 = c0.to(recurrence.wide(x.dtype)).contiguous()
    found = layer.forward(plan, launcher_for(x.device), weights, x.contiguous(), h0.contiguous(), wide_c0, lengths, training)
    nothing = x.new_empty(0)
    c_n = found.c_n.to(x.dtype)
    return found.y, found.h_n, c_n, _or(found.gates, nothing), _or(found.cells, nothing.to(wide_c0.dtype, copy=True))


@lstm_layer.register_fake
def _(x, weight_ih, weight_hh, bias, h0, c0, lengths, training, design, memory, tf32):
    steps, batch, _ = x.shape
    directions, _, hidden = weight_hh.shape
    gates = x.new_empty((directions, steps, batch, hidden, 4) if training and memory == "saved" else 0)
    cells = x.new_empty((directions, steps, batch, hidden) if training else 0, dtype=recurrence.wide(x.dtype))
    states = (directions, batch, hidden)
    return x.new_empty(steps, batch, directions * hidden), x.new_empty(states), x.new_empty(states), gates, cells


@torch.library.custom_op("lstm_bench::lstm_layer_backward", mutates_args=())
def lstm_layer_backward(
    grad_y: Tensor, grad_h_n: Tensor, grad_c_n: Tensor, x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None,
    h0: Tensor, c0: Tensor, lengths: Tensor, y: Tensor, gates: Tensor, cells: Tensor, design: str, memory: str, tf32: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of x, weight_ih, weight_hh, bias (also where there is none), h0 and c0."""
    plan = plan_for(x, weight_hh, design, memory, tf32)  # type: ignore[arg-type]
    wide = recurrence.wide(x.dtype)
    result = recurrence.Result(y, h0, c0, gates if gates.numel() else None, cells)
    found = layer.backward(
        plan, launcher_for(x.device), weight_ih, weight_hh, bias, x.contiguous(), h0.contiguous(), c0.to(wide).contiguous(),
        lengths, result, grad_y.contiguous(), grad_h_n.to(wide).contiguous(), grad_c_n.to(wide).contiguous(),
    )  # fmt: skip
    return found.x, found.weight_ih, found.weight_hh, found.bias, found.h0.to(x.dtype), found.c0.to(x.dtype)


@lstm_layer_backward.register_fake
def _(grad_y, grad_h_n, grad_c_n, x, weight_ih, weight_hh, bias, h0, c0, lengths, y, gates, cells, design, memory, tf32):
    like = (torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in (x, weight_ih, weight_hh))
    states = (torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in (h0, c0))
    return (*like, x.new_empty(weight_ih.shape[:2]), *states)


def _keep(ctx, inputs, output) -> None:
    x, weight_ih, weight_hh, bias, h0, c0, lengths, training, design, memory, tf32 = inputs
    y, _, _, gates, cells = output
    ctx.mark_non_differentiable(gates, cells)
    ctx.save_for_backward(x, weight_ih, weight_hh, bias, h0, c0, lengths, y, gates, cells)
    ctx.choice, ctx.training = (design, memory, tf32), training


def _send_back(ctx, grad_y, grad_h_n, grad_c_n, grad_gates, grad_cells):
    if not ctx.training:
        raise RuntimeError("lstm_layer was called for inference (training=False) and kept nothing for a backward pass")
    x, weight_ih, weight_hh, bias, h0, c0, lengths, y, gates, cells = ctx.saved_tensors
    found = lstm_layer_backward(
        grad_y, grad_h_n, grad_c_n, x, weight_ih, weight_hh, bias, h0, c0, lengths, y, gates, cells, *ctx.choice
    )
    grad_x, grad_ih, grad_hh, grad_bias, grad_h0, grad_c0 = found
    return grad_x, grad_ih, grad_hh, None if bias is None else grad_bias, grad_h0, grad_c0, *[None] * 5


lstm_layer.register_autograd(_send_back, setup_context=_keep)


def _or(tensor: Tensor | None, otherwise: Tensor) -> Tensor:
    return otherwise if tensor is None else tensor


def check(
    x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None, h0: Tensor, c0: Tensor, lengths: Tensor
) -> None:
    """Raise PyTorch's kind of error, a RuntimeError with a sentence, for tensors that do not fit together."""
    if x.dim() != 3 or 0 in x.shape:
        raise RuntimeError(f"lstm_layer: x must be [T, B, I] with no empty axis; got shape {list(x.shape)}")
    if weight_hh.dim() != 3 or len(weight_hh) not in (1, 2) or weight_hh.shape[1] != 4 * weight_hh.shape[2]:
        raise RuntimeError(f"lstm_layer: weight_hh must be [D, 4H, H] with D = 1 or 2; got shape {list(weight_hh.shape)}")
    directions, rows, hidden = weight_hh.shape
    expected = {
        "weight_ih": (weight_ih, (directions, rows, x.shape[2])), "h0": (h0, (directions, x.shape[1], hidden)),
        "c0": (c0, (directions, x.shape[1], hidden)),
    } | ({} if bias is None else {"bias": (bias, (directions, rows))})  # fmt: skip
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise RuntimeError(f"lstm_layer: {name} must have shape {list(shape)}; got {list(tensor.shape)}")
    for name, tensor in ({name: tensor for name, (tensor, _) in expected.items()} | {"weight_hh": weight_hh}).items():
        if tensor.dtype != x.dtype:
            raise RuntimeError(f"lstm_layer: {name} is {tensor.dtype} and x is {x.dtype}; they must be the same")
    if lengths.shape != (x.shape[1],) or lengths.dtype != torch.int32 or not lengths.is_contiguous():
        raise RuntimeError(
            f"lstm_layer: lengths must be {x.shape[1]} contiguous int32; got {lengths.dtype} {list(lengths.shape)}"
        )
    devices = {str(tensor.device) for tensor in (x, weight_hh, lengths, *(pair[0] for pair in expected.values()))}
    if len(devices) > 1:
        raise RuntimeError(f"lstm_layer: expected all tensors on one device; got {', '.join(sorted(devices))}")
