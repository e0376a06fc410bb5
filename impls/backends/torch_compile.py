"""The textbook LSTM loop of `torch_loop` with its step compiled by `torch.compile`.

The step is compiled, not the loop: Dynamo unrolls a loop over T steps, which takes minutes to compile for T in the hundreds.
Every network gets its own copy of the step, because Dynamo counts recompilations, of which it allows eight, per code object.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import types

import torch
from torch._dynamo.utils import counters

from impls import Unavailable, refusals
from impls.batch import Batch
from impls.frameworks.torch import network as torch_network
from impls.interface import Phase
from impls.params import Params
from impls.specs.recurrent import Spec

RUNS = ("inductor",)
FRAMEWORK = ("torch",)
CELLS = ("lstm",)
LAUNCHES = ("eager", "graph")


def refuses(spec: Spec, phase: Phase, ragged: bool) -> str | None:
    return refusals.first(
        refusals.in_principle(spec, phase, ragged), refusals.cell(spec, *CELLS), torch_network.no_cuda(spec), no_compiler(spec)
    )


def no_compiler(spec: Spec) -> str | None:
    if not shutil.which(os.environ.get("CXX", "g++")):
        return "torch.compile finds no C++ compiler; install g++ or set CXX, or use the backend torch_loop"
    if spec.device == "cuda" and not importlib.util.find_spec("triton"):
        return "torch.compile needs the package triton on CUDA; pip install triton, or use the backend torch_loop"
    return None


def load(spec: Spec, params: Params, batch: Batch) -> torch_network.Network:
    return compiled_loop(spec, params, batch)


def compiled_loop(spec: Spec, params: Params, batch: Batch, mode: str | None = None) -> torch_network.Network:
    """The loop with its step compiled in a mode of `torch.compile`, its default where None."""
    torch_network.check(spec, params, batch)
    if reason := no_compiler(spec):
        raise Unavailable(reason)
    weights = torch_network.leaves(spec, params)
    own = types.FunctionType(torch_network.step.__code__.replace(), torch_network.step.__globals__)
    compiled = torch.compile(own, fullgraph=True, dynamic=False, mode=mode)
    return torch_network.Network(spec, weights, batch, torch_network.loop_run(spec, weights, batch, compiled), what_ran)


def what_ran(network: torch_network.Network) -> dict[str, str]:
    """`inductor` only if every step of the last call, made once more, ran a compiled graph and nothing was compiled for it."""
    before = counters["stats"]["unique_graphs"]
    graphs = sum(name.startswith("## Call CompiledFxGraph") for name in network.names_run())
    if counters["stats"]["unique_graphs"] != before:
        return {"ran": "inductor, recompiled by a second identical call"}
    steps = 1 if network.last_call == network.step else len(network.x)
    passes = 2 if network.last_call == network.forward_backward else 1
    expected = passes * steps * network.spec.num_layers * network.spec.num_directions
    return {"ran": "inductor" if graphs == expected else "eager", "compiled graphs called": f"{graphs} of {expected}"}
