"""The textbook LSTM in eager PyTorch, a Python loop over steps: the "vanilla" that fast kernels are compared with."""

from __future__ import annotations

from impls import refusals
from impls.backend import Phase
from impls.backends import _torch, _torch_loop
from impls.batch import Batch
from impls.params import Params
from impls.spec import Spec

RUNS = ("eager",)
FRAMEWORK = ("torch",)
CELLS = ("lstm",)
LAUNCHES = ("eager", "graph")


def refuses(spec: Spec, phase: Phase, ragged: bool) -> str | None:
    return refusals.first(refusals.in_principle(spec, phase, ragged), refusals.cell(spec, *CELLS), _torch.no_cuda(spec))


def load(spec: Spec, params: Params, batch: Batch) -> _torch.Network:
    _torch.check(spec, params, batch)
    weights = _torch.leaves(spec, params)
    run = _torch_loop.loop_run(spec, weights, batch, _torch_loop.step)
    return _torch.Network(spec, weights, batch, run, lambda network: {"ran": "eager"})
