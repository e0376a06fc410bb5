"""Time of a kernel configuration on an H100: as measured, and between what was measured by a model fitted to it.

The measurements are those of `measured_h100.json` beside this file, in microseconds of a time step in bfloat16. They are of the
recurrence alone with experimental kernels that the project's follow, or of whole layers: with an earlier `tensor_step`, and
(`gemm_step_…`) with cuDNN, which takes a GEMM and a pointwise kernel a step as that design does. No time in them is of the
present source. A family's model is linear in a few features (what a step multiplies, exchanges and reads); `fit.py`
fits its constants.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from impls.cuda.runtime import TENSORFLOAT32, Storage

TABLE = Path(__file__).parent / "measured_h100.json"
GIGAHERTZ = 1.8  # of an H100 under this load
CYCLES_PER_PRODUCT = 8  # of m16n8k16 on a quarter of an SM; 7.1 were measured with four chains
SHARED_BYTES_PER_CYCLE = 128
# Microseconds per 1000 messages of 16 bytes, from the ablation of the backward kernel ("only exchange" at H 256 and 512): a
# constant of its own would be one too many for ten measurements.
BACKWARD_MESSAGES = 0.65
# Of the rest of a layer (input product; in training also the gradients' products and sums). Microseconds a step: (what is
# there anyway, times the products at GEMM_FLOPS, per 10 000 units of the batch). Chosen so that no measured layer took longer.
GEMM_FLOPS = 650e6  # a microsecond, bfloat16
REST = {"forward": (0.16, 1.2, 0.0), "training": (0.8, 1.2, 0.13)}

Features = tuple[float, ...]


Origin = Literal["autotuned", "measured", "modelled", "extrapolated"]
ORIGINS: tuple[Origin, ...] = get_args(Origin)  # the surest first


@dataclass(frozen=True, slots=True)
class Estimate:
    """Microseconds of a time step.

    microseconds: what is expected.
    upper: what nine of ten shapes that the model had not seen stayed under.
    origin: `autotuned` on this very GPU; `measured` with the kernel that ours follows; `modelled` within the range of what was
        measured; `extrapolated` beyond it, so that `upper` is no bound.
    """

    microseconds: float
    upper: float
    origin: Origin

    @property
    def ranked(self) -> float:
        """By which configurations are compared: what is extrapolated has to win by the model's error."""
        return self.upper if self.origin == "extrapolated" else self.microseconds

    def __add__(self, other: Estimate) -> Estimate:
        origin = ORIGINS[max(ORIGINS.index(self.origin), ORIGINS.index(other.origin))]
        return Estimate(self.microseconds + other.microseconds, self.upper + other.upper, origin)

    def times(self, waves: int) -> Estimate:
        """Of so many such steps one after the other."""
        origin: Origin = "modelled" if self.origin == "measured" and waves > 1 else self.origin
        return Estimate(self.microseconds * waves, self.upper * waves, origin)


@dataclass(frozen=True, slots=True)
class Family:
    """Kernels of one design and phase. features: of a row's inputs, in the order of `inputs`."""

    inputs: tuple[str, ...]
    features: Callable[..., Features]


def _products(hidden: int, units: float, tiles: int = 1) -> float:
    """Microseconds that a block with so many units multiplies, on the tensor cores of one SM."""
    return units / 4 * (hidden / 16) * tiles / 4 * CYCLES_PER_PRODUCT / GIGAHERTZ / 1e3


def _from_shared(size: float) -> float:
    return size / SHARED_BYTES_PER_CYCLE / GIGAHERTZ / 1e3


def _cluster_forward(hidden: int, cluster: int, columns: int, tail_bytes: int) -> Features:
    return 1, columns * hidden / 8e3, _products(hidden, hidden / cluster) + _from_shared(tail_bytes)


def _cluster_backward(hidden: int, cluster: int, columns: int, tail_bytes: int) -> Features:
    work = _products(hidden, hidden / cluster) + _from_shared(tail_bytes)
    return 1, work + BACKWARD_MESSAGES * columns * hidden / 4e3


def _grid_forward(hidden: int, units: int, tiles: int, columns: int, phases: int) -> Features:
    return 1, phases, phases * 2 * hidden * columns / 1024, phases * _products(hidden, units, tiles)


def _grid_backward(hidden: int, units: int, tiles: int, cluster: int, columns: int, phases: int) -> Features:
    """cluster: blocks that share the gate gradients; each reads that part of them."""
    gathered = 8 * hidden * columns / cluster / 8192
    return 1, phases, phases * gathered, phases * _products(hidden, units, tiles), phases * tiles


def _tensor_step_forward(hidden: int, batch: int) -> Features:
    size = hidden / 1024
    return 1, size, size * batch / 32, size**2 * batch / 32


def _tensor_step_backward(hidden: int, batch: int) -> Features:
    size = hidden / 1024
    return size, size * (batch > 8), size**2 * batch / 32


