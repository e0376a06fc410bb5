"""Rounds of Newton's method by initialisation, beside the largest Lyapunov exponent.

Gonzalez et al. (2025) relate the two. The method is that of the study `parallel` (`bench/studies/parallel/newton.py`), with the
full Jacobian in float64.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from bench.harness.case import Case
from bench.studies.gradients import attenuation, cells, inits
from bench.studies.gradients.cells import Weights
from bench.studies.parallel import newton
from results.record import Measurement


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
        cell = cell_of(weights, x[:, 0])
        solution = newton.solve(cell, cell.zeros())
        solved = time.perf_counter()
        sequential = newton.sequential_states(cell.inputs, cell.recurrent)
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


def cell_of(weights: Weights, x: Tensor) -> newton.Cell:
    """The first seed's layer on one sequence x [T, I]."""
    return newton.Cell((x @ weights.w_x[0]) + weights.b_x[0] + weights.b_h[0], weights.w_h[0], "full")
