"""A layer as PyTorch operators: `lstm_bench::lstm_layer` and its backward, opaque to torch.compile, with autograd.

On a CUDA tensor they launch the kernels. On a CPU tensor they refuse, unless LSTM_BENCH_EMULATE=1 asks for the same host code
and kernel source under the emulation (needs g++, and is for tests: it is slow). Weights are stacked over directions as in
layer.py.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache

import torch
from torch import Tensor
from torch.autograd import forward_ad

from impls.cuda.emulator import Emulation
from impls.cuda.runtime import Launcher
from impls.cuda.runtime.driver import Driver, room
from impls.cuda.select import Design, Memory, Plan, choose
from impls.cuda.torch import layer, recurrence
from impls.cuda.torch.recurrence import check_backward, check_layer
from impls.frameworks.torch.network import step

# How float32 is multiplied: exactly or in TF32, by one rule for the recurrence and for the products around it.

ONE_AT_A_TIME = threading.RLock()


def tf32_for(x: Tensor, asked: bool | None = None) -> bool:
    """Whether `x` is multiplied in TF32: as asked, or where nothing is, on a GPU where `torch.nn.LSTM` would.

    Not for code that torch.compile traces: a switch that is read there is a constant of the graph, if it can be read at all.
    """
    return asked if asked is not None else x.is_cuda and tf32_allowed()


def tf32_allowed() -> bool:
    """PyTorch's switch for LSTMs on a GPU, whether it was set as `torch.backends.cudnn.rnn.fp32_precision`, as
    `torch.backends.fp32_precision` or as the older `torch.backends.cudnn.allow_tf32`, which after the others cannot be read."""
    return torch.backends.cudnn.rnn.fp32_precision == "tf32"  # type: ignore (a property that type checkers miss)


@contextmanager
def products(tf32: bool) -> Iterator[None]:
    """PyTorch's float32 products on a GPU are TF32, or exact, inside.

    Their switch belongs to the process: where it stands otherwise it is turned and turned back, by one thread at a time,
    and products that other threads enqueue meanwhile follow it.
    """
    switch = torch.backends.cuda.matmul
    with ONE_AT_A_TIME:
        before = switch.fp32_precision
        if (before == "tf32") == tf32:
            yield
            return
        switch.fp32_precision = "tf32" if tf32 else "ieee"
        try:
            yield
        finally:
            switch.fp32_precision = "none"  # inherits again, if it had inherited
            if switch.fp32_precision != before:
                switch.fp32_precision = before


# The layer in plain PyTorch, for second derivatives and transforms of functions: the kernels have no rule for them.
#
# Differentiable operations without in-place writes, so that forward mode, vmap and higher derivatives are PyTorch's own.

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


def plain_lstm_layer(
    x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None, h0: Tensor, c0: Tensor, *,
    lengths: Tensor, weight_hr: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Of one layer y [T, B, D·H], h_n and c_n [D, B, H], where H is P with `weight_hr` [D, P, H].

    Arguments as `lstm_layer` takes them. 16-bit numbers are multiplied and added as float32.
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
                y, h, c = step(inputs[t], h, c, weights, valid[t])
                of_direction.append(y)
            outputs.append(torch.stack(of_direction[::-1] if direction else of_direction))
            last.append((h, c))
        h_n, c_n = (torch.stack(states).to(dtype) for states in zip(*last, strict=True))
        return torch.cat(outputs, 2).to(dtype), h_n, c_n


# The operators.

EMULATE = "LSTM_BENCH_EMULATE"
EMULATED_CAPABILITY = (9, 0)


def launcher_for(device: torch.device) -> Launcher:
    """Raises PyTorch's kind of error for a device that has no kernels, and for the CPU unless the emulation is asked for.

    An environment variable instead of a context manager: backward passes and JAX's callbacks may run in other threads.
    """
    if device.type == "cuda":
        return Driver()
    if device.type == "cpu" and os.environ.get(EMULATE) == "1":
        return Emulation()
    raise RuntimeError(
        f"the LSTM kernels of lstm_bench run on cuda, not on {device.type}; move the tensors to a GPU, or use torch.nn.LSTM "
        f"(for tests, {EMULATE}=1 runs them on cpu under a slow emulation)"
    )


def plan_for(
    x: Tensor, weight_hh: Tensor, design: Design = "auto", memory: Memory = "saved", tf32: bool | None = False
) -> Plan:  # fmt: skip
    """`tf32` None: as PyTorch's switch says now."""
    directions, _, hidden = weight_hh.shape
    sizes = hidden, x.shape[1], directions, x.dtype, x.device
    return planned(*sizes, design=design, memory=memory, tf32=tf32_for(x, tf32))


