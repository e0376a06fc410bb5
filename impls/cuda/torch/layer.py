"""One layer and stacked layers: projection, input product, recurrence, and their gradients.

So every kernel runs `proj_size`; the price is 4H·H instead of 4H·P + P·H multiplications a step, one more rounding of the
weight in 16 bits, and, where there is an initial state, P more inputs a direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from impls.cuda.runtime import Launcher, Refused
from impls.cuda.runtime.streams import lanes
from impls.cuda.select import Plan
from impls.cuda.select.grid import GridShape
from impls.cuda.select.steps import GemmSteps
from impls.cuda.torch import gemm_step, recurrence
from impls.cuda.torch.recurrence import Parameters, States

# Layers with `proj_size` on kernels that know none: the projection is folded into the recurrent weight.
#
# With h = W_hr m and m = o·tanh(c), the recurrence z_t = W_ih x_t + b + W_hh h_{t−1} is one of m alone: its recurrent weight
# is W_hh W_hr, h0 adds W_hh h0 to the first step (as P more inputs, zero at all other steps), and y = W_hr m is one GEMM
# after the loop. Ordinary differentiable operations throughout, so their gradients are autograd's.

Weight = Sequence[Tensor]  # of each direction


def fold(
    x: Tensor, weight_ih: Weight, weight_hh: Weight, weight_hr: Weight, h0: Tensor | None, lengths: Tensor | None
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """What a layer without projection takes instead of x, weight_ih and weight_hh, without an h0.

    x [T, B, I], h0 [D, B, P] or None, lengths [B] or None; of each direction weight_ih [4H, I], weight_hh [4H, P] and
    weight_hr [P, H].
    """
    if h0 is None:
        return x, list(weight_ih), fold_recurrent(weight_hh, weight_hr)
    return fold_inputs(x, h0, lengths), *fold_weights(weight_ih, weight_hh, weight_hr)


def fold_inputs(x: Tensor, h0: Tensor, lengths: Tensor | None) -> Tensor:
    """[T, B, I + D·P]: h0 beside x at the first step of each sequence; in reverse that is its own last."""
    steps = torch.arange(len(x), device=x.device)[:, None]
    starts = [steps == 0, steps == (len(x) if lengths is None else lengths) - 1]
    return torch.cat([x, *(torch.where(starts[d][..., None], h0[d], torch.zeros_like(h0[d])) for d in range(len(h0)))], 2)


def fold_weights(weight_ih: Weight, weight_hh: Weight, weight_hr: Weight) -> tuple[list[Tensor], list[Tensor]]:
    """[4H, I + D·P] and [4H, H] of each direction."""
    widened = [
        torch.cat([ih, *(hh if other == direction else torch.zeros_like(hh) for other in range(len(weight_hh)))], 1)
        for direction, (ih, hh) in enumerate(zip(weight_ih, weight_hh, strict=True))
    ]
    return widened, fold_recurrent(weight_hh, weight_hr)


def fold_recurrent(weight_hh: Weight, weight_hr: Weight) -> list[Tensor]:
    return [hh @ hr for hh, hr in zip(weight_hh, weight_hr, strict=True)]


def unfold(
    m: Tensor, m_n: Tensor, weight_hr: Weight, h0: Tensor | None, lengths: Tensor | None
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """y [T, B, D·P] and h_n [D, B, P] of m [T, B, D·H] and m_n [D, B, H]; a sequence of no steps keeps its h0."""
    hidden = m_n.shape[2]
    y = [m[..., d * hidden : (d + 1) * hidden] @ hr.mT for d, hr in enumerate(weight_hr)]
    h_n = torch.stack([of_direction @ hr.mT for of_direction, hr in zip(m_n, weight_hr, strict=True)])
    if lengths is not None:
        h_n = torch.where((lengths > 0)[:, None], h_n, torch.zeros_like(h_n) if h0 is None else h0)
    return torch.cat(y, 2), h_n


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer's tensors as `fold` takes them, and their gradients from those of the folded layer."""

    x: Tensor
    weight_ih: list[Tensor]
    weight_hh: list[Tensor]
    weight_hr: list[Tensor]
    h0: Tensor
    lengths: Tensor | None

    def backward_outputs(
        self, m: Tensor, m_n: Tensor, grad_y: Tensor, grad_h_n: Tensor
    ) -> tuple[Tensor, Tensor, list[Tensor], Tensor]:
        """Gradients of m and m_n, and what y and h_n add to those of weight_hr and h0."""
        lengths, given = self.lengths, (m, m_n, self.weight_hr, self.h0)
        back = torch.func.vjp(lambda m, m_n, hr, h0: unfold(m, m_n, hr, h0, lengths), *given)[1]
        return back((grad_y, grad_h_n))

    def backward_inputs(
        self, grad_x: Tensor, grad_ih: list[Tensor], grad_hh: list[Tensor]
    ) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor], Tensor]:
        """Gradients of x, weight_ih, weight_hh, weight_hr and h0 from those of the folded x and weights."""
        lengths, given = self.lengths, (self.x, self.weight_ih, self.weight_hh, self.weight_hr, self.h0)
        back = torch.func.vjp(lambda x, ih, hh, hr, h0: fold(x, ih, hh, hr, h0, lengths), *given)[1]
        return back((grad_x, grad_ih, grad_hh))


