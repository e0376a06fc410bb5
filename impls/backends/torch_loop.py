"""The textbook LSTM in eager PyTorch, a Python loop over steps: the "vanilla" that fast kernels are compared with."""

from __future__ import annotations

from impls import refusals
from impls.batch import Batch
from impls.frameworks.torch import network as torch_network
from impls.interface import Phase
from impls.params import Params
from impls.specs.recurrent import Spec

RUNS = ("eager",)
FRAMEWORK = ("torch",)
CELLS = ("lstm",)
LAUNCHES = ("eager", "graph")


def refuses(spec: Spec, phase: Phase, ragged: bool) -> str | None:
    return refusals.first(refusals.in_principle(spec, phase, ragged), refusals.cell(spec, *CELLS), torch_network.no_cuda(spec))


def load(spec: Spec, params: Params, batch: Batch) -> torch_network.Network:
    torch_network.check(spec, params, batch)
    weights = torch_network.leaves(spec, params)
    run = torch_network.loop_run(spec, weights, batch, torch_network.step)
    return torch_network.Network(spec, weights, batch, run, lambda network: {"ran": "eager"})
