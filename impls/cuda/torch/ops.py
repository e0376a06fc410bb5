"""A layer as PyTorch operators: `lstm_bench::lstm_layer` and its backward, opaque to torch.compile, with autograd.

On a CUDA tensor they launch the kernels. On a CPU tensor they refuse, unless LSTM_BENCH_EMULATE=1 asks for the same host code
and kernel source under the emulation (needs g++, and is for tests: it is slow). Weights are those of each direction, where they
lie: nothing is stacked, and nothing that a call packs survives it.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache

import torch
from torch import Tensor
from torch.autograd import forward_ad

from impls.cuda.emulator import Emulation
from impls.cuda.runtime import Launcher
from impls.cuda.runtime.driver import Driver, room
from impls.cuda.select import Design, Memory, Plan, choose
from impls.cuda.select.steps import ExactSteps
from impls.cuda.select.tuned import read
from impls.cuda.torch import layer, recurrence
from impls.cuda.torch.recurrence import Parameters, check_backward, check_layer
from impls.frameworks.torch.network import step

# How float32 is multiplied: exactly or in TF32, by one rule for the recurrence and for the products around it.

ONE_AT_A_TIME = threading.RLock()
NOTHING = nullcontext()


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
    if forward_ad._current_level < 0:  # outside of every level; cheaper than a look at each tensor
        return False
    return any(tensor is not None and forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors)


def warn(what: str) -> None:
    """Once a place of the calling code, as Python's filters do."""
    warnings.warn(WARNING.format(what), UserWarning, stacklevel=2)


