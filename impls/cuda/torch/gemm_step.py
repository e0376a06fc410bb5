"""A recurrence by one GEMM and one pointwise kernel a time step: for batches large enough to fill the GPU with that.

The GEMM is PyTorch's own, so cuBLAS's, and reads W_hh where the framework keeps it. Forward it adds W_hh h to the input product
in place, in the layer's dtype; the kernel makes the gates of that. Directions, and parts of the batch, are chains of steps that
do not depend on each other and run on streams of their own: the pointwise pass of one beside the GEMM of another. The input
product is made by chunks of time, ahead of the chains on one more stream; where the gates are not kept it takes the memory of
two chunks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from impls.cuda.runtime import Launch, Launcher, arguments
from impls.cuda.runtime.streams import Lanes, lanes
from impls.cuda.select import Plan
from impls.cuda.select.steps import GemmSteps
from impls.cuda.torch.recurrence import Outputs, Result, States, address, aligned, present, wide

SLOTS = 2  # chunks that there is room for: one is read while the next is made


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the input product is made of: x [T, B, I]; of each direction weight_ih [4H, I] and a bias [4H] or None."""

    x: Tensor
    weight_ih: Sequence[Tensor]
    bias: Sequence[Tensor | None]


@dataclass(frozen=True, slots=True)
class Chain:
    """Rows `rows` of the batch in one direction, in the order of its steps, on a lane of its own."""

    direction: int
    rows: slice
    lane: int

    def at(self, step: int, steps: int) -> int:
        """The place in time of the step-th step."""
        return steps - 1 - step if self.direction else step

    def of(self, tensor: Tensor | None) -> Tensor | None:
        """The chain's part of states [D, B, …]."""
        return None if tensor is None else tensor[self.direction, self.rows]