@lru_cache(maxsize=1024)
def planned(
    hidden: int, batch: int, directions: int, dtype: torch.dtype, device: torch.device, *, design: Design, memory: Memory,
    tf32: bool,
) -> Plan:  # fmt: skip
    """The plan on this device: the driver is asked once for the same sizes."""
    sizes = hidden, batch, directions, dtype
    if device.type != "cuda":
        return choose(*sizes, EMULATED_CAPABILITY, tf32=tf32, design=design, memory=memory)
    with torch.cuda.device(device):
        return choose(*sizes, torch.cuda.get_device_capability(), tf32=tf32, design=design, memory=memory, **room())


@contextmanager
def as_planned(plan: Plan, x: Tensor) -> Iterator[None]:
    """Products in x's dtype whatever autocast says, and where that is float32, in TF32 or exactly as the plan's kernels do."""
    of_float32 = products(plan.design != "step") if x.dtype == torch.float32 else nullcontext()
    with torch.autocast(x.device.type, enabled=False), of_float32:
        yield


@torch.library.custom_op("lstm_bench::lstm_layer", mutates_args=())
def lstm_layer(
    x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None, h0: Tensor, c0: Tensor, lengths: Tensor,
    training: bool, design: str, memory: str, tf32: bool | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """y [T, B, D·H], h_n and c_n [D, B, H], and what a backward pass needs (gates, cells): empty unless `training`.

    x [T, B, I], weight_ih [D, 4H, I], weight_hh [D, 4H, H], bias [D, 4H], h0 and c0 [D, B, H], lengths [B] int32, all on one
    device; B may be 0; a length below 0 counts as 0, one above T as T. `design` is one of
    `impls.cuda.select.DESIGNS`, `memory` one of its `MEMORIES`. `tf32` lets float32 be multiplied so; None leaves that to
    PyTorch's switch at the time of each call, as for `torch.nn.LSTM`.
    Raises a RuntimeError for tensors that do not fit together.
    """
    check_layer(x, weight_ih, weight_hh, bias, h0, c0, lengths=lengths)
    if has_tangent(x, weight_ih, weight_hh, bias, h0, c0):
        raise NotImplementedError("lstm_layer: the kernels have no forward-mode derivative; call the module uncompiled")
    launcher = launcher_for(x.device)
    if not x.shape[1]:
        return _layer_shapes(x, weight_ih, weight_hh, bias, h0, c0, lengths, training, design, memory, tf32)
    plan = plan_for(x, weight_hh, design, memory, tf32)  # type: ignore[arg-type]  (custom_op takes str, choose checks it)
    wide_c0, lengths = c0.to(recurrence.wide(x.dtype)).contiguous(), lengths.clamp(0, len(x)).contiguous()
    with as_planned(plan, x):
        weights = layer.pack(plan, weight_ih, weight_hh, bias)
        given = plan, launcher, weights, x.contiguous(), h0.contiguous(), wide_c0
        found = layer.forward(*given, lengths=lengths, training=training)
    nothing = x.new_empty(0)
    c_n = found.c_n.to(x.dtype)
    return found.y, found.h_n, c_n, _or(found.gates, nothing), _or(found.cells, nothing.to(wide_c0.dtype, copy=True))


@lstm_layer.register_fake
def _layer_shapes(x, weight_ih, weight_hh, bias, h0, c0, lengths, training, design, memory, tf32):
    check_layer(x, weight_ih, weight_hh, bias, h0, c0, lengths=lengths)
    steps, batch, _ = x.shape
    directions, _, hidden = weight_hh.shape
    gates = x.new_empty((directions, steps, batch, 4, hidden) if training and memory == "saved" else 0)
    cells = x.new_empty((directions, steps, batch, hidden) if training else 0, dtype=recurrence.wide(x.dtype))
    states = (directions, batch, hidden)
    return x.new_empty(steps, batch, directions * hidden), x.new_empty(states), x.new_empty(states), gates, cells


@torch.library.custom_op("lstm_bench::lstm_layer_backward", mutates_args=())
def lstm_layer_backward(
    grad_y: Tensor, grad_h_n: Tensor, grad_c_n: Tensor, x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor | None,
    h0: Tensor, c0: Tensor, lengths: Tensor, y: Tensor, gates: Tensor, cells: Tensor, design: str, memory: str,
    tf32: bool | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of x, weight_ih, weight_hh, bias (also where there is none), h0 and c0."""
    grads = grad_y, grad_h_n, grad_c_n
    check_backward(x, weight_ih, weight_hh, bias, h0, c0, lengths=lengths, y=y, gates=gates, cells=cells, grads=grads)
    launcher = launcher_for(x.device)
    if not x.shape[1]:
        return tuple(map(torch.zeros_like, (x, weight_ih, weight_hh, weight_ih[..., 0], h0, c0)))  # type: ignore[return-value]
    plan = plan_for(x, weight_hh, design, memory, tf32)  # type: ignore[arg-type]
    wide, lengths = recurrence.wide(x.dtype), lengths.clamp(0, len(x)).contiguous()
    result = recurrence.Result(y.contiguous(), h0, c0, gates.contiguous() if gates.numel() else None, cells.contiguous())
    with as_planned(plan, x):
        found = layer.backward(
            plan, launcher, (weight_ih, weight_hh, bias), x.contiguous(), h0.contiguous(), c0.to(wide).contiguous(),
            lengths=lengths, result=result,
            grads=(grad_y.contiguous(), grad_h_n.to(wide).contiguous(), grad_c_n.to(wide).contiguous()),
        )  # fmt: skip
    return found.x, found.weight_ih, found.weight_hh, found.bias, found.h0.to(x.dtype), found.c0.to(x.dtype)


@lstm_layer_backward.register_fake
def _(grad_y, grad_h_n, grad_c_n, x, weight_ih, weight_hh, bias, h0, c0, lengths, y, gates, cells, design, memory, tf32):
    grads = grad_y, grad_h_n, grad_c_n
    check_backward(x, weight_ih, weight_hh, bias, h0, c0, lengths=lengths, y=y, gates=gates, cells=cells, grads=grads)
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
    if torch.is_grad_enabled() or is_transformed(grad_y, grad_h_n, grad_c_n):  # create_graph, or a transform of it
        grads = grad_y, grad_h_n, grad_c_n
        return *_plain_backward(x, weight_ih, weight_hh, bias, h0, c0, lengths=lengths, grads=grads), *[None] * 5
    found = lstm_layer_backward(
        grad_y, grad_h_n, grad_c_n, x, weight_ih, weight_hh, bias, h0, c0, lengths, y, gates, cells, *ctx.choice
    )
    grad_x, grad_ih, grad_hh, grad_bias, grad_h0, grad_c0 = found
    return grad_x, grad_ih, grad_hh, None if bias is None else grad_bias, grad_h0, grad_c0, *[None] * 5


def _plain_backward(x, weight_ih, weight_hh, bias, h0, c0, *, lengths, grads) -> tuple[Tensor | None, ...]:
    """Gradients that can be differentiated again."""
    warn("second derivatives")
    biases = () if bias is None else (bias,)

    def layer_of(x, weight_ih, weight_hh, h0, c0, *biases):
        return plain_lstm_layer(x, weight_ih, weight_hh, biases[0] if biases else None, h0, c0, lengths=lengths)

    back = torch.func.vjp(layer_of, x, weight_ih, weight_hh, h0, c0, *biases)[1]
    grad_x, grad_ih, grad_hh, grad_h0, grad_c0, *grad_bias = back(grads)
    return grad_x, grad_ih, grad_hh, grad_bias[0] if grad_bias else None, grad_h0, grad_c0


lstm_layer.register_autograd(_send_back, setup_context=_keep)


@torch.library.custom_op("lstm_bench::sum_biases", mutates_args=())
def sum_biases(bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
    """b_ih + b_hh. Its gradients are equal and never one buffer, which `+` does not promise for leaves of a compiled graph."""
    return bias_ih + bias_hh


@sum_biases.register_fake
def _(bias_ih, bias_hh):
    return torch.empty_like(bias_ih)


@torch.library.custom_op("lstm_bench::copy", mutates_args=())
def _copy(tensor: Tensor) -> Tensor:
    """A copy that no compiler takes for the tensor itself."""
    return tensor.clone()


@_copy.register_fake
def _(tensor):
    return torch.empty_like(tensor)


_copy.register_autograd(lambda ctx, grad: grad)
sum_biases.register_autograd(lambda ctx, grad: (grad, _copy(grad)))


def _or(tensor: Tensor | None, otherwise: Tensor) -> Tensor:
    return otherwise if tensor is None else tensor