def plain_lstm_layer(
    x: Tensor, weights: Parameters, h0: Tensor | None, c0: Tensor | None, *, lengths: Tensor | None,
    weight_hr: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Of one layer y [T, B, D·H], h_n and c_n [D, B, H], where H is P with `weight_hr`, [P, H] of each direction.

    Arguments as `lstm_layer` takes them. 16-bit numbers are multiplied and added as float32.
    """
    dtype, wide, (steps, batch, _) = x.dtype, recurrence.wide(x.dtype), x.shape
    inputs, (weight_ih, weight_hh, _) = x.to(wide).unbind(0), weights
    valid: Sequence[Tensor | None] = [None] * steps
    if lengths is not None:
        valid = (torch.arange(steps, device=x.device)[:, None] < lengths)[..., None].unbind(0)
    outputs, last = [], []
    with torch.profiler.record_function(NAME), torch.autocast(x.device.type, enabled=False):
        bias = layer.sum_biases(weights[2], len(weight_ih))
        for direction, (ih, hh) in enumerate(zip(weight_ih, weight_hh, strict=True)):
            of_direction = bias[direction]
            given = (ih, hh, of_direction, None if of_direction is None else torch.zeros_like(of_direction))
            given = (*given, None if weight_hr is None else weight_hr[direction])
            of_step = tuple(None if tensor is None else tensor.to(wide) for tensor in given)
            h = x.new_zeros(batch, hh.shape[1], dtype=wide) if h0 is None else h0[direction].to(wide)
            c = x.new_zeros(batch, len(hh) // 4, dtype=wide) if c0 is None else c0[direction].to(wide)
            order, found = range(steps), []
            for t in reversed(order) if direction else order:
                y, h, c = step(inputs[t], h, c, of_step, valid[t])
                found.append(y)
            outputs.append(torch.stack(found[::-1] if direction else found))
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
    x: Tensor, weight_hh: Sequence[Tensor], design: Design = "auto", memory: Memory = "saved", tf32: bool | None = False
) -> Plan:  # fmt: skip
    """`tf32` None: as PyTorch's switch says now."""
    sizes = weight_hh[0].shape[1], x.shape[1], len(weight_hh), x.dtype, x.device
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
        tuned = read(torch.cuda.get_device_name())
        capability = torch.cuda.get_device_capability()
        return choose(*sizes, capability, tf32=tf32, design=design, memory=memory, tuned=tuned, **room())


@contextmanager
def as_planned(plan: Plan, x: Tensor) -> Iterator[None]:
    """Products in x's dtype whatever autocast says, and where that is float32, in TF32 or exactly as the plan's kernels do."""
    of_float32 = products(not isinstance(plan.forward, ExactSteps)) if x.dtype == torch.float32 else NOTHING
    kind = x.device.type
    with torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else NOTHING, of_float32:
        yield


# They take weight_ih, weight_hh, bias_ih and bias_hh of each direction, None for what there is not.


def flat(weights: Parameters) -> list[Tensor | None]:
    """In the operators' order. They take no lists: PyTorch batches gradients only through operators without any."""
    weight_ih, weight_hh, bias = weights
    directions, found = len(weight_ih), []
    for d in range(2):
        own = d < directions
        found += [weight_ih[d], weight_hh[d]] if own else [None, None]
        found += [bias[place] if own and place < len(bias) else None for place in (d, directions + d)]
    return found


def gathered(operator: str, *given: Tensor | None) -> Parameters:
    """The inverse of `flat`. Raises a RuntimeError where the directions have not the same weights and biases."""
    own, reverse = given[:4], given[4:]
    if any(each is not None for each in reverse):
        if any((one is None) != (other is None) for one, other in zip(own, reverse, strict=True)):
            raise RuntimeError(f"{operator}: expected the same weights and biases of both directions")
    present = [[each for each in pair if each is not None] for pair in zip(own, reverse, strict=True)]
    if present[3] and not present[2]:
        raise RuntimeError(f"{operator}: got bias_hh without bias_ih; give a sum of both as bias_ih")
    return present[0], present[1], present[2] + present[3]


@torch.library.custom_op("lstm_bench::lstm_layer", mutates_args=())
def lstm_layer(
    x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor | None, bias_hh: Tensor | None,
    weight_ih_reverse: Tensor | None, weight_hh_reverse: Tensor | None, bias_ih_reverse: Tensor | None,
    bias_hh_reverse: Tensor | None, h0: Tensor | None, c0: Tensor | None, lengths: Tensor | None, training: bool, design: str,
    memory: str, tf32: bool | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """y [T, B, D·H], h_n and c_n [D, B, H], and what a backward pass needs (gates, cells): empty unless `training`.

    x [T, B, I]; of each direction weight_ih [4H, I], weight_hh [4H, H], and bias_ih and bias_hh [4H], one of them or none; h0
    and c0 [D, B, H], None for zeros; lengths [B] int32, None where all sequences have T steps. All on one device; B may be 0;
    a length below 0 counts as 0, one above T as T. `design` is one of `impls.cuda.select.DESIGNS`, `memory` one of its
    `MEMORIES`. `tf32` lets float32 be multiplied so; None leaves that to PyTorch's switch at the time of each call, as for
    `torch.nn.LSTM`.
    Raises a RuntimeError for tensors that do not fit together.
    """
    given = (
        weight_ih, weight_hh, bias_ih, bias_hh, weight_ih_reverse, weight_hh_reverse, bias_ih_reverse, bias_hh_reverse,
    )  # fmt: skip
    weights = gathered("lstm_layer", *given)
    check_layer(x, weights, h0, c0, lengths=lengths)
    if has_tangent(x, *given, h0, c0):
        raise NotImplementedError("lstm_layer: the kernels have no forward-mode derivative; call the module uncompiled")
    launcher = launcher_for(x.device)
    if not x.shape[1]:
        return _layer_shapes(x, *given, h0, c0, lengths, training, design, memory, tf32)
    plan = plan_for(x, weights[1], design, memory, tf32)  # type: ignore[arg-type]  (custom_op takes str, choose checks it)
    wide = recurrence.wide(x.dtype)
    with as_planned(plan, x):
        found = layer.forward(
            plan, launcher, layer.pack(plan, launcher, weights), x.contiguous(),
            (_contiguous(h0), _contiguous(c0, wide)), lengths=_contiguous(lengths), training=training,
        )  # fmt: skip
    gates = x.new_empty(0) if found.gates is None else found.gates
    cells = x.new_empty(0, dtype=wide) if found.cells is None else found.cells
    return found.y, found.h_n, _narrow(found.c_n, x), gates, cells


@lstm_layer.register_fake
def _layer_shapes(x, *given):
    *given, h0, c0, lengths, training, _, memory, _ = given
    weights = gathered("lstm_layer", *given)
    check_layer(x, weights, h0, c0, lengths=lengths)
    (steps, batch, _), directions, hidden = x.shape, len(weights[1]), weights[1][0].shape[1]
    gates = x.new_empty((directions, steps, batch, 4, hidden) if training and memory == "saved" else 0)
    cells = x.new_empty((directions, steps, batch, hidden) if training else 0, dtype=recurrence.wide(x.dtype))
    states = (directions, batch, hidden)
    return x.new_empty(steps, batch, directions * hidden), x.new_empty(states), x.new_empty(states), gates, cells


@torch.library.custom_op("lstm_bench::lstm_layer_backward", mutates_args=())
def lstm_layer_backward(
    grad_y: Tensor, grad_h_n: Tensor | None, grad_c_n: Tensor | None, x: Tensor, weight_ih: Tensor, weight_hh: Tensor,
    bias_ih: Tensor | None, bias_hh: Tensor | None, weight_ih_reverse: Tensor | None, weight_hh_reverse: Tensor | None,
    bias_ih_reverse: Tensor | None, bias_hh_reverse: Tensor | None, h0: Tensor | None, c0: Tensor | None,
    lengths: Tensor | None, y: Tensor, gates: Tensor, cells: Tensor, design: str, memory: str, tf32: bool | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of x, of the weights in their order (empty for what there is not), of h0 and of c0 (also where there are none).

    Each is its own memory.
    """
    grads = grad_y, grad_h_n, grad_c_n
    weights = gathered(
        "lstm_layer_backward", weight_ih, weight_hh, bias_ih, bias_hh, weight_ih_reverse, weight_hh_reverse, bias_ih_reverse,
        bias_hh_reverse,
    )  # fmt: skip
    check_backward(x, weights, h0, c0, lengths=lengths, y=y, gates=gates, cells=cells, grads=grads)
    launcher = launcher_for(x.device)
    if not x.shape[1]:
        ih, hh, bias = ([torch.zeros_like(each) for each in kind] for kind in weights)
        state = x.new_empty(len(weights[1]), 0, weights[1][0].shape[1])
        return torch.zeros_like(x), *_filled(x, (ih, hh, bias)), state, state.clone()  # type: ignore[return-value]
    plan = plan_for(x, weights[1], design, memory, tf32)  # type: ignore[arg-type]
    wide = recurrence.wide(x.dtype)
    result = recurrence.Result(y.contiguous(), y, y, gates.contiguous() if gates.numel() else None, cells.contiguous())
    with as_planned(plan, x):
        found = layer.backward(
            plan, launcher, weights, x.contiguous(), (_contiguous(h0), _contiguous(c0, wide)), lengths=_contiguous(lengths),
            result=result, grads=(grad_y.contiguous(), _contiguous(grad_h_n, wide), _contiguous(grad_c_n, wide)),
        )  # fmt: skip
    filled = _filled(x, (found.weight_ih, found.weight_hh, found.bias))
    return found.x, *filled, _narrow(found.h0, x), _narrow(found.c0, x)  # type: ignore[return-value]


@lstm_layer_backward.register_fake
def _(grad_y, grad_h_n, grad_c_n, x, *given):
    grads = grad_y, grad_h_n, grad_c_n
    *given, h0, c0, lengths, y, gates, cells, _, _, _ = given
    weights = gathered("lstm_layer_backward", *given)
    check_backward(x, weights, h0, c0, lengths=lengths, y=y, gates=gates, cells=cells, grads=grads)
    ih, hh, bias = ([each.new_empty(each.shape) for each in kind] for kind in weights)
    states = (x.new_empty(len(weights[1]), x.shape[1], weights[1][0].shape[1]) for _ in range(2))
    return (x.new_empty(x.shape), *_filled(x, (ih, hh, bias)), *states)


def _filled(x: Tensor, weights: Parameters) -> list[Tensor]:
    """As `flat`, with something in every place: an operator returns no None."""
    return [x.new_empty(0) if each is None else each for each in flat(weights)]


def _narrow(tensor: Tensor, x: Tensor) -> Tensor:
    return tensor if tensor.dtype == x.dtype else tensor.to(x.dtype)


def _contiguous(tensor: Tensor | None, dtype: torch.dtype | None = None) -> Tensor | None:
    if tensor is None:
        return None
    return (tensor if dtype is None or tensor.dtype == dtype else tensor.to(dtype)).contiguous()


def _keep(ctx, inputs, output) -> None:
    *tensors, training, design, memory, tf32 = inputs  # x, the weights, h0, c0 and lengths
    y, _, _, gates, cells = output
    ctx.mark_non_differentiable(gates, cells)
    ctx.set_materialize_grads(False)
    ctx.choice, ctx.training = (design, memory, tf32), training
    ctx.save_for_backward(*tensors, y, gates, cells)


def _send_back(ctx, grad_y, grad_h_n, grad_c_n, grad_gates, grad_cells):
    if not ctx.training:
        raise RuntimeError("lstm_layer was called for inference (training=False) and kept nothing for a backward pass")
    *given, y, gates, cells = ctx.saved_tensors
    if grad_y is None:
        grad_y = torch.zeros_like(y)
    grads = grad_y, grad_h_n, grad_c_n
    if torch.is_grad_enabled() or is_transformed(*grads):  # create_graph, or a transform of it
        return *_plain_backward(given, grads), *[None] * 5
    found = lstm_layer_backward(*grads, *given, y, gates, cells, *ctx.choice)
    return *(None if tensor is None else grad for tensor, grad in zip(given, found, strict=False)), *[None] * 5


def _plain_backward(given, grads) -> list[Tensor | None]:
    """Gradients of x, the weights, h0 and c0 that can be differentiated again."""
    warn("second derivatives")
    *differentiable, lengths = given
    present = [tensor for tensor in differentiable if tensor is not None]

    def layer_of(*present):
        x, *left = present
        *weights, h0, c0 = (None if tensor is None else left.pop(0) for tensor in differentiable[1:])
        return plain_lstm_layer(x, gathered("lstm_layer", *weights), h0, c0, lengths=lengths)

    outputs, back = torch.func.vjp(layer_of, *present)[:2]
    found = list(
        back(tuple(torch.zeros_like(output) if grad is None else grad for output, grad in zip(outputs, grads, strict=True)))
    )
    return [None if tensor is None else found.pop(0) for tensor in differentiable]


lstm_layer.register_autograd(_send_back, setup_context=_keep)


# Stacked layers as a wavefront, for inference: no gradient goes through it.


@torch.library.custom_op("lstm_bench::lstm_wavefront", mutates_args=())
def lstm_wavefront(
    x: Tensor, weights: Sequence[Tensor], layers: int, h0: Tensor | None, c0: Tensor | None, lengths: Tensor | None, chunk: int,
    design: str, tf32: bool | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """y [T, B, H], h_n and c_n [L, B, H] of layers of one direction, each a chunk of `chunk` steps behind the one below.

    weights: of the first layer weight_ih, weight_hh and its biases (none, one or two), then of the next. The rest as
    `lstm_layer` takes it, states of all layers. Raises a RuntimeError for tensors that do not fit together.
    """
    stack = _checked_stack(x, weights, layers, (h0, c0), lengths, chunk)
    launcher = launcher_for(x.device)
    if not x.shape[1]:
        return _wavefront_shapes(x, weights, layers, h0, c0, lengths, chunk, design, tf32)
    plan = plan_for(x, stack[0][1], design, "saved", tf32)  # type: ignore[arg-type]
    states = _contiguous(h0), _contiguous(c0, recurrence.wide(x.dtype))
    with as_planned(plan, x):
        packed = [layer.pack(plan, launcher, each) for each in stack]
        given = {"lengths": _contiguous(lengths), "chunk": chunk}
        y, h_n, c_n = layer.wavefront(plan, launcher, packed, x.contiguous(), states, **given)
    return y, h_n, _narrow(c_n, x)


@lstm_wavefront.register_fake
def _wavefront_shapes(x, weights, layers, h0, c0, lengths, chunk, design, tf32):
    hidden = _checked_stack(x, weights, layers, (h0, c0), lengths, chunk)[0][1][0].shape[1]
    states = (layers, x.shape[1], hidden)
    return x.new_empty(*x.shape[:2], hidden), x.new_empty(states), x.new_empty(states)


def _checked_stack(x, weights, layers, states, lengths, chunk) -> list[Parameters]:
    """The weights of each layer."""
    each, left = divmod(len(weights), max(layers, 1))
    if layers < 1 or chunk < 1 or left or not 2 <= each <= 4:
        raise RuntimeError(
            "lstm_wavefront: expected weight_ih, weight_hh and at most two biases of each layer, and chunks of a step or more; "
            f"got {len(weights)} weights of {layers} layers, and chunk={chunk}"
        )
    stack, below = [], x
    for depth in range(layers):
        weight_ih, weight_hh, *bias = weights[depth * each : (depth + 1) * each]
        own = [None if state is None else state[depth : depth + 1] for state in states]
        stack.append(([weight_ih], [weight_hh], bias))
        check_layer(below, stack[-1], *own, lengths=lengths, operator="lstm_wavefront")
        below = x.new_empty(1).expand(*x.shape[:2], weight_hh.shape[1])
    return stack