def _gemm_step_forward(hidden: int, batch: int) -> Features:
    """Launches, W_hh read, pointwise traffic, products: what does not depend on the size comes first (`side_by_side`)."""
    size = hidden / 1024
    return 1, size**2, size * batch / 32, size**2 * batch / 32


def _gemm_step_backward(hidden: int, batch: int) -> Features:
    size = hidden / 1024
    return 1, size, size * batch / 32, size**2 * batch / 32


FAMILIES = {
    "cluster_forward": Family(("hidden", "cluster", "columns", "tail_bytes"), _cluster_forward),
    "cluster_backward": Family(("hidden", "cluster", "columns", "tail_bytes"), _cluster_backward),
    "grid_forward": Family(("hidden", "units", "tiles", "columns", "phases"), _grid_forward),
    "grid_backward": Family(("hidden", "units", "tiles", "cluster", "columns", "phases"), _grid_backward),
    "tensor_step_forward": Family(("hidden", "batch"), _tensor_step_forward),
    "tensor_step_backward": Family(("hidden", "batch"), _tensor_step_backward),
    "gemm_step_forward": Family(("hidden", "batch"), _gemm_step_forward),
    "gemm_step_backward": Family(("hidden", "batch"), _gemm_step_backward),
}


@functools.cache
def stored() -> Mapping[str, Mapping[str, Any]]:
    """By family its rows (batch, hidden size, the other inputs, microseconds), constants and bound."""
    return json.loads(TABLE.read_text(encoding="utf-8"))["families"]


@functools.cache
def _measured(family: str) -> Mapping[tuple[int, ...], float]:
    """Microseconds by the inputs; where one was measured twice, the mean."""
    found: dict[tuple[int, ...], list[float]] = {}
    for *inputs, microseconds in stored()[family]["rows"]:
        found.setdefault(tuple(inputs[1:]), []).append(microseconds)  # the first is the batch, which tells shapes apart
    return {inputs: sum(times) / len(times) for inputs, times in found.items()}


def estimate(family: str, *, scale: float = 1.0, **inputs: int) -> Estimate:
    """Of a configuration.

    Args:
        family: one of `FAMILIES`.
        scale: of what was measured in bfloat16 for another data type (2 for TF32: half the rate, twice the bytes).
        inputs: those that the family names.
    """
    its, known_family = FAMILIES[family], stored()[family]
    values = tuple(inputs[name] for name in its.inputs)
    known = _measured(family).get(values) if scale == 1 else None
    modelled = sum(map(math.prod, zip(known_family["constants"], its.features(*values), strict=True)))
    expected = scale * modelled if known is None else known
    within = scale == 1 and all(low <= value <= high for value, (low, high) in zip(values, _ranges(family), strict=True))
    origin: Origin = "measured" if known is not None else "modelled" if within else "extrapolated"
    return Estimate(expected, expected * known_family["bound"], origin)


def side_by_side(family: str, chains: int, *, scale: float = 1.0, **inputs: int) -> Estimate:
    """Of a family whose measurements are another library's that does the same, so that none counts as measured.

    Several `chains` of such steps at once take as long as one, or as the work of all: everything but the first feature, which
    is what a step waits for whatever its size. No such run was measured, so that is extrapolated.
    """
    one = estimate(family, scale=scale, **inputs)
    if chains == 1:
        return replace(one, origin="modelled") if one.origin == "measured" else one
    its = FAMILIES[family]
    waiting = stored()[family]["constants"][0] * its.features(*(inputs[name] for name in its.inputs))[0]
    expected = max(one.microseconds, chains * (one.microseconds - scale * waiting))
    return Estimate(expected, expected * stored()[family]["bound"], "extrapolated")


@functools.cache
def _ranges(family: str) -> tuple[tuple[int, int], ...]:
    """Least and largest measured value of each input."""
    return tuple((min(values), max(values)) for values in zip(*_measured(family), strict=True))


def least(name: str, family: str) -> int:
    """The least measured value of an input."""
    return _ranges(family)[FAMILIES[family].inputs.index(name)][0]


def data_scale(storage: Storage) -> float:
    """The time of a step over that in bfloat16, on which the model rests: TF32 has half of its rate and twice its bytes."""
    return 2.0 if storage is TENSORFLOAT32 else 1.0


def rest(phase: str, hidden: int, inputs: int, batch: int, directions: int = 1, *, scale: float = 1.0) -> Estimate:
    """What a layer does beside its recurrence. phase: forward or training. scale: see `estimate`."""
    anyway, products, sums = REST[phase]
    macs = directions * batch * 4 * hidden * inputs
    if phase == "training":  # the input product, its two gradients, and that of W_hh
        macs = 3 * macs + directions * batch * 4 * hidden**2
    once = 2 * macs / GEMM_FLOPS
    upper = anyway + products * once + sums * directions * batch * hidden / 1e4
    return Estimate(scale * (anyway / 2 + once), scale * upper, "modelled")