# One layer, one or two directions: the input GEMM, the recurrence, and the GEMMs that end its backward pass.
#
# Weights are those of each direction, as the framework keeps them: weight_ih [4H, I], weight_hh [4H, H]; as bias [4H] nothing,
# a sum of each direction, or b_ih of each and then b_hh of each. Nothing is stacked and gate rows keep their order.


@dataclass(frozen=True, slots=True)
class Weights:
    """A layer's weights as its forward pass reads them; made anew whenever they change."""

    weight_ih: Weight
    bias: Sequence[Tensor | None]  # of each direction, b_ih + b_hh
    recurrent: Weight  # as `recurrence.pack` gives it


@dataclass(frozen=True, slots=True)
class Gradients:
    """bias: as many as there are biases, each its own memory."""

    x: Tensor
    weight_ih: list[Tensor]
    weight_hh: list[Tensor]
    bias: list[Tensor]
    h0: Tensor
    c0: Tensor


def pack(plan: Plan, launcher: Launcher, parameters: Parameters) -> Weights:
    weight_ih, weight_hh, bias = parameters
    return Weights(weight_ih, sum_biases(bias, len(weight_ih)), recurrence.pack(plan, launcher, weight_hh))


def sum_biases(bias: Sequence[Tensor], directions: int) -> Sequence[Tensor | None]:
    """b_ih + b_hh of each direction."""
    if not bias:
        return [None] * directions
    if len(bias) == directions:
        return bias
    return [bias[d] + bias[directions + d] for d in range(directions)]


def forward(
    plan: Plan, launcher: Launcher, weights: Weights, x: Tensor, states: States, *, lengths: Tensor | None, training: bool
) -> recurrence.Result:  # fmt: skip
    """x [T, B, I], h0 [D, B, H] and c0, the same in the wide type, or None. Saves what the plan's memory says."""
    if isinstance(plan.forward, GemmSteps):
        inputs = gemm_step.Inputs(x, weights.weight_ih, weights.bias)
        return gemm_step.forward(
            plan, launcher, weights.recurrent, inputs, states, steps=len(x), lengths=lengths,
            save_gates=training and plan.memory == "saved", save_cells=training,
        )  # fmt: skip
    return recurrence.forward(
        plan, launcher, weights.recurrent, project(weights.weight_ih, weights.bias, x), states, steps=len(x),
        lengths=lengths, save_gates=training and plan.memory == "saved", save_cells=training,
    )  # fmt: skip


