"""FlashRNN (NX-AI/flashrnn), an optional baseline: its fused CUDA kernel for one layer, the input product by PyTorch.

Read: release 1.0.8. Checked with that release's own `vanilla` implementation on a CPU, and here with a stub of its signature;
its kernels have not run. How it is built, and what it takes: docs/baselines.md.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from impls import Unavailable, refusals
from impls.batch import Batch
from impls.frameworks.torch import network as torch_network
from impls.interface import Phase
from impls.params import Params
from impls.specs.recurrent import Spec, require_recurrent

RUNS = ("flashrnn",)
FRAMEWORK = ("torch",)
DEVICES = ("cuda",)
PACKAGE = "flashrnn"
KERNEL = "flashrnn"  # its fused kernels are FLASHRNNCellFusedForward and FLASHRNNCellFusedBackward
CELLS = ("lstm",)
DTYPES = {"bfloat16": "bfloat16", "float16": "float16", "tensorfloat32": "float32"}  # its float32 is multiplied in TF32
HIDDEN_MULTIPLE = 16  # of its matrix tiles; where B, rounded up to 8, is no multiple of 16, it needs 32
# [B, T, 4, heads, H], [4, heads, H new, H before], [4, heads, H], [2, B, 1, heads, H] to h and c [2, B, T, heads, H], and
# the last of them.
Kernel = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def refuses(spec: Spec, phase: Phase, ragged: bool) -> str | None:
    return refusals.first(
        refusals.in_principle(spec, phase, ragged),
        refusals.cell(spec, *CELLS),
        refusals.projection(spec),
        refusals.dtype(spec, *DTYPES),
        refusals.one_plain_layer(spec, ragged, "FlashRNN"),
        refusals.device(spec, *DEVICES),
        _missing(),
        torch_network.no_cuda(spec),
        _no_tiles(spec.hidden_size, HIDDEN_MULTIPLE),
    )


def _no_tiles(hidden: int, multiple: int, where: str = "") -> str | None:
    if hidden % multiple == 0:
        return None
    return (
        f"FlashRNN's fused kernel takes hidden sizes that are multiples of {multiple}{where}, not {hidden}; ask for such a one"
    )


def _missing() -> str | None:
    if importlib.util.find_spec(PACKAGE) is None:
        return (
            "FlashRNN is not installed; pip install flashrnn (source: github.com/NX-AI/flashrnn, Apache-2.0), and install "
            "g++ and an nvcc of PyTorch's CUDA version, with which it compiles each size"
        )
    return None


def load(spec: Spec, params: Params, batch: Batch) -> torch_network.Network:
    if reason := refusals.first(refusals.device(spec, *DEVICES), torch_network.no_cuda(spec), _missing()):
        raise Unavailable(reason)
    multiple = HIDDEN_MULTIPLE if spec.dtype == "tensorfloat32" or -(-batch.batch // 8) % 2 == 0 else 2 * HIDDEN_MULTIPLE
    if reason := _no_tiles(spec.hidden_size, multiple, f" for a batch of {batch.batch}"):
        raise Unavailable(reason)
    torch_network.check(spec, params, batch)
    call: Any = importlib.import_module("flashrnn.flashrnn").flashrnn
    kernel = partial(call, function="lstm", backend="cuda_fused", dtype=DTYPES[spec.dtype])
    return network(spec, params, batch, kernel, what_ran)


def network(
    spec: Spec, params: Params, batch: Batch, kernel: Kernel, what_ran: Callable[[torch_network.Network], dict[str, str]]
) -> torch_network.Network:
    spec = require_recurrent(spec)
    weights = torch_network.leaves(spec, params)

    def run(x: Tensor, state: torch_network.State) -> tuple[Tensor, torch_network.State]:
        steps, rows, hidden = len(x), x.shape[1], spec.hidden_size
        projected = torch.nn.functional.linear(x.transpose(0, 1), weights["weight_ih_l0"]).view(rows, steps, 4, 1, hidden)
        recurrent = weights["weight_hh_l0"].view(4, 1, hidden, hidden)
        both = (weights["bias_ih_l0"] + weights["bias_hh_l0"]) if spec.bias else x.new_zeros(4 * hidden)
        first = torch.stack([value[0] for value in state])[:, :, None, None]  # h, c: [2, B, 1, 1, H]
        states, last = kernel(projected, recurrent, both.view(4, 1, hidden), first)
        h_n, c_n = last[:, :, 0, 0][:, None].unbind(0)
        return states[0, :, :, 0].transpose(0, 1), (h_n, c_n)

    return torch_network.Network(spec, weights, batch, run, what_ran)


def what_ran(network: torch_network.Network) -> dict[str, str]:
    ours = any(KERNEL in name.lower() for name in network.names_run())
    return {"ran": "flashrnn" if ours else "no kernel named flashrnn", "input GEMM": "PyTorch's, inside the time"}
