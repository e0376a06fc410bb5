"""All steps of an LSTM at once, by Newton's method: linearise every step about a guess, solve the chain by a parallel scan.

Each round solves s_t = F_t(ŝ_{t−1}) + J_t (s_{t−1} − ŝ_{t−1}) for all t, the 2H × 2H maps combined pairwise in 2·log2 T rounds
(Lim et al. 2024, "DEER"; Gonzalez et al. 2025 relate the number of rounds to the largest Lyapunov exponent). Float64.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.harness.case import Case
from bench.studies.gradients import attenuation, cells, inits
from bench.studies.gradients.cells import Weights
from results.record import Measurement

TOLERANCE = 1e-12  # largest |s_t − F(s_{t−1})|
MOST_ROUNDS = 100


@dataclass(frozen=True, slots=True)
class Solution:
    """states [T, 2H]; residual: the largest |s_t − F(s_{t−1})|; converged: whether it fell below the tolerance."""

    states: Tensor
    rounds: int
    residual: float
    converged: bool


def measure(case: Case) -> Iterator[Measurement]:
    """By seed: rounds (those that did not converge are noted and stand at the limit), residual, the largest difference from
    the sequential states, seconds of both ways, and λ₁."""
    seeds = int(case.factor("seeds"))
    found: dict[str, list[float]] = {}
    notes = []
    for seed in range(seeds):
        init = str(case.factor("init"))
        (own,) = [inits.weights(case.spec, init, seeds)[seed]]
        x = torch.from_numpy(inits.inputs(case, seed)[:, :1])  # one sequence
        weights = cells.stacked(case.spec, [own])
        started = time.perf_counter()
        solution = solve(weights, x[:, 0])
        solved = time.perf_counter()
        sequential = sequential_states(weights, x[:, 0])
        done = time.perf_counter()
        path = cells.run(case.spec, init, [own], x[:, None])
        values = {
            "rounds": float(solution.rounds), "residual": solution.residual,
            "difference": float((solution.states - sequential).abs().max()),
            "newton_time": solved - started, "sequential_time": done - solved,
            "lyapunov": float(attenuation.lyapunov_exponents(path, 1)[0, 0]),
        }  # fmt: skip
        if not solution.converged:
            notes.append(f"seed {seed} had not converged after {solution.rounds} rounds")
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    units = {"newton_time": "s", "sequential_time": "s", "lyapunov": "nat/step"}
    for name, samples in found.items():
        blocks = (1,) * seeds
        noted = tuple(notes) if name == "rounds" else ()
        yield Measurement(name, units.get(name, "1"), tuple(samples), blocks, noted)


def solve(weights: Weights, x: Tensor, tolerance: float = TOLERANCE, most: int = MOST_ROUNDS) -> Solution:
    """x [T, I]; the state before the first step is zero, and so is the first guess."""
    inputs = (x @ weights.w_x[0]) + weights.b_x[0] + weights.b_h[0]
    states = torch.zeros(len(x), 2 * weights.hidden, dtype=x.dtype)
    residual = float("inf")
    for number in range(1, most + 1):
        before = _shifted(states)
        after, jacobians = linearised(weights, inputs, before)
        offsets = after - torch.einsum("tij,tj->ti", jacobians, before)
        states = prefixes(jacobians, offsets)
        if not torch.isfinite(states).all():
            return Solution(states, number, float(torch.finfo(x.dtype).max), False)
        residual = float((states - _step(weights, inputs, _shifted(states))[0]).abs().max())
        if residual <= tolerance:
            return Solution(states, number, residual, True)
    return Solution(states, most, residual, False)


def sequential_states(weights: Weights, x: Tensor) -> Tensor:
    """The same states one after the other, [T, 2H]."""
    inputs = (x @ weights.w_x[0]) + weights.b_x[0] + weights.b_h[0]
    state = torch.zeros(1, 2 * weights.hidden, dtype=x.dtype)
    states = []
    for row in inputs:
        state, _ = _step(weights, row[None], state)
        states.append(state)
    return torch.cat(states)


def linearised(weights: Weights, inputs: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """F_t(ŝ_{t−1}) [T, 2H] and J_t [T, 2H, 2H] (docs/studies/gradients.md) for all t."""
    after, (i, f, g, o, c, squashed) = _step(weights, inputs, before)
    u_i, u_f, u_g, u_o = weights.w_h[0].T.chunk(4)
    to_cell = _rows(g * i * (1 - i), u_i) + _rows(c * f * (1 - f), u_f) + _rows(i * (1 - g * g), u_g)
    slope = o * (1 - squashed * squashed)
    to_hidden = _rows(squashed * o * (1 - o), u_o) + slope[..., None] * to_cell
    top = torch.cat([to_hidden, torch.diag_embed(slope * f)], -1)
    return after, torch.cat([top, torch.cat([to_cell, torch.diag_embed(f)], -1)], -2)


def prefixes(maps: Tensor, offsets: Tensor) -> Tensor:
    """s_1 … s_T of s_t = M_t s_{t−1} + v_t from s_0 = 0: maps [T, n, n], offsets [T, n] (Blelloch 1990, section 1.4)."""
    steps = len(maps)
    if steps == 1:
        return offsets
    pairs = steps // 2
    odd, even = maps[1::2], maps[0::2]
    joined = offsets[1::2] + torch.einsum("tij,tj->ti", odd, offsets[0::2][:pairs])
    halved = prefixes(odd @ even[:pairs], joined)
    states = torch.empty_like(offsets)
    states[0], states[1::2] = offsets[0], halved
    rest = len(even) - 1
    states[2::2] = offsets[2::2] + torch.einsum("tij,tj->ti", even[1:], halved[:rest])
    return states


def _step(weights: Weights, inputs: Tensor, before: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    h, c = before.chunk(2, -1)
    i, f, g, o = (inputs + h @ weights.w_h[0]).chunk(4, -1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    new = f * c + i * g
    squashed = torch.tanh(new)
    return torch.cat([o * squashed, new], -1), (i, f, g, o, c, squashed)


def _rows(scale: Tensor, matrix: Tensor) -> Tensor:
    return scale[..., None] * matrix


def _shifted(states: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(states[:1]), states[:-1]])
