"""Autotuning: the recurrence of a layer by every configuration that can run it, timed on this GPU, for the selector to read."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.gpu_check.device import DeviceContext
from bench.gpu_check.timings import sample_calls
from impls.cuda.runtime import BFLOAT16, FLOAT16, TENSORFLOAT32, Storage, driver
from impls.cuda.select import PHASES, Backward, Forward, Phase, Plan, candidates, choose
from impls.cuda.select.steps import GemmSteps
from impls.cuda.select.tuned import Time, describe
from impls.cuda.torch import gemm_step, recurrence
from impls.cuda.torch.ops import products

STORAGES = {"bfloat16": BFLOAT16, "float16": FLOAT16, "tensorfloat32": TENSORFLOAT32}
STEPS, EMULATED_STEPS = 128, 3
TOGETHER = 4  # configurations sampled in the same rounds; the fastest so far is one of them


@dataclass(frozen=True, slots=True)
class Layer:
    """What is asked for: hidden size, batch, directions and data type (`STORAGES`)."""

    hidden: int
    batch: int
    directions: int = 1
    dtype: str = "bfloat16"


@dataclass(frozen=True, slots=True)
class Inputs:
    """Random tensors of a layer: weights and the input product of each direction, initial states."""

    weights: list[Tensor]
    projected: list[Tensor]
    h0: Tensor
    c0: Tensor


def tune(context: DeviceContext, layers: Sequence[Layer], seconds: float, report: Callable[[str], None]) -> list[Time]:
    """Time every configuration of the layers, the likely fastest first, as many as `seconds` allow.

    Args:
        context: the GPU, or the emulation, whose times are of no use.
        layers: what to tune for.
        seconds: in all; what is not reached is reported and left to the model.
        report: is told a line for each phase of each layer.

    Returns:
        The times, in microseconds a step of the recurrence alone.
    """
    found: list[Time] = []
    parts: list[tuple[Layer, Phase]] = [(layer, phase) for layer in layers for phase in PHASES]
    end = time.monotonic() + seconds
    for number, (layer, phase) in enumerate(parts):
        until = time.monotonic() + (end - time.monotonic()) / (len(parts) - number)
        shapes = _shapes(context, layer, phase)
        times = dict(_times(context, layer, phase, shapes, until))
        found += [_time(layer, phase, shape, microseconds) for shape, microseconds in times.items()]
        best = min(times, key=times.__getitem__)
        report(
            f"{layer.dtype} H={layer.hidden} B={layer.batch} D={layer.directions} {phase}: {times[best]:.2f} µs a step by "
            f"{best.design} {best.words()}; {len(times)} of {len(shapes)} configurations measured"
        )
    return found


def _time(layer: Layer, phase: Phase, shape: Forward | Backward, microseconds: float) -> Time:
    storage = STORAGES[layer.dtype].name
    return Time(phase, storage, layer.hidden, layer.batch, layer.directions, describe(shape), microseconds)


def _shapes(context: DeviceContext, layer: Layer, phase: Phase) -> list[Forward | Backward]:
    """Each once; one that fits only with its directions apart is left to the model."""
    capability, room = _device(context)
    asked = layer.hidden, layer.batch, layer.directions, STORAGES[layer.dtype], capability
    return list(dict.fromkeys(shape for shape, apart in candidates(phase, *asked, **room) if not apart))  # type: ignore[arg-type]


def _device(context: DeviceContext) -> tuple[tuple[int, int], dict[str, Any]]:
    """Capability, and what `choose` asks of a device."""
    if context.emulated:
        return (9, 0), {}
    return torch.cuda.get_device_capability(), dict(driver.room())


def _times(
    context: DeviceContext, layer: Layer, phase: Phase, shapes: Sequence[Forward | Backward], until: float
) -> Iterator[tuple[Forward | Backward, float]]:
    """Microseconds a step, in groups that the fastest so far is sampled with; at least the first group is measured."""
    inputs, best = _inputs(context, layer), None
    for first in range(0, len(shapes), TOGETHER - 1):
        if best is not None and time.monotonic() >= until:
            return
        group = list(shapes[first : first + TOGETHER - 1])
        asked = group if best is None else [*group, best[0]]
        calls = {describe(shape): _call(context, layer, phase, shape, inputs) for shape in asked}
        for shape, samples in zip(asked, sample_calls(context, calls).values(), strict=True):
            microseconds = 1e6 * statistics.median(samples) / _steps(context)
            if best is None or shape == best[0] or microseconds < best[1]:
                best = shape, microseconds
            if shape in group:
                yield shape, microseconds


def _steps(context: DeviceContext) -> int:
    return EMULATED_STEPS if context.emulated else STEPS


def _inputs(context: DeviceContext, layer: Layer) -> Inputs:
    generator, dtype = torch.Generator().manual_seed(0), STORAGES[layer.dtype].dtype
    device, hidden, steps = context.bench.device, layer.hidden, _steps(context)

    def draw(*sizes: int) -> Tensor:
        return torch.randn(*sizes, generator=generator).to(device)

    each = range(layer.directions)
    states = layer.directions, layer.batch, hidden
    return Inputs(
        weights=[(draw(4 * hidden, hidden) / hidden**0.5).to(dtype) for _ in each],
        projected=[draw(steps * layer.batch, 4 * hidden).to(dtype) for _ in each],
        h0=draw(*states).tanh().to(dtype),
        c0=draw(*states),
    )


def _call(
    context: DeviceContext, layer: Layer, phase: Phase, shape: Forward | Backward, inputs: Inputs
) -> Callable[[], object]:
    """The recurrence by a configuration, from a CUDA graph on a GPU: a launch a step would else be bound by the host."""
    launcher, steps = context.bench.launcher, _steps(context)
    plan = _plan(context, layer, phase, shape)
    weights = recurrence.pack(plan, launcher, inputs.weights, backward=phase == "backward")
    states = inputs.h0, inputs.c0
    if phase == "forward":
        save = {"save_gates": True, "save_cells": True}
        # A GEMM a step adds to the input product in place, so a replay to what the last one left: other values, as much work.
        through = gemm_step.forward if isinstance(shape, GemmSteps) else recurrence.forward
        call = partial(through, plan, launcher, weights, inputs.projected, states, steps=steps, lengths=None, **save)
    else:
        size = layer.directions, steps, layer.batch
        gates = [each.view(steps, layer.batch, 4, layer.hidden).sigmoid() for each in inputs.projected]
        cells = inputs.c0.unsqueeze(1).expand(*size, layer.hidden).contiguous()
        grad_y = (
            torch.stack([each[:, : layer.hidden] for each in inputs.projected], 1).view(steps, layer.batch, -1).contiguous()
        )
        grads = grad_y, None, None
        through = gemm_step.backward if isinstance(shape, GemmSteps) else recurrence.backward
        call = partial(through, plan, launcher, weights, gates, cells, inputs.c0, lengths=None, grads=grads)
    with products(layer.dtype == "tensorfloat32"):
        call()
        if context.emulated:
            return call
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
    return graph.replay


def _plan(context: DeviceContext, layer: Layer, phase: Phase, shape: Forward | Backward) -> Plan:
    """The layer's plan with this configuration for the phase."""
    capability, room = _device(context)
    storage: Storage = STORAGES[layer.dtype]
    sizes = layer.hidden, layer.batch, layer.directions, storage.dtype
    plan = choose(*sizes, capability, tf32=storage is TENSORFLOAT32, **room)
    forward, backward = (shape, plan.backward) if phase == "forward" else (plan.forward, shape)
    return Plan(forward, backward, plan.dtype, "saved", "autotuning")  # type: ignore[arg-type]
