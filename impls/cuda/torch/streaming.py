"""Streaming: input that arrives step by step, all layers in one launch where there is room."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from impls.cuda.runtime import Kernel, Launch, Launcher, Refused, pointer
from impls.cuda.runtime.driver import room
from impls.cuda.select import Plan
from impls.cuda.select.steps import EXACT_STORAGE, SHARED_LIMIT
from impls.cuda.torch import layer, ops, recurrence
from impls.cuda.torch.layer import fold_weights, run

# Steps of a whole stack in one launch (stream.cu): its kernel, its weights, and the state in place.

THREADS = 256
CLUSTERS = (1, 8, 16)  # shipped
COLUMNS = (1, 4)
SHARED_BYTES = (16 << 10, 64 << 10, SHARED_LIMIT)  # few sizes, so that few kernels are ever compiled
FULL_CLUSTERS = 4  # that L2 can feed at once, assumed: 16 SMs read 64 bytes a cycle each, all together about 3500


class StreamArguments(ctypes.Structure):
    """stream.cu says what each is."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("weights", "bias", "x", "h", "c", "y")),
        *((name, ctypes.c_int) for name in ("tokens", "batch", "inputs", "hidden", "layers", "quads")),
    )


@dataclass(frozen=True, slots=True)
class Stream:
    """A stack of layers of one direction, cut over a cluster.

    cluster   blocks that share the units: at most one for each 4 units
    columns   of the batch that one cluster carries: 1, 2 or 4

    One cluster, since its blocks are resident together by definition: no cooperative launch, and the exchange of the cluster
    kernels; a grid-wide exchange could feed more SMs.
    """

    dtype: torch.dtype
    inputs: int
    hidden: int
    layers: int
    cluster: int
    columns: int

    def __post_init__(self) -> None:
        if self.dtype not in EXACT_STORAGE or self.dtype == torch.float64:
            raise Refused(f"streams in float32, bfloat16 and float16, not in {self.dtype}; ask for design step")
        if self.cluster > self.quads:
            raise Refused(f"{self.hidden} units are too few for a cluster of {self.cluster} blocks, each of which computes 4")
        if self.needed_bytes > SHARED_LIMIT:
            raise Refused(f"the states would need {self.needed_bytes} bytes of shared memory; a block has {SHARED_LIMIT}")

    @property
    def per_read(self) -> int:
        """Values in 16 bytes."""
        return 16 // self.dtype.itemsize

    @property
    def quads(self) -> int:
        """Groups of 4 units; H is padded to what a lane reads at once."""
        return _padded(self.hidden, max(4, self.per_read)) // 4

    @property
    def needed_bytes(self) -> int:
        return 16 + self.layers * 2 * 4 * self.quads * self.columns * 4

    def kernel(self) -> Kernel:
        defines = (("STORAGE", EXACT_STORAGE[self.dtype]), ("CLUSTER", str(self.cluster)), ("COLUMNS", str(self.columns)))
        shared_bytes = next(size for size in SHARED_BYTES if size >= self.needed_bytes)
        cluster = self.cluster if self.cluster > 1 else None  # stream.cu leaves cluster instructions out for one block
        return Kernel("stream.cu", "lstm_stream", defines, THREADS, shared_bytes, cluster)

    def words(self) -> str:
        return f"stream: one launch a step of all layers, C{self.cluster} N{self.columns}"

    def pack(self, layers: Sequence[tuple[Tensor, Tensor, Tensor | None]]) -> tuple[Tensor, Tensor]:
        """Weights and biases of all layers from weight_ih [4H, I], weight_hh [4H, H] and bias [4H] or None of each."""
        weights = torch.cat([self._packed(weight_ih, weight_hh).flatten() for weight_ih, weight_hh, _ in layers])
        biases = weights.new_zeros(self.layers, 4 * self.quads, 4, dtype=torch.float32)
        for packed, (_, _, bias) in zip(biases, layers, strict=True):
            if bias is not None:
                packed[: self.hidden] = bias.reshape(4, self.hidden).mT
        return weights, biases

    def _packed(self, weight_ih: Tensor, weight_hh: Tensor) -> Tensor:
        """[quads, rounds, 4 units, 4 gates, 32 lanes, values]: what a warp reads at once lies side by side."""
        inputs, hidden, per = _padded(weight_ih.shape[1], self.per_read), self.hidden, self.per_read
        depth = _padded(inputs + _padded(hidden, per), 32 * per)
        padded = weight_ih.new_zeros(4, 4 * self.quads, depth)
        padded[:, :hidden, : weight_ih.shape[1]] = weight_ih.reshape(4, hidden, -1)
        padded[:, :hidden, inputs : inputs + hidden] = weight_hh.reshape(4, hidden, hidden)
        return padded.reshape(4, self.quads, 4, depth // (32 * per), 32, per).permute(1, 3, 2, 0, 4, 5).contiguous()

    def advance(self, launcher: Launcher, weights: Tensor, biases: Tensor, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        """y [tokens, B, H] of the next tokens x [tokens, B, I]. Changes h [L, B, H] and c (the same, float32) in place.

        `weights` and `biases` from `pack`. Raises a RuntimeError for tensors that do not fit, or that are not contiguous.
        """
        self._check(weights, biases, x, h, c)
        tokens, batch, inputs = x.shape
        y = x.new_empty(tokens, batch, self.hidden)
        arrays = {"weights": weights, "bias": biases, "x": x, "h": h, "c": c, "y": y}
        filled = StreamArguments(
            **{name: pointer(tensor) for name, tensor in arrays.items()}, tokens=tokens, batch=batch, inputs=inputs,
            hidden=self.hidden, layers=self.layers, quads=self.quads,
        )  # fmt: skip
        grid = (-(-batch // self.columns) * self.cluster, 1, 1)
        launcher(Launch(self.kernel(), grid, filled, [weights, biases, x], [h, c, y]))
        return y

    def _check(self, weights: Tensor, biases: Tensor, x: Tensor, h: Tensor, c: Tensor) -> None:
        if x.dim() != 3 or 0 in x.shape or x.shape[2] != self.inputs:
            raise RuntimeError(f"stream: x must be [tokens, B, {self.inputs}] with no empty axis; got shape {list(x.shape)}")
        states = (self.layers, x.shape[1], self.hidden)
        expected = {
            "x": (x, tuple(x.shape), self.dtype), "h": (h, states, self.dtype), "c": (c, states, torch.float32),
            "weights": (weights, tuple(weights.shape), self.dtype),
            "biases": (biases, (self.layers, 4 * self.quads, 4), torch.float32),
        }  # fmt: skip
        for name, (tensor, shape, dtype) in expected.items():
            if tuple(tensor.shape) != shape or tensor.dtype != dtype:
                raise RuntimeError(
                    f"stream: {name} must be {dtype} of shape {list(shape)}; got {tensor.dtype} of {list(tensor.shape)}"
                )
            if not tensor.is_contiguous():
                raise RuntimeError(f"stream: {name} must be contiguous; got strides {tensor.stride()}")
            if tensor.device != x.device:
                raise RuntimeError(f"stream: expected all tensors on one device; x is on {x.device}, {name} on {tensor.device}")


def choose_stream(
    dtype: torch.dtype, inputs: int, hidden: int, layers: int, batch: int, capability: tuple[int, int],
    *, resident: Callable[[Kernel], int] | None = None, shared_limit: int = SHARED_LIMIT,
) -> Stream:  # fmt: skip
    """The cut for these sizes: the largest cluster that has room. Raises `Refused` where one launch cannot do the step.

    `resident` says how many clusters like a kernel's run at once; without it every size is taken to have room.
    `shared_limit` is how many bytes of shared memory a block may have.
    """
    quads = -(-hidden // 4)
    if capability < (9, 0) and quads > 16:
        raise Refused("one launch of all layers needs thread-block clusters, so compute capability 9.0, above 64 units")
    columns = next((count for count in COLUMNS if count * FULL_CLUSTERS >= batch), COLUMNS[-1])
    sizes = [size for size in CLUSTERS if size <= quads and (size == 1 or capability >= (9, 0))]
    cuts = [Stream(dtype, inputs, hidden, layers, size, columns) for size in reversed(sizes)]
    needed = cuts[0].kernel().shared_bytes  # of every cut
    if needed > shared_limit:
        raise Refused(f"the states take {needed} bytes of shared memory in one launch; a block has {shared_limit} on this GPU")
    return next(cut for cut in cuts if cut.cluster == 1 or resident is None or resident(cut.kernel()))


def _padded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


# An LSTM whose input arrives step by step: its weights are packed once, and its state stays between calls.

Layer = tuple[Tensor, Tensor, Tensor | None, Tensor | None]


class Streaming:
    """Layers of one direction, for inference: no gradient, no dropout. Made by `LSTM.stream`; keeps the weights of that moment.

    h [L, B, H] (with a projection, P for H) and c [L, B, H] (float32; float64 for float64) are changed in place by `advance`:
    fill them to start from a state, zero them to start anew.
    """

    def __init__(self, layers: Sequence[Layer], batch: int, tf32: bool = False) -> None:
        """Of each layer weight_ih [4H, I], weight_hh [4H, H or P], bias [4H] or None, weight_hr [P, H] or None."""
        if batch < 1:
            raise ValueError(f"stream: expected a batch of at least 1; got {batch}")
        weight_ih, weight_hh, _, weight_hr = layers[0]
        hidden, self.inputs, launcher = weight_ih.shape[0] // 4, weight_ih.shape[1], ops.launcher_for(weight_ih.device)
        self._h = weight_ih.new_zeros(len(layers), batch, weight_hh.shape[1])
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
        return cls(stream, launcher, *stream.pack([(ih, hh, bias) for ih, hh, bias, _ in layers]))

    def advance(self, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        return self.stream.advance(self.launcher, self.weights, self.biases, x, h, c)

    def provenance(self) -> dict[str, str]:
        return {"ran": "stream", "plan": self.stream.words(), "chosen_because": "one launch can do all layers"}


@dataclass(frozen=True, slots=True)
class _LayerByLayer:
    plan: Plan
    launcher: Launcher
    weights: list[layer.Weights]
    projections: list[list[Tensor] | None]
    reason: str

    @classmethod
    def of(cls, layers: Sequence[Layer], batch: int, launcher: Launcher, tf32: bool, reason: str) -> _LayerByLayer:
        weight_ih = layers[0][0]
        sizes = weight_ih.shape[0] // 4, batch, 1, weight_ih.dtype, weight_ih.device
        plan, packed = ops.planned(*sizes, design="auto", memory="saved", tf32=tf32), []
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


def stream_for(weight_ih: Tensor, hidden: int, layers: int, batch: int) -> Stream:
    """How one launch does a step of such layers on the device of their weights [4H, I]. Raises `Refused` where none can."""
    sizes = weight_ih.dtype, weight_ih.shape[1], hidden, layers, batch
    if weight_ih.device.type != "cuda":
        return choose_stream(*sizes, ops.EMULATED_CAPABILITY)
    with torch.cuda.device(weight_ih.device):
        return choose_stream(*sizes, torch.cuda.get_device_capability(), **room())