def backward(
    plan: Plan, launcher: Launcher, parameters: Parameters, x: Tensor, states: States, *,
    lengths: Tensor | None, result: recurrence.Result, grads: recurrence.Outputs,
) -> Gradients:  # fmt: skip
    """Through the `forward` that gave `result`. Gradients of states in the wide type."""
    assert result.cells is not None, "backward of a forward that saved nothing"
    (weight_ih, weight_hh, bias), (h0, c0) = parameters, states
    (steps, batch, inputs), directions, rows = x.shape, len(weight_hh), len(weight_hh[0])
    saved = result.gates
    gates = recompute_preactivations(parameters, x, h0, lengths, result.y) if saved is None else saved.unbind()
    through = gemm_step.backward if isinstance(plan.backward, GemmSteps) else recurrence.backward
    grad_gates, grad_h0, grad_c0 = through(
        plan, launcher, recurrence.pack(plan, launcher, weight_hh, backward=True), gates, result.cells, c0,
        lengths=lengths, grads=grads, recompute=saved is None,
    )  # fmt: skip
    by_token, flat_x = grad_gates.view(directions, steps * batch, rows).unbind(), x.view(steps * batch, inputs)
    grad_x = by_token[0] @ weight_ih[0]
    if directions == 2:
        grad_x.addmm_(by_token[1], weight_ih[1])
    grad_ih = [of_direction.t() @ flat_x for of_direction in by_token]
    clamped = None if lengths is None else lengths.clamp(0, steps)
    grad_hh = [
        _grad_weight_hh(of_direction.view(steps, batch, rows), result.y, h0, clamped, d)
        for d, of_direction in enumerate(by_token)
    ]
    sums = [of_direction.sum(0, dtype=recurrence.wide(x.dtype)).to(x.dtype) for of_direction in by_token] if bias else []
    grad_bias = sums + [each.clone() for each in sums] if len(bias) == 2 * directions else sums
    return Gradients(grad_x.view(x.shape), grad_ih, grad_hh, grad_bias, grad_h0, grad_c0)


def project(weight_ih: Weight, bias: Sequence[Tensor | None], x: Tensor) -> list[Tensor]:
    """W_ih x + b of all steps of each direction, [T·B, 4H]."""
    flat = x.view(-1, x.shape[2])
    return [
        torch.mm(flat, weight.t()) if each is None else torch.addmm(each, flat, weight.t())
        for weight, each in zip(weight_ih, bias, strict=True)
    ]


def recompute_preactivations(
    parameters: Parameters, x: Tensor, h0: Tensor | None, lengths: Tensor | None, y: Tensor
) -> list[Tensor]:  # fmt: skip
    """All preactivations again, [T·B, 4H] of each direction: since every h is known, one GEMM a weight, nothing sequential."""
    weight_ih, weight_hh, bias = parameters
    steps, batch, _ = x.shape
    preactivations = project(weight_ih, sum_biases(bias, len(weight_ih)), x)
    clamped = None if lengths is None else lengths.clamp(0, steps)
    for d, weight in enumerate(weight_hh):
        of_direction = preactivations[d].view(steps, batch, -1)
        later, h_before = _pairs(of_direction, y, d, weight.shape[1])
        later.flatten(0, 1).addmm_(h_before, weight.t())
        if h0 is not None:
            of_direction[_starts(clamped, d, steps, batch)] += h0[d] @ weight.t()
    return preactivations