def chains_of(design: GemmSteps, directions: int, batch: int, first_lane: int) -> list[Chain]:
    size = -(-batch // design.parts)
    parts = [slice(start, min(start + size, batch)) for start in range(0, batch, size)]
    pairs = [(direction, rows) for direction in range(directions) for rows in parts]
    return [Chain(direction, rows, first_lane + lane) for lane, (direction, rows) in enumerate(pairs)]


@dataclass(frozen=True, slots=True)
class Preactivations:
    """Of each direction the input product of some steps, into which W_hh h is added: [steps, B, 4H], or room for two chunks."""

    buffers: Sequence[Tensor]
    steps: int
    chunk: int
    inputs: Inputs | None  # None: they are there already

    @property
    def chunks(self) -> int:
        return -(-self.steps // self.chunk)

    @property
    def is_ring(self) -> bool:
        return len(self.buffers[0]) < self.steps

    def range_of(self, number: int, direction: int) -> tuple[int, int]:
        """First and last + 1 place in time of a chunk, in the direction's order."""
        first, last = number * self.chunk, min((number + 1) * self.chunk, self.steps)
        return (self.steps - last, self.steps - first) if direction else (first, last)

    def place(self, number: int, direction: int, t: int) -> int:
        """Where in the buffer a place in time of a chunk lies."""
        if not self.is_ring:
            return t
        return number % SLOTS * self.chunk + t - self.range_of(number, direction)[0]

    def make(self, number: int, direction: int) -> None:
        """W_ih x + b of a chunk."""
        assert self.inputs is not None
        first, last = self.range_of(number, direction)
        start = self.place(number, direction, first)
        to = self.buffers[direction][start : start + last - first].flatten(0, 1)
        x, bias = self.inputs.x[first:last].flatten(0, 1), self.inputs.bias[direction]
        weight = self.inputs.weight_ih[direction].t()
        if bias is None:
            torch.mm(x, weight, out=to)
        else:
            torch.addmm(bias, x, weight, out=to)


def forward(
    plan: Plan, launcher: Launcher, weight_hh: Sequence[Tensor], given: Inputs | Sequence[Tensor], states: States, *,
    steps: int, lengths: Tensor | None, save_gates: bool = False, save_cells: bool = False,
) -> Result:  # fmt: skip
    """As `recurrence.forward`.

    given: the inputs, or the input product of each direction [T·B, 4H], which is overwritten.
    """
    design, (h0, c0), hidden, directions = plan.forward, states, weight_hh[0].shape[1], len(weight_hh)
    assert isinstance(design, GemmSteps)
    like = given.x if isinstance(given, Inputs) else given[0]
    batch = like.shape[1] if isinstance(given, Inputs) else len(like) // steps
    y = like.new_empty(steps, batch, directions * hidden)
    h_n = like.new_empty(directions, batch, hidden)
    c_n = like.new_empty(directions, batch, hidden, dtype=wide(like.dtype))
    cells = c_n.new_empty(directions, steps, batch, hidden) if save_cells else None
    z, gates = _room(design, given, like, (directions, steps, batch, hidden), save_gates)
    ahead = z.chunks > 1
    chains = chains_of(design, directions, batch, int(ahead))
    h0, c0 = (None if state is None else aligned(state) for state in (h0, c0))
    whole = _Forward(design, launcher, weight_hh, z, steps, lengths, save_gates, (h0, c0), Result(y, h_n, c_n, gates, cells))
    with lanes(like.device, len(chains) + ahead, "chains") as streams:
        runs = [whole.chain(chain, streams) for chain in chains]
        done: list[list[Any]] = []  # of each chunk a mark of each chain
        ready = _ahead(z, streams, 0, done)
        for number in range(z.chunks):
            for chain in chains if ready is not None else ():
                streams.wait(chain.lane, ready)
            if number + 1 < z.chunks:
                ready = _ahead(z, streams, number + 1, done)
            for _ in range(number * z.chunk, min((number + 1) * z.chunk, steps)):
                for run in runs:
                    next(run)
            done.append([streams.mark(chain.lane) for chain in chains] if z.is_ring else [])
    return whole.result


def _room(
    design: GemmSteps, given: Inputs | Sequence[Tensor], like: Tensor, sizes: tuple[int, int, int, int], save_gates: bool
) -> tuple[Preactivations, Tensor | None]:
    """Where preactivations lie, and the gates [D, T, B, 4, H] where they are saved, in the same place."""
    directions, steps, batch, hidden = sizes
    if not isinstance(given, Inputs):
        buffers = [aligned(each).view(steps, batch, 4 * hidden) for each in given]
        found = torch.stack(buffers) if save_gates and directions > 1 else buffers[0][None]
        buffers = list(found) if save_gates else buffers
        return Preactivations(buffers, steps, steps, None), found.view(*sizes[:3], 4, hidden) if save_gates else None
    chunk = min(steps, max(1, design.rows // batch))
    kept = steps if save_gates else min(steps, SLOTS * chunk)
    found = like.new_empty(directions, kept, batch, 4 * hidden)
    z = Preactivations(found.unbind(), steps, chunk, given)
    return z, found.view(*sizes[:3], 4, hidden) if save_gates else None


def _ahead(z: Preactivations, streams: Lanes, number: int, done: Sequence[Sequence[Any]]) -> Any:
    """Make a chunk of the input product on lane 0, where its room is free; a mark of its end."""
    if z.inputs is None:
        return None
    for mark in done[number - SLOTS] if number >= SLOTS else ():
        streams.wait(0, mark)
    for direction in range(len(z.buffers)):
        z.make(number, direction)
    return streams.mark(0)


@dataclass(frozen=True, slots=True)
class _Forward:
    """What the chains of a forward pass share."""

    design: GemmSteps
    launcher: Launcher
    weight_hh: Sequence[Tensor]
    z: Preactivations
    steps: int
    lengths: Tensor | None
    save_gates: bool
    states: States
    result: Result

    def chain(self, chain: Chain, streams: Lanes) -> Iterator[None]:
        """Enqueues a step each time that it is asked for the next."""
        (h0, c0), found, steps, hidden = self.states, self.result, self.steps, self.result.h_n.shape[2]
        own, d = slice(chain.direction * hidden, (chain.direction + 1) * hidden), chain.direction
        ys = found.y[:, chain.rows, own].unbind()
        zs = self.z.buffers[d][:, chain.rows].unbind()
        cells = [None] * steps if found.cells is None else found.cells[d, :, chain.rows].unbind()
        h, c, h_n, c_n = (chain.of(state) for state in (h0, c0, found.h_n, found.c_n))
        assert h_n is not None and c_n is not None
        weight, rows, lengths = self.weight_hh[d].t(), len(h_n), self.lengths
        arrays = {"c_next": address(c_n), "lengths": None if lengths is None else address(lengths[chain.rows])}
        empty = dict.fromkeys(("gates", "c", "h", "h_next", "y", "cells"))
        numbers = {"rows": rows, "hidden": hidden, "y_stride": found.y.shape[2], "save": int(self.save_gates)}
        filled = arguments("gemm_step_forward", [empty | arrays], **numbers)
        touched = present(h0, c0, lengths), present(*self.z.buffers, found.y, found.cells, found.h_n, found.c_n)
        launch = Launch(self.design.kernel(hidden, False), self.design.grid(hidden, rows), filled, *touched)
        of = filled.directions[0]
        for step in range(steps):
            t = filled.step = chain.at(step, steps)
            preactivations = zs[self.z.place(step // self.z.chunk, d, t)]
            last = step + 1 == steps
            # Beside y, whose row is zero beyond a sequence's length, h is needed in the end, or where such rows keep it.
            h_next = h_n if last or lengths is not None else None
            of.gates, of.y, of.cells, of.c = (address(each) for each in (preactivations, ys[t], cells[t], c))
            of.h, of.h_next = address(None if lengths is None else h), address(h_next)
            with streams.on(chain.lane):
                if h is not None:
                    preactivations.addmm_(h, weight)
                self.launcher(launch)
            h, c = ys[t] if h_next is None else h_n, c_n
            yield


def backward(
    plan: Plan, launcher: Launcher, weight_hh: Sequence[Tensor], gates: Sequence[Tensor], cells: Tensor, c0: Tensor | None, *,
    lengths: Tensor | None, grads: Outputs, recompute: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """As `recurrence.backward`. What a step sends to h is rounded to the layer's dtype, as gate gradients are."""
    design, (directions, steps, batch, hidden) = plan.backward, cells.shape
    assert isinstance(design, GemmSteps)
    grad_gates = grads[0].new_empty(directions, steps, batch, 4, hidden)
    grad_h0, grad_c0 = cells.new_empty(directions, batch, hidden), cells.new_empty(directions, batch, hidden)
    product = grads[0].new_empty(directions, batch, hidden)
    grad_y, grad_h_n, grad_c_n = grads
    grads = aligned(grad_y), None if grad_h_n is None else aligned(grad_h_n), None if grad_c_n is None else aligned(grad_c_n)
    saved = (
        [aligned(each).view(steps, batch, 4 * hidden) for each in gates],
        aligned(cells),
        None if c0 is None else aligned(c0),
    )
    found = grad_gates, grad_h0, grad_c0
    whole = _Backward(design, launcher, weight_hh, saved, lengths, grads, recompute, product, found)
    chains = chains_of(design, directions, batch, 0)
    with lanes(cells.device, len(chains), "chains") as streams:
        runs = [whole.chain(chain, streams) for chain in chains]
        for _ in range(steps + 1):
            for run in runs:
                next(run)
    return found


@dataclass(frozen=True, slots=True)
class _Backward:
    """What the chains of a backward pass share."""

    design: GemmSteps
    launcher: Launcher
    weight_hh: Sequence[Tensor]
    saved: tuple[Sequence[Tensor], Tensor, Tensor | None]  # gates, cells and c0
    lengths: Tensor | None
    grads: Outputs
    recompute: bool
    product: Tensor
    found: tuple[Tensor, Tensor, Tensor]  # gradients of preactivations, h0 and c0

    def chain(self, chain: Chain, streams: Lanes) -> Iterator[None]:
        """Enqueues a step each time that it is asked for the next, and in the end what reaches h0."""
        (all_gates, all_cells, c0), (grad_y, grad_h_n, grad_c_n), d = self.saved, self.grads, chain.direction
        grad_gates, grad_h0, grad_c0 = self.found
        _, steps, _, hidden = all_cells.shape
        own = slice(d * hidden, (d + 1) * hidden)
        gates, cells = all_gates[d][:, chain.rows].unbind(), all_cells[d, :, chain.rows].unbind()
        grad_ys, to = grad_y[:, chain.rows, own].unbind(), grad_gates[d, :, chain.rows].flatten(2).unbind()
        reaching_h, reaching_c, c_start = (chain.of(each) for each in (grad_h_n, grad_c_n, c0))
        product, last_h, last_c = (chain.of(each) for each in (self.product, grad_h0, grad_c0))
        assert product is not None and last_h is not None and last_c is not None
        rows, lengths = len(product), self.lengths
        passing = None if lengths is None else last_h  # what reaches h and passes by steps beyond a sequence's length
        arrays = {"lengths": None if lengths is None else address(lengths[chain.rows]), "grad_c_next": address(last_c)}
        empty = dict.fromkeys(("gates", "cells", "c_before", "grad_y", "product", "grad_gates", "grad_h", "grad_c"))
        numbers = {"rows": rows, "hidden": hidden, "y_stride": grad_y.shape[2], "recompute": int(self.recompute)}
        filled = arguments("gemm_step_backward", [empty | arrays | {"grad_h_next": address(passing)}], **numbers)
        reads = present(*all_gates, all_cells, c0, grad_y, grad_h_n, grad_c_n, lengths, self.product)
        kernel, grid = self.design.kernel(hidden, True), self.design.grid(hidden, rows)
        launch = Launch(kernel, grid, filled, reads, [grad_gates, grad_h0, grad_c0])
        of, later = filled.directions[0], None
        for step in reversed(range(-1, steps)):
            t = filled.step = chain.at(step, steps) if step >= 0 else -1
            if step >= 0:
                of.gates, of.cells, of.grad_y, of.grad_gates = (address(each[t]) for each in (gates, cells, grad_ys, to))
                of.c_before = address(cells[chain.at(step - 1, steps)] if step else c_start)
            else:
                of.grad_h_next = address(last_h)
            of.product, of.grad_h, of.grad_c = (
                address(each) for each in (None if later is None else product, reaching_h, reaching_c)
            )
            with streams.on(chain.lane):
                if later is not None:
                    torch.mm(later, self.weight_hh[d], out=product)
                self.launcher(launch)
            later, reaching_h, reaching_c = to[t], passing, last_c
            yield
