"""The loop of `torch_compile` with its step compiled in the mode `max-autotune`, which tries kernels and keeps the fastest.

On a GPU alone: there it tries Triton's templates for every product. On a CPU the templates of torch 2.13.0 need weights that
are constants of the graph (`use_cpp_gemm_template` in torch/_inductor/utils.py), and here, as in training, they are arguments.

The mode is `max-autotune-no-cudagraphs`: whether a CUDA graph launches the kernels is the case's `launch`. That also is what
the mode `reduce-overhead` does, so it has no backend of its own.
"""

from __future__ import annotations

from impls import Unavailable, refusals
from impls.backends import torch_compile
from impls.batch import Batch
from impls.frameworks.torch import network as torch_network
from impls.interface import Phase
from impls.params import Params
from impls.specs.recurrent import Spec

RUNS = ("inductor",)
FRAMEWORK = ("torch",)
DEVICES = ("cuda",)
CELLS = ("lstm",)
LAUNCHES = ("eager", "graph")
ON_REQUEST = True
MODE = "max-autotune-no-cudagraphs"


def refuses(spec: Spec, phase: Phase, ragged: bool) -> str | None:
    return refusals.first(refusals.device(spec, *DEVICES), torch_compile.refuses(spec, phase, ragged))


def load(spec: Spec, params: Params, batch: Batch) -> torch_network.Network:
    if reason := refusals.device(spec, *DEVICES):
        raise Unavailable(reason)
    network = torch_compile.compiled_loop(spec, params, batch, MODE)
    network.what_ran = what_ran
    return network


def what_ran(network: torch_network.Network) -> dict[str, str]:
    return torch_compile.what_ran(network) | {"mode": MODE}