def _grad_weight_hh(grad_gates: Tensor, y: Tensor, h0: Tensor | None, lengths: Tensor | None, direction: int) -> Tensor:
    """Σ dz_t h_{t−1}ᵀ, [4H, H]: a GEMM over the steps that follow another, and h0's at each sequence's start.

    grad_gates [T, B, 4H]; lengths from 0 to T.
    """
    steps, batch, rows = grad_gates.shape
    later, h_before = _pairs(grad_gates, y, direction, rows // 4)
    transposed = later.flatten(0, 1).t()
    if h0 is None:
        return transposed @ h_before
    return torch.addmm(grad_gates[_starts(lengths, direction, steps, batch)].t() @ h0[direction], transposed, h_before)


def _pairs(by_step: Tensor, y: Tensor, direction: int, hidden: int) -> tuple[Tensor, Tensor]:
    """The steps that have one before them (in the direction's order) as [T−1, B, …], and the h of those before, [(T−1)·B, H].

    In reverse a sequence starts at its own last step; the y after it is zero, so that pair adds nothing.
    """
    before = y[..., direction * hidden : (direction + 1) * hidden]
    later, before = (by_step[:-1], before[1:]) if direction else (by_step[1:], before[:-1])
    return later, before.flatten(0, 1)


def _starts(lengths: Tensor | None, direction: int, steps: int, batch: int) -> int | tuple[Tensor, Tensor]:
    """Index of each sequence's first step in the direction's order, for tensors [T, B, …]; lengths from 0 to T.

    A sequence of no steps has no first one: its gradients are zero at every step, and what is added to one is not read.
    """
    if not direction:
        return 0
    if lengths is None:
        return steps - 1
    return lengths.long() - 1, torch.arange(batch, device=lengths.device)


# Stacked layers, each on its own kernels.


@dataclass(frozen=True, slots=True)
class Run:
    """Of each layer the recurrence's result and the output; of all layers h_n and c_n [L·D, B, H], c_n wide."""

    results: list[recurrence.Result]
    outputs: list[Tensor]
    h_n: Tensor
    c_n: Tensor


def run(
    plan: Plan, launcher: Launcher, weights: Sequence[Weights], x: Tensor, h0: Tensor, c0: Tensor, *,
    lengths: Tensor | None, projections: Sequence[Weight | None], training: bool = False,
) -> Run:  # fmt: skip
    """x [T, B, I], h0 [L·D, B, H or P], c0 [L·D, B, H] wide; `weights` packed, with `projections` ([P, H] of each direction)
    folded in."""
    results, outputs, last_h = [], [], []
    directions = len(h0) // len(weights)
    for depth, (packed, projection) in enumerate(zip(weights, projections, strict=True)):
        part = slice(depth * directions, (depth + 1) * directions)
        start: Tensor | None = h0[part]
        if projection is not None:
            x, start = fold_inputs(x, h0[part], lengths), None
        result = forward(plan, launcher, packed, x, (start, c0[part]), lengths=lengths, training=training)
        x, h_n = result.y, result.h_n
        if projection is not None:
            x, h_n = unfold(x, h_n, projection, h0[part], lengths)
        results.append(result)
        outputs.append(x)
        last_h.append(h_n)
    return Run(results, outputs, torch.cat(last_h), torch.cat([result.c_n for result in results]))


def wavefront(
    plan: Plan, launcher: Launcher, weights: Sequence[Weights], x: Tensor, states: States, *, lengths: Tensor | None, chunk: int
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Inference of stacked layers of one direction by chunks of time, each layer on a stream of its own.

    A layer starts with a chunk when the layer below is done with it, from the states that its own chunk before ended with.
    Every step computes what it computes layer after layer; only the input product is of fewer rows, for which a library may
    add in another order.

    Args:
        weights: packed, of each layer.
        x, states: [T, B, I], and h0 [L, B, H] and c0, the same in the wide type, or None.
        chunk: steps; the last one may have fewer.

    Returns:
        y [T, B, H], h_n [L, B, H], c_n in the wide type.

    Raises:
        Refused: a plan of persistent-grid kernels.
    """
    if isinstance(plan.forward, GridShape):
        raise Refused(
            "a wavefront of layers was asked for, and this plan's persistent-grid kernels need all multiprocessors, one after "
            "the other; ask for no wavefront, or for the design cluster, gemm_step, tensor_step or step"
        )
    starts, layers = range(0, len(x), chunk), len(weights)
    inputs = list(x.split(chunk))
    left = [None if lengths is None else lengths - start for start in starts]  # a length below 0 counts as 0
    found: list[list[recurrence.Result]] = [[] for _ in weights]
    done: list[list[Any]] = [[] for _ in weights]
    with lanes(x.device, layers, "layers") as streams:
        for number in range(len(starts) + layers - 1):
            for depth in range(max(0, number - len(starts) + 1), min(layers, number + 1)):
                place = number - depth
                if depth:
                    streams.wait(depth, done[depth - 1][place])
                given = inputs[place] if not depth else found[depth - 1][place].y
                start = tuple(None if each is None else each[depth : depth + 1] for each in states)
                before = (found[depth][-1].h_n, found[depth][-1].c_n) if place else (start[0], start[1])
                with streams.on(depth):
                    found[depth].append(
                        forward(plan, launcher, weights[depth], given, before, lengths=left[place], training=False)
                    )
                done[depth].append(streams.mark(depth))
    # What the streams allocated is freed after they were joined, so that their next fork is ordered after what reads it here.
    y = torch.cat([result.y for result in found[-1]])
    return y, torch.cat([each[-1].h_n for each in found]), torch.cat([each[-1].c_n for each in found])
