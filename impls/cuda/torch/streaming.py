"""Streaming: input that arrives step by step, all layers in one launch where there is room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from impls.cuda.runtime import Launcher, Refused
from impls.cuda.runtime.driver import room
from impls.cuda.select import Design, Plan
from impls.cuda.torch import layer, ops, recurrence
from impls.cuda.torch.layer import fold_weights, run
from impls.cuda.torch.stream import GridStream, Stream, choose_stream

# An LSTM whose input arrives step by step: its weights are packed once, and its state stays between calls.

Layer = tuple[Tensor, Tensor, Tensor | None, Tensor | None]


class Streaming:
    """Layers of one direction, for inference: no gradient, no dropout. Made by `LSTM.stream`; keeps the weights of that moment.

    h [L, B, H] (with a projection, P for H) and c [L, B, H] (float32; float64 for float64) are changed in place by `advance`:
    fill them to start from a state, zero them to start anew.
    """

    def __init__(self, layers: Sequence[Layer], batch: int, tf32: bool = False, design: Design = "auto") -> None:
        """Of each layer weight_ih [4H, I], weight_hh [4H, H or P], bias [4H] or None, weight_hr [P, H] or None.

        tf32: whether float32 may be multiplied so; over a cluster it never is. design: `cluster` or `grid` for one launch so,
        any other than `auto` layer by layer with those kernels.
        """
        if batch < 1:
            raise ValueError(f"stream: expected a batch of at least 1; got {batch}")
        weight_ih, weight_hh, _, weight_hr = layers[0]
        hidden, self.inputs, launcher = weight_ih.shape[0] // 4, weight_ih.shape[1], ops.launcher_for(weight_ih.device)
        self._h = weight_ih.new_zeros(len(layers), batch, weight_hh.shape[1])
        self._c = weight_ih.new_zeros(len(layers), batch, hidden, dtype=recurrence.wide(weight_ih.dtype))
        try:
            if weight_hr is not None:
                raise Refused("one launch knows no projection")
            stream = stream_for(weight_ih, hidden, len(layers), batch, tf32=tf32, design=design)
            self.way: _OneLaunch | _LayerByLayer = _OneLaunch.of(stream, launcher, layers, batch)
        except Refused as reason:
            self.way = _LayerByLayer.of(layers, batch, launcher, (tf32, design), str(reason))

    @property
    def h(self) -> Tensor:
        return self._h

    @property
    def c(self) -> Tensor:
        return self._c

    def advance(self, x: Tensor) -> Tensor:
        """y [tokens, B, H] (with a projection, P for H) of the next tokens x [tokens, B, I].

        Raises a RuntimeError for another shape, dtype or device than the weights'.
        """
        batch = self.h.shape[1]
        if x.dim() != 3 or x.shape[1:] != (batch, self.inputs) or not len(x):
            raise RuntimeError(f"stream: x must be [tokens, {batch}, {self.inputs}], tokens at least 1; got {list(x.shape)}")
        if x.dtype != self.h.dtype or x.device != self.h.device:
            raise RuntimeError(
                f"stream: x must be {self.h.dtype} on {self.h.device} like the weights; got {x.dtype} on {x.device}"
            )
        with torch.no_grad():
            return self.way.advance(x.contiguous(), self.h, self.c)

    def provenance(self) -> dict[str, str]:
        """What runs, and why."""
        return self.way.provenance()


@dataclass(frozen=True, slots=True)
class _OneLaunch:
    stream: Stream | GridStream
    launcher: Launcher
    packed: tuple[Tensor, ...]
    batch: int

    @classmethod
    def of(cls, stream: Stream | GridStream, launcher: Launcher, layers: Sequence[Layer], batch: int) -> _OneLaunch:
        return cls(stream, launcher, stream.pack([(ih, hh, bias) for ih, hh, bias, _ in layers]), batch)

    def advance(self, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        return self.stream.advance(self.launcher, self.packed, x, h, c)

    def provenance(self) -> dict[str, str]:
        time = self.stream.estimate(self.batch).microseconds
        because = f"one launch can do all layers; {time:.1f} µs for one token, modelled"
        return {"ran": "stream", "plan": self.stream.words(), "chosen_because": because}


@dataclass(frozen=True, slots=True)
class _LayerByLayer:
    plan: Plan
    launcher: Launcher
    weights: list[layer.Weights]
    projections: list[list[Tensor] | None]
    reason: str

    @classmethod
    def of(
        cls, layers: Sequence[Layer], batch: int, launcher: Launcher, asked: tuple[bool, Design], reason: str
    ) -> _LayerByLayer:
        weight_ih = layers[0][0]
        sizes = weight_ih.shape[0] // 4, batch, 1, weight_ih.dtype, weight_ih.device
        (tf32, design), packed = asked, []
        plan = ops.planned(*sizes, design=design, memory="saved", tf32=tf32)
        with ops.as_planned(plan, weight_ih):
            for ih, hh, bias, hr in layers:
                # Copies: a stream keeps the weights of the moment when it is made.
                folded = ([ih.clone()], [hh.clone()]) if hr is None else fold_weights([ih], [hh], [hr])
                packed.append(layer.pack(plan, launcher, (*folded, [] if bias is None else [bias.clone()])))
        return cls(plan, launcher, packed, [None if hr is None else [hr.clone()] for *_, hr in layers], reason)

    def advance(self, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        with ops.as_planned(self.plan, x):
            found = run(self.plan, self.launcher, self.weights, x, h, c, lengths=None, projections=self.projections)
        h.copy_(found.h_n)
        c.copy_(found.c_n)
        return found.outputs[-1]

    def provenance(self) -> dict[str, str]:
        because = f"layer by layer: {self.reason}; {self.plan.reason}"
        return {"ran": self.plan.design, "plan": self.plan.words(), "chosen_because": because}


def stream_for(
    weight_ih: Tensor, hidden: int, layers: int, batch: int, *, tf32: bool = False, design: Design = "auto"
) -> Stream | GridStream:
    """How one launch does a step of such layers on the device of their weights [4H, I]. Raises `Refused` where none can."""
    sizes = weight_ih.dtype, weight_ih.shape[1], hidden, layers, batch
    if weight_ih.device.type != "cuda":
        return choose_stream(*sizes, ops.EMULATED_CAPABILITY, tf32=tf32, design=design)
    with torch.cuda.device(weight_ih.device):
        return choose_stream(*sizes, torch.cuda.get_device_capability(), **room(), tf32=tf32, design=design)
