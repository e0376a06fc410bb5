"""Steps of a whole stack of layers in one launch: over one cluster (stream.cu) or over all multiprocessors (stream_grid.cu)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from impls.cuda.runtime import (
    BFLOAT16,
    FLOAT16,
    TENSORFLOAT32,
    Kernel,
    Launch,
    Launcher,
    Refused,
    Storage,
    pointer,
    raise_if_failed,
    status_of,
)
from impls.cuda.select import RESIDENT_CLUSTERS, Design
from impls.cuda.select.grid import GROUP_WORDS
from impls.cuda.select.model import Estimate, data_scale, estimate
from impls.cuda.select.steps import EXACT_STORAGE, SHARED_LIMIT

THREADS = 256
CLUSTERS = (1, 8, 16)  # shipped
COLUMNS = (1, 4)
SHARED_BYTES = (16 << 10, 64 << 10, SHARED_LIMIT)  # few sizes, so that few kernels are ever compiled
FULL_CLUSTERS = 4  # that L2 can feed at once, assumed: 16 SMs read 64 bytes a cycle each, all together about 3500
# Microseconds of one token in a launch of its own, over a cluster: fitted by hand to five measurements of an H100, all within
# 6 %: a launch, a layer, and a megabyte of weights for each column that a cluster carries.
CLUSTER_TIMES = (3.2, 1.5, 1.15)

GRID_UNITS = (4, 8, 12, 16, 24)  # shipped
GRID_COLUMNS = 8
GRID_SHARED = (16 << 10, 64 << 10, 99 << 10, 163 << 10, SHARED_LIMIT)  # 99: of sm_86 and sm_120; 163: of sm_80
GRID_CAPABILITY = (8, 0)
GRID_STORAGE = {torch.bfloat16: BFLOAT16, torch.float16: FLOAT16, torch.float32: TENSORFLOAT32}
LEAST_GRID_HIDDEN = 128  # smaller layers would use few multiprocessors; nothing of that kind was measured
IN_FLIGHT = 48  # KB a block, to read memory at its speed: 3 TB/s for 1 µs are 23 KB of each of 132 SMs
GRID_LAUNCH = 2.0  # microseconds, assumed
BYTES_PER_MICROSECOND = 3e6  # of memory, as an H100 reads it
Layers = Sequence[tuple[Tensor, Tensor, Tensor | None]]
POINTERS = {
    "stream": ("weights", "bias", "x", "h", "c", "y"),
    "stream_grid": ("weights", "bias", "x", "h", "c", "y", "exchange", "launches", "arrived", "status"),
}
NUMBERS = {
    "stream": ("tokens", "batch", "inputs", "hidden", "layers", "quads"),
    "stream_grid": ("tokens", "batch", "inputs", "hidden", "layers", "blocks", "slots", "ring"),
}


def _structure(name: str) -> type[ctypes.Structure]:
    """The argument of a kernel; its source says what each is."""
    fields = [*((each, ctypes.c_void_p) for each in POINTERS[name]), *((each, ctypes.c_int) for each in NUMBERS[name])]
    return type("Arguments", (ctypes.Structure,), {"_fields_": fields})


ARGUMENTS = {name: _structure(name) for name in POINTERS}


@dataclass(frozen=True, slots=True)
class Stream:
    """A stack of layers of one direction, cut over a cluster.

    cluster   blocks that share the units: at most one for each 4 units
    columns   of the batch that one cluster carries: 1, 2 or 4

    Its blocks are resident together by definition, and it computes exactly.
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

    def estimate(self, batch: int) -> Estimate:
        """Of one token in a launch of its own; the batch's clusters work side by side."""
        launch, each_layer, megabyte = CLUSTER_TIMES
        columns = min(self.columns, batch)
        weights = _weight_bytes(self.dtype, self.inputs, self.hidden, self.layers)
        time = launch + each_layer * self.layers + megabyte * weights / 1e6 * columns * (16 / self.cluster)
        return Estimate(time, time, "extrapolated")

    def pack(self, layers: Layers) -> tuple[Tensor, ...]:
        """Weights and biases of all layers from weight_ih [4H, I], weight_hh [4H, H] and bias [4H] or None of each."""
        weights = torch.cat([self._packed(weight_ih, weight_hh).flatten() for weight_ih, weight_hh, _ in layers])
        return weights, _biases(layers, self.hidden, 4 * self.quads)

    def _packed(self, weight_ih: Tensor, weight_hh: Tensor) -> Tensor:
        """[quads, rounds, 4 units, 4 gates, 32 lanes, values]: what a warp reads at once lies side by side."""
        inputs, hidden, per = _padded(weight_ih.shape[1], self.per_read), self.hidden, self.per_read
        depth = _padded(inputs + _padded(hidden, per), 32 * per)
        padded = weight_ih.new_zeros(4, 4 * self.quads, depth)
        padded[:, :hidden, : weight_ih.shape[1]] = weight_ih.reshape(4, hidden, -1)
        padded[:, :hidden, inputs : inputs + hidden] = weight_hh.reshape(4, hidden, hidden)
        return padded.reshape(4, self.quads, 4, depth // (32 * per), 32, per).permute(1, 3, 2, 0, 4, 5).contiguous()

    def advance(self, launcher: Launcher, packed: Sequence[Tensor], x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        """y [tokens, B, H] of the next tokens x [tokens, B, I]. Changes h [L, B, H] and c (the same, float32) in place.

        `packed` from `pack`. Raises a RuntimeError for tensors that do not fit, or that are not contiguous.
        """
        weights, biases = packed
        _check(
            self, {"weights": (weights, tuple(weights.shape)), "biases": (biases, (self.layers, 4 * self.quads, 4))}, x, h, c
        )
        tokens, batch, inputs = x.shape
        y = x.new_empty(tokens, batch, self.hidden)
        arrays = {"weights": weights, "bias": biases, "x": x, "h": h, "c": c, "y": y}
        filled = ARGUMENTS["stream"](
            **{name: pointer(tensor) for name, tensor in arrays.items()}, tokens=tokens, batch=batch, inputs=inputs,
            hidden=self.hidden, layers=self.layers, quads=self.quads,
        )  # fmt: skip
        grid = (-(-batch // self.columns) * self.cluster, 1, 1)
        launcher(Launch(self.kernel(), grid, filled, [weights, biases, x], [h, c, y]))
        return y


@dataclass(frozen=True, slots=True)
class GridStream:
    """A stack of layers of one direction, cut over all multiprocessors, for at most 8 columns of the batch.

    units         of every layer that a block computes, a multiple of 4
    shared_limit  bytes of shared memory that a block may have; weights stay there where they fit, for all tokens of a launch
    warps         that share k
    tf32          whether float32 may be multiplied so; exact float32 is refused
    """

    dtype: torch.dtype
    inputs: int
    hidden: int
    layers: int
    units: int
    shared_limit: int = SHARED_LIMIT
    warps: int = THREADS // 32
    tf32: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in GRID_STORAGE or (self.dtype == torch.float32 and not self.tf32):
            raise Refused(f"tensor cores do not multiply exact {str(self.dtype).removeprefix('torch.')}")
        if self.units % 4:
            raise Refused(f"a block computes a multiple of 4 units, not {self.units}")
        if self._room < min(2, self.pieces):
            raise Refused(
                f"a block has {self.shared_limit} bytes of shared memory here, too few to stream {self.layers} layers of "
                f"{self.units} units a block"
            )

    @property
    def storage(self) -> Storage:
        return GRID_STORAGE[self.dtype]

    @property
    def blocks(self) -> int:
        """All have to be resident at once. Together they compute whole groups of the words that a lane reads at once."""
        count = -(-self.hidden // self.units)
        return _padded(count, 2) if self.storage.per_word == 2 and self.units % 8 else count

    def depth(self, values: int) -> int:
        """Groups of k."""
        return -(-values // (GROUP_WORDS * self.storage.per_word))

    @property
    def pieces(self) -> int:
        """Of weights, of the warp that has most: a group of k by the block's rows each."""
        below, own = (-(-self.depth(values) // self.warps) for values in (self.inputs, self.hidden))
        return below + (2 * self.layers - 1) * own

    @property
    def _piece_bytes(self) -> int:
        """Of a piece of every warp."""
        return self.warps * self.units * 256

    @property
    def _fixed_bytes(self) -> int:
        """Sums, states and biases."""
        return 16 + self.warps * self.units * 256 + self.layers * self.units * (64 + 16)

    @property
    def _room(self) -> int:
        most = max((size for size in GRID_SHARED if size <= self.shared_limit), default=0)
        return (most - self._fixed_bytes) // self._piece_bytes

    @property
    def slots(self) -> int:
        """Pieces of a warp that shared memory holds at once."""
        return min(self.pieces, self._room)

    @property
    def ring(self) -> int:
        """Of them those through which the pieces pass that cannot stay; used where `slots` are too few."""
        return min(self.slots, max(2, -(-(IN_FLIGHT << 10) // self._piece_bytes)))

    @property
    def kept(self) -> int:
        """Pieces of a warp that stay in shared memory for a whole launch."""
        return self.pieces if self.slots == self.pieces else self.slots - self.ring

    def kernel(self) -> Kernel:
        needed = self._fixed_bytes + self.slots * self._piece_bytes
        shared_bytes = next(size for size in GRID_SHARED if size >= needed)
        defines = (("STORAGE", self.storage.name), ("UNITS", str(self.units)), ("WARPS", str(self.warps)))
        return Kernel("stream_grid.cu", "lstm_stream_grid", defines, 32 * self.warps, shared_bytes, cooperative=True)

    def words(self) -> str:
        kept = f"{self.kept} of {self.pieces} pieces of weights kept"
        return f"stream: one launch a step of all layers, {self.storage.name} over {self.blocks} blocks U{self.units}, {kept}"

    def estimate(self, batch: int) -> Estimate:
        """Of one token in a launch of its own: weights at the speed of memory, and of each layer a step of the recurrence."""
        sizes = {"hidden": self.hidden, "units": self.units, "tiles": 1, "columns": batch, "phases": 1}
        steps = estimate("grid_forward", scale=data_scale(self.storage), **sizes).times(self.layers)
        rest = GRID_LAUNCH + _weight_bytes(self.dtype, self.inputs, self.hidden, self.layers) / BYTES_PER_MICROSECOND
        return Estimate(steps.microseconds + rest, steps.upper + rest, "extrapolated")

    def pack(self, layers: Layers) -> tuple[Tensor, ...]:
        """As `Stream.pack`, and what the launches of this stream exchange through: one at a time."""
        per = GROUP_WORDS * self.storage.per_word
        of_layers = [(ih, hh) if not index else (hh, ih) for index, (ih, hh, _) in enumerate(layers)]
        weights = torch.cat([self._packed(weight) for pair in of_layers for weight in pair], dim=1)
        biases = _biases(layers, self.hidden, self.blocks * self.units)
        biases = biases.reshape(self.layers, self.blocks, self.units, 4).transpose(0, 1).contiguous()
        words = 2, self.layers, 2, -(-self.hidden // per), GRID_COLUMNS, GROUP_WORDS
        zeros = [torch.zeros(sizes, dtype=torch.int32, device=weights.device) for sizes in (words, (self.blocks,), (1,))]
        return weights, biases, *zeros

    def _packed(self, weight: Tensor) -> Tensor:
        """[blocks, groups, row tiles, 2 halves of 16 rows, 32 lanes, values]: as a warp multiplies them."""
        width, values = weight.shape[1], 4 * self.storage.per_word
        depth = self.depth(width)
        padded = weight.new_zeros(4, self.blocks * self.units, depth * 4 * values)
        padded[:, : self.hidden, :width] = weight.reshape(4, self.hidden, width)
        if self.dtype == torch.float32:  # to the nearest tf32, ties away, as the kernel rounds x; a NaN stays one
            rounded = ((padded.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)
            padded = torch.where(padded.isfinite(), rounded, padded)
        split = padded.reshape(2, 2, self.blocks, self.units // 4, 4, depth, 4, values)
        return split.permute(2, 5, 3, 0, 1, 4, 6, 7).reshape(self.blocks, depth, self.units // 4, 2, 32, values).contiguous()

    def advance(self, launcher: Launcher, packed: Sequence[Tensor], x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        """As `Stream.advance`. Raises `LaunchFailed` for an earlier launch on the device that has reported a failure since."""
        weights, biases, exchange, launches, arrived = packed
        shape = self.blocks, self.layers, self.units, 4
        _check(self, {"weights": (weights, tuple(weights.shape)), "biases": (biases, shape)}, x, h, c)
        tokens, batch, inputs = x.shape
        if batch > GRID_COLUMNS:
            raise RuntimeError(
                f"stream: over all multiprocessors at most {GRID_COLUMNS} sequences advance at once; got {batch}"
            )
        raise_if_failed(x.device)
        y, status = x.new_empty(tokens, batch, self.hidden), status_of(x.device)
        arrays = {"weights": weights, "bias": biases, "x": x, "h": h, "c": c, "y": y, "exchange": exchange}
        arrays |= {"launches": launches, "arrived": arrived, "status": status}
        filled = ARGUMENTS["stream_grid"](
            **{name: pointer(tensor) for name, tensor in arrays.items()}, tokens=tokens, batch=batch, inputs=inputs,
            hidden=self.hidden, layers=self.layers, blocks=self.blocks, slots=self.slots, ring=self.ring,
        )  # fmt: skip
        writes = [h, c, y, exchange, launches, arrived, status]
        launcher(Launch(self.kernel(), (self.blocks, 1, 1), filled, [weights, biases, x], writes))
        if x.device.type == "cpu":  # emulated, so it has ended
            raise_if_failed(x.device)
        return y


def choose_stream(
    dtype: torch.dtype, inputs: int, hidden: int, layers: int, batch: int, capability: tuple[int, int],
    *, resident: Callable[[Kernel], int] | None = None, shared_limit: int = SHARED_LIMIT, tf32: bool = False,
    design: Design = "auto",
) -> Stream | GridStream:  # fmt: skip
    """The cut for these sizes of least modelled time, among those of the design. Raises `Refused` where one launch cannot do
    the step.

    `resident` says how many clusters (of a cooperative kernel blocks) like a kernel's run at once; without it an H100 is
    assumed. `shared_limit` is how many bytes of shared memory a block may have; `tf32` whether float32 may be multiplied so.
    """
    if design not in ("auto", "cluster", "grid"):
        raise Refused(f"asked for {design}, which takes a launch a layer")
    sizes = dtype, inputs, hidden, layers
    cuts: list[Stream | GridStream] = []
    reasons: list[Refused] = []
    if design == "grid" or (design == "auto" and hidden >= LEAST_GRID_HIDDEN):
        try:
            cut = GridStream(*sizes, units=GRID_UNITS[0], shared_limit=shared_limit, tf32=tf32)
            cuts.append(_over_the_grid(cut, batch, capability, resident))
        except Refused as refused:
            reasons.append(refused)
    if design != "grid":
        try:
            cut = _over_a_cluster(sizes, batch, capability, resident)
            if cut.kernel().shared_bytes > shared_limit:
                needed = cut.kernel().shared_bytes
                raise Refused(
                    f"the states take {needed} bytes of shared memory in one launch; a block has {shared_limit} on this GPU"
                )
            cuts.append(cut)
        except Refused as refused:
            reasons.append(refused)
    if not cuts:
        raise reasons[-1]
    return min(cuts, key=lambda cut: cut.estimate(batch).ranked)


def _over_the_grid(
    cut: GridStream, batch: int, capability: tuple[int, int], resident: Callable[[Kernel], int] | None
) -> GridStream:
    """With as few units a block as let all blocks be resident."""
    if capability < GRID_CAPABILITY:
        raise Refused("one launch of all layers over all multiprocessors needs compute capability 8.0")
    if batch > GRID_COLUMNS:
        raise Refused(f"over all multiprocessors {GRID_COLUMNS} sequences stream at once, not {batch}")
    counts = ""
    for units in GRID_UNITS:
        shape = replace(cut, units=units)
        room = RESIDENT_CLUSTERS[1] if resident is None else resident(shape.kernel())
        if shape.blocks <= room:
            return shape
        counts = f"{shape.blocks} blocks have to be resident at once, and the GPU holds {room}"
    raise Refused(counts)


def _over_a_cluster(
    sizes: tuple[torch.dtype, int, int, int], batch: int, capability: tuple[int, int], resident: Callable[[Kernel], int] | None
) -> Stream:
    """The largest cluster that has room."""
    quads = -(-sizes[2] // 4)
    if capability < (9, 0) and quads > 16:
        raise Refused("one launch of all layers needs thread-block clusters, so compute capability 9.0, above 64 units")
    columns = next((count for count in COLUMNS if count * FULL_CLUSTERS >= batch), COLUMNS[-1])
    clusters = [size for size in CLUSTERS if size <= quads and (size == 1 or capability >= (9, 0))]
    cuts = [Stream(*sizes, size, columns) for size in reversed(clusters)]
    return next(cut for cut in cuts if cut.cluster == 1 or resident is None or resident(cut.kernel()))


def _weight_bytes(dtype: torch.dtype, inputs: int, hidden: int, layers: int) -> int:
    return 4 * hidden * (inputs + (2 * layers - 1) * hidden) * dtype.itemsize


def _biases(layers: Layers, hidden: int, units: int) -> Tensor:
    """[L, units, 4], zero beyond H."""
    biases = layers[0][0].new_zeros(len(layers), units, 4, dtype=torch.float32)
    for packed, (_, _, bias) in zip(biases, layers, strict=True):
        if bias is not None:
            packed[:hidden] = bias.reshape(4, hidden).mT
    return biases


def _check(
    cut: Stream | GridStream, packed: Mapping[str, tuple[Tensor, tuple[int, ...]]], x: Tensor, h: Tensor, c: Tensor
) -> None:
    """packed: tensors from `pack` by name, with their shapes."""
    if x.dim() != 3 or 0 in x.shape or x.shape[2] != cut.inputs:
        raise RuntimeError(f"stream: x must be [tokens, B, {cut.inputs}] with no empty axis; got shape {list(x.shape)}")
    states = (cut.layers, x.shape[1], cut.hidden)
    expected = {"x": (x, tuple(x.shape)), "h": (h, states), "c": (c, states), **packed}
    for name, (tensor, shape) in expected.items():
        dtype = torch.float32 if name in ("c", "biases") else cut.dtype
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            raise RuntimeError(
                f"stream: {name} must be {dtype} of shape {list(shape)}; got {tensor.dtype} of {list(tensor.shape)}"
            )
        if not tensor.is_contiguous():
            raise RuntimeError(f"stream: {name} must be contiguous; got strides {tensor.stride()}")
        if tensor.device != x.device:
            raise RuntimeError(f"stream: expected all tensors on one device; x is on {x.device}, {name} on {tensor.device}")


def _padded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
