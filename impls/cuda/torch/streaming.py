"""An LSTM that is fed as its input arrives: its weights are put in order once, and its state stays between calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from impls.cuda.runtime.driver import room
from impls.cuda.runtime.kernels import Launcher, Refused
from impls.cuda.select.plan import Plan
from impls.cuda.torch import layer, ops, recurrence
from impls.cuda.torch.layer import run
from impls.cuda.torch.projection import fold_weights
from impls.cuda.torch.stream import Stream, choose_stream

Layer = tuple[Tensor, Tensor, Tensor | None, Tensor | None]


class Streaming:
    """Layers of one direction, for inference: no gradient, no dropout. Made by `LSTM.stream`; keeps the weights of that moment.

    h [L, B, H] (with a projection, P for H) and c [L, B, H] (float32; float64 for float64) are changed in place by `advance`:
    fill them to start from a state, zero them to start anew.
    """

    def __init__(self, layers: Sequence[Layer], batch: int, tf32: bool = False) -> None:
        """Of each layer weight_ih [1, 4H, I], weight_hh [1, 4H, H or P], bias [1, 4H] or None, weight_hr [1, P, H] or None."""
        if batch < 1:
            raise ValueError(f"stream: expected a batch of at least 1; got {batch}")
        weight_ih, weight_hh, _, weight_hr = layers[0]
        hidden, self.inputs, launcher = weight_ih.shape[1] // 4, weight_ih.shape[2], ops.launcher_for(weight_ih.device)
        self._h = weight_ih.new_zeros(len(layers), batch, weight_hh.shape[2])
        self._c = weight_ih.new_zeros(len(layers), batch, hidden, dtype=recurrence.wide(weight_ih.dtype))
        try:
            if weight_hr is not None:
                raise Refused("one launch knows no projection")
            stream = stream_for(weight_ih, hidden, len(layers), batch)
            self.way: _OneLaunch | _LayerByLayer = _OneLaunch.of(stream, launcher, layers)
        except Refused as reason:
            self.way = _LayerByLayer.of(layers, batch, launcher, tf32, str(reason))

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
    stream: Stream
    launcher: Launcher
    weights: Tensor
    biases: Tensor

    @classmethod
    def of(cls, stream: Stream, launcher: Launcher, layers: Sequence[Layer]) -> _OneLaunch:
        parts = [(ih[0], hh[0], None if bias is None else bias[0]) for ih, hh, bias, _ in layers]
        return cls(stream, launcher, *stream.pack(parts))

    def advance(self, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        return self.stream.advance(self.launcher, self.weights, self.biases, x, h, c)

    def provenance(self) -> dict[str, str]:
        return {"ran": "stream", "plan": self.stream.words(), "chosen_because": "one launch can do all layers"}


@dataclass(frozen=True, slots=True)
class _LayerByLayer:
    plan: Plan
    launcher: Launcher
    weights: list[layer.Weights]
    projections: list[Tensor | None]
    reason: str

    @classmethod
    def of(cls, layers: Sequence[Layer], batch: int, launcher: Launcher, tf32: bool, reason: str) -> _LayerByLayer:
        weight_ih = layers[0][0]
        sizes = weight_ih.shape[1] // 4, batch, 1, weight_ih.dtype, weight_ih.device
        plan, packed = ops.planned(*sizes, "auto", "saved", tf32), []
        with ops.as_planned(plan, weight_ih):
            for weight_ih, weight_hh, bias, weight_hr in layers:
                folded = (weight_ih, weight_hh) if weight_hr is None else fold_weights(weight_ih, weight_hh, weight_hr)
                packed.append(layer.pack(plan, *folded, bias))
        return cls(plan, launcher, packed, [weight_hr for *_, weight_hr in layers], reason)

    def advance(self, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        lengths = torch.full((x.shape[1],), len(x), dtype=torch.int32, device=x.device)
        with ops.as_planned(self.plan, x):
            found = run(self.plan, self.launcher, self.weights, self.projections, x, h, c, lengths)
        h.copy_(found.h_n)
        c.copy_(found.c_n)
        return found.outputs[-1]

    def provenance(self) -> dict[str, str]:
        because = f"layer by layer: {self.reason}; {self.plan.reason}"
        return {"ran": self.plan.design, "plan": self.plan.words(), "chosen_because": because}


def stream_for(weight_ih: Tensor, hidden: int, layers: int, batch: int) -> Stream:
    """How one launch does a step of such layers on the device of their weights [1, 4H, I]. Raises `Refused` where none can."""
    sizes = weight_ih.dtype, weight_ih.shape[2], hidden, layers, batch
    if weight_ih.device.type != "cuda":
        return choose_stream(*sizes, ops.EMULATED_CAPABILITY)
    with torch.cuda.device(weight_ih.device):
        return choose_stream(*sizes, torch.cuda.get_device_capability(), **room())
