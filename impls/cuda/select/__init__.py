"""Which kernels run a layer, and why: of those that can, the ones of least time, measured or modelled (`model.py`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from impls.cuda.runtime import BFLOAT16, FLOAT16, TENSORFLOAT32, Kernel, Refused, Storage
from impls.cuda.select import model
from impls.cuda.select.cluster import BACKWARD, FORWARD, BackwardShape, ForwardShape
from impls.cuda.select.grid import GRID, GRID_BACKWARD, GridShape
from impls.cuda.select.model import Estimate
from impls.cuda.select.steps import PART_ROWS, SHARED_LIMIT, ExactSteps, GemmSteps, TensorSteps
from impls.cuda.select.tuned import Table, describe

Phase = Literal["forward", "backward"]
PHASES: tuple[Phase, ...] = ("forward", "backward")
Design = Literal["auto", "cluster", "grid", "gemm_step", "tensor_step", "step"]
Memory = Literal["saved", "rebuilt"]
DESIGNS: tuple[Design, ...] = ("auto", "cluster", "grid", "gemm_step", "tensor_step", "step")
MEMORIES: tuple[Memory, ...] = ("saved", "rebuilt")
Steps = ExactSteps | TensorSteps | GemmSteps
Forward = ForwardShape | GridShape | Steps
Backward = BackwardShape | GridShape | Steps

Resident = Callable[[Kernel], int]
CLUSTER_CAPABILITY = (9, 0)
NO_GRID_BACKWARD = (12, 0)  # there NVRTC 13 spills registers of every cut of grid_backward.cu
LEAST_GRID_HIDDEN = 512  # smaller layers would use few multiprocessors; nothing of that kind was measured
LEAST_GEMM = 256, 32  # hidden size and batch: its times rest on none below, where two launches a step are what it takes
TENSOR_STEP_TILES = (1, 4)
# Used only where no GPU can be asked: clusters of each size that are resident at once on 132 SMs. Fewer than 132 / C, since a
# cluster must fit in one GPC; those of 8 and 16 as an H100 answered for the largest kernels, of 4 as it holds two of 8.
RESIDENT_CLUSTERS = {1: 132, 2: 66, 4: 30, 8: 15, 16: 7}


@dataclass(frozen=True, slots=True)
class Plan:
    """How one layer runs, and why.

    apart: on a grid that has room for one direction, they run one after the other. times: of a step forward and backward, with
    what the layer does beside its recurrence; None where they are not known.
    """

    forward: Forward
    backward: Backward
    dtype: torch.dtype
    memory: Memory
    reason: str
    apart: bool = False
    times: tuple[Estimate, Estimate] | None = field(default=None, compare=False)

    @property
    def design(self) -> str:
        """Of the forward kernels."""
        return self.forward.design

    def words(self) -> str:
        """The plan in one line, for the provenance."""
        if isinstance(self.forward, Steps) and self.forward == self.backward:
            cut = self.forward.words().removeprefix(self.design).strip()
            return f"{self.design}, {self.memory}" + (f": {cut}" if cut else "")
        other = f"{self.backward.design} " if self.backward.design != self.design else ""
        backward = self.backward.words().removeprefix(other)
        apart = ", directions one after the other" if self.apart else ""
        return f"{self.design}, {self.memory}: forward {self.forward.words()}, backward {other}{backward}{apart}"


@dataclass(frozen=True, slots=True)
class _Asked:
    """A layer, and the GPU that it is to run on."""

    hidden: int
    batch: int
    directions: int
    storage: Storage
    capability: tuple[int, int]
    resident: Resident | None
    shared_limit: int

    def clusters(self, kernel: Kernel) -> int:
        """How many clusters (blocks where there are none) of a kernel run at once."""
        return RESIDENT_CLUSTERS[kernel.cluster_blocks] if self.resident is None else self.resident(kernel)


@dataclass(frozen=True, slots=True)
class _Choice:
    """A configuration with its time a step, input product and the like included."""

    shape: ForwardShape | BackwardShape | GridShape | TensorSteps | GemmSteps
    time: Estimate
    apart: bool = False


def choose(
    hidden: int,
    batch: int,
    directions: int,
    dtype: torch.dtype,
    capability: tuple[int, int],
    *,
    tf32: bool = False,
    design: Design = "auto",
    memory: Memory = "saved",
    resident: Resident | None = None,
    shared_limit: int = SHARED_LIMIT,
    tuned: Table | None = None,
) -> Plan:
    """The plan for one layer.

    Args:
        hidden, batch, directions, dtype: of the layer.
        capability: compute capability of the GPU.
        tf32: whether float32 may be multiplied so.
        design: the kernels asked for; with `auto` those of least time, forward and backward each for itself.
        memory: what is kept for the backward pass.
        resident: how many clusters like a kernel's run at once; without it the table of an H100 says so.
        shared_limit: bytes of shared memory that a block may have.
        tuned: times measured on this GPU; where it has some of this layer, the least of them decides.

    Raises:
        Refused: `design` asks for what cannot be done.
    """
    if design not in DESIGNS or memory not in MEMORIES:
        raise Refused(
            f"no design {design!r} with memory {memory!r}; choose from {', '.join(DESIGNS)} and {', '.join(MEMORIES)}"
        )
    if dtype not in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        raise Refused(f"computes in float32, float64, bfloat16 and float16, not in {dtype}")
    exact = _no_tensor_cores(dtype, tf32)
    if design == "step" or (design == "auto" and exact):
        steps = ExactSteps(dtype)
        return Plan(steps, steps, dtype, memory, f"{'asked for' if design == 'step' else exact}; its time is not modelled")
    if exact:
        raise Refused(f"the design {design} cannot run this: {exact}; ask for auto or step")
    storage = {torch.bfloat16: BFLOAT16, torch.float16: FLOAT16, torch.float32: TENSORFLOAT32}[dtype]
    asked = _Asked(hidden, batch, directions, storage, capability, resident, shared_limit)
    tuned = tuned or Table()
    chosen, why = zip(*(_of_phase(asked, phase, design, tuned) for phase in PHASES), strict=True)
    times = [
        f"{phase} {choice.time.microseconds:.2f} µs a step, {choice.time.origin}"
        for phase, choice in zip(PHASES, chosen, strict=True)
    ]
    known = "resident blocks assumed" if resident is None else "resident blocks asked of the driver"
    because = "asked for" if design != "auto" else "least time of an H100"
    if all(choice.time.origin == "autotuned" for choice in chosen):
        because = "least time measured on this GPU"
    reasons = [because, *times, *dict.fromkeys(filter(None, (*why, tuned.note))), known]
    forward, backward = chosen
    apart = any(choice.apart for choice in chosen)
    both = forward.time, backward.time
    return Plan(forward.shape, backward.shape, dtype, memory, "; ".join(reasons), apart, both)  # type: ignore[arg-type]


def _of_phase(asked: _Asked, phase: Phase, design: Design, tuned: Table) -> tuple[_Choice, str]:
    """The fastest, and why another design cannot run this where one was asked for or would have been likely."""
    known = tuned.times.get((phase, asked.storage.name, asked.hidden, asked.batch, asked.directions), {})
    found: list[_Choice] = []
    obstacle = ""
    if design in ("auto", "cluster"):
        clusters = _clusters(asked, phase)
        if not isinstance(clusters, str):
            found += clusters
        elif design == "cluster":
            raise Refused(f"the design cluster cannot run this: {clusters}; ask for auto, tensor_step or step")
        else:
            obstacle = clusters
    likely = asked.hidden >= LEAST_GRID_HIDDEN or any(name.startswith(GridShape.design) for name in known)
    if design == "grid" or (design == "auto" and likely):
        grids = _grids(asked, phase, tuple(known))
        if not isinstance(grids, str):
            found += grids
        elif design == "grid" and phase == "forward":
            raise Refused(f"the design grid cannot run this: {grids}; ask for auto, tensor_step or step")
        elif design == "grid":
            obstacle = f"{phase} step by step: {grids}"
    sizes = zip((asked.hidden, asked.batch), LEAST_GEMM, strict=True)
    likely = all(size >= least for size, least in sizes) or any(name.startswith(GemmSteps.design) for name in known)
    if design == "gemm_step" or (design == "auto" and likely):
        found += _gemms(asked, phase)
    if design in ("auto", "tensor_step") or not found:
        found += _per_step(asked, phase)
    measured = [
        replace(choice, time=Estimate(time, time, "autotuned"))
        for choice in found
        if (time := known.get(describe(choice.shape))) is not None
    ]
    return min(measured or found, key=lambda choice: choice.time.ranked), obstacle


def _per_step(asked: _Asked, phase: Phase) -> list[_Choice]:
    tiles = next(n for n in TENSOR_STEP_TILES if 8 * n >= asked.batch or n == TENSOR_STEP_TILES[-1])
    steps = TensorSteps(asked.storage, tiles)
    return [_Choice(steps, steps.estimate(asked.hidden, asked.batch * asked.directions, phase == "backward"))]


def _gemms(asked: _Asked, phase: Phase) -> list[_Choice]:
    """The batch as a whole, and in two parts where each is large enough."""
    shapes = [GemmSteps(asked.storage, parts) for parts in (1, 2) if parts == 1 or asked.batch >= parts * PART_ROWS]
    sizes = asked.hidden, asked.batch, asked.directions, phase == "backward"
    return [_Choice(shape, shape.estimate(*sizes)) for shape in shapes]


def candidates(
    phase: Phase, hidden: int, batch: int, directions: int, storage: Storage, capability: tuple[int, int], *,
    resident: Resident | None = None, shared_limit: int = SHARED_LIMIT,
) -> list[tuple[ForwardShape | BackwardShape | GridShape | TensorSteps | GemmSteps, bool]]:  # fmt: skip
    """Every configuration that can run a phase of the layer, by modelled time, and whether its directions run apart."""
    asked = _Asked(hidden, batch, directions, storage, capability, resident, shared_limit)
    clusters, grids = _clusters(asked, phase), _grids(asked, phase, None)
    found = [*(() if isinstance(clusters, str) else clusters), *(() if isinstance(grids, str) else grids)]
    found += [*_gemms(asked, phase), *_per_step(asked, phase)]
    return [(choice.shape, choice.apart) for choice in sorted(found, key=lambda choice: choice.time.ranked)]


def _rest(asked: _Asked, phase: Phase) -> Estimate:
    """Of a step, beside the recurrence; the input is taken to be as wide as the layer."""
    forward, both = (
        model.rest(name, asked.hidden, asked.hidden, asked.batch, asked.directions, scale=model.data_scale(asked.storage))
        for name in ("forward", "training")
    )
    if phase == "forward":
        return forward
    return replace(both, microseconds=both.microseconds - forward.microseconds, upper=both.upper - forward.upper)


def _clusters(asked: _Asked, phase: Phase) -> list[_Choice] | str:
    """Those of the least hidden size that holds the layer, or why none can run it."""
    if asked.capability < CLUSTER_CAPABILITY:
        return "thread-block clusters need compute capability 9.0"
    shipped: tuple[ForwardShape, ...] | tuple[BackwardShape, ...] = (
        FORWARD[asked.storage] if phase == "forward" else BACKWARD[asked.storage]
    )
    sizes = sorted({shape.hidden for shape in shipped if shape.hidden >= asked.hidden})
    if not sizes:
        largest = max(shape.hidden for shape in shipped)
        return f"the weights of hidden size {asked.hidden} do not fit into a cluster; {largest} do"
    shapes = [shape for shape in shipped if shape.hidden == sizes[0]]
    affordable = [shape for shape in shapes if shape.kernel().shared_bytes <= asked.shared_limit]
    if not affordable:
        return (
            f"a block has {asked.shared_limit} bytes of shared memory here, too few for hidden size {asked.hidden} in a cluster"
        )
    # One kernel stands for all of its cluster's size: each block takes an SM of its own.
    counts = {shape.cluster: asked.clusters(shape.kernel()) for shape in affordable}
    if not any(counts.values()):
        return f"the GPU has no room for a cluster of {min(counts)} blocks"
    choices = []
    for shape in (shape for shape in affordable if counts[shape.cluster]):
        at_once = counts[shape.cluster]
        spread = shape.spread(max(asked.batch, 1), max(1, at_once // asked.directions))
        clusters = asked.directions * -(-max(asked.batch, 1) // spread.columns)
        choices.append(_Choice(spread, spread.estimate(clusters, at_once) + _rest(asked, phase)))
    return choices


def _grids(asked: _Asked, phase: Phase, known: tuple[str, ...] | None) -> list[_Choice] | str:
    """Of the least depth that takes the hidden size those that are resident as a whole, or why none is.

    The driver is asked about a kernel once it is compiled. So of `known` configurations all are asked about, and of the others
    the fastest by the model until one fits; with None all.
    """
    if phase == "backward" and asked.capability >= NO_GRID_BACKWARD:
        return "its registers would not suffice on this GPU"
    shapes = [shape for shape in (GRID if phase == "forward" else GRID_BACKWARD)[asked.storage] if shape.hidden >= asked.hidden]
    if not shapes:
        return f"no cut for hidden size {asked.hidden}"
    least = min(shape.hidden for shape in shapes)
    affordable = [
        shape for shape in shapes if shape.hidden == least and shape.kernel().shared_bytes <= asked.shared_limit
    ]  # fmt: skip
    if not affordable:
        return (
            f"a block has {asked.shared_limit} bytes of shared memory here, too few for hidden size {asked.hidden} over all "
            "multiprocessors"
        )
    # The number of copies is no constant of the kernel.
    cuts = [replace(shape, copies=copies) for shape in affordable for copies in range(1, shape.copies + 1)]
    rest, batch = _rest(asked, phase), max(asked.batch, 1)

    def of(shape: GridShape, apart: bool) -> _Choice:
        time = shape.estimate(asked.hidden, batch).times(asked.directions if apart else 1)
        return _Choice(shape, time + rest, apart)

    def rank(choice: _Choice) -> tuple[float, int]:
        return choice.time.ranked, choice.shape.blocks(asked.hidden)  # type: ignore[union-attr]

    ways = (False,) if asked.directions == 1 else (False, True)
    found: list[_Choice] = []
    for choice in sorted((of(shape, apart) for shape in cuts for apart in ways), key=rank):
        shape = choice.shape
        assert isinstance(shape, GridShape)
        together = 1 if choice.apart else asked.directions
        wanted = known is None or not found or describe(shape) in known
        if wanted and shape.blocks(asked.hidden) * together <= asked.clusters(shape.kernel()):
            found.append(choice)
    if found:
        return found
    fewest = min(cuts, key=lambda shape: shape.blocks(asked.hidden))
    room = asked.clusters(fewest.kernel())
    return f"{fewest.blocks(asked.hidden)} blocks have to be resident at once, and the GPU holds {room}"


def _no_tensor_cores(dtype: torch.dtype, tf32: bool) -> str | None:
    if dtype == torch.float64 or (dtype == torch.float32 and not tf32):
        return f"tensor cores do not multiply exact {str(dtype).removeprefix('torch.')}"
    return None
