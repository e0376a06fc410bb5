"""xLSTM's library (NX-AI/xlstm), an optional baseline: its CUDA cell with `function="lstm"`, the input product by PyTorch.

Read: release 2.0.6. Its kernel multiplies by cuBLAS and applies the gates a step at a time, and waits for the device before
and after every pass. Checked with that release's own `vanilla` cell on a CPU, and here with a stub of its cell; its kernels
have not run. How it is built, and what it takes: docs/baselines.md.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import torch
from torch import Tensor, nn

from impls import Unavailable, refusals
from impls.batch import Batch
from impls.frameworks.torch import network as torch_network
from impls.interface import Phase
from impls.params import Params
from impls.specs.recurrent import Spec, require_recurrent

RUNS = ("xlstm",)
FRAMEWORK = ("torch",)
DEVICES = ("cuda",)
CELLS = ("lstm",)
PACKAGE = "xlstm"
KERNEL = "slstmpointwise"  # its kernels are SLSTMPointwiseForward and SLSTMPointwiseBackward, whatever the function
DTYPES = ("float32", "bfloat16", "float16")


def refuses(spec: Spec, phase: Phase, ragged: bool) -> str | None:
    return refusals.first(
        refusals.in_principle(spec, phase, ragged),
        refusals.cell(spec, *CELLS),
        refusals.projection(spec),
        refusals.dtype(spec, *DTYPES),
        refusals.one_plain_layer(spec, ragged, "xLSTM's cell"),
        refusals.device(spec, *DEVICES),
        _missing(),
        torch_network.no_cuda(spec),
    )


def _missing() -> str | None:
    if importlib.util.find_spec(PACKAGE) is None:
        return (
            "xlstm is not installed; pip install xlstm (source: github.com/NX-AI/xlstm, Apache-2.0), and install g++ and an "
            "nvcc of PyTorch's CUDA version, with which it compiles each size"
        )
    return None


def load(spec: Spec, params: Params, batch: Batch) -> torch_network.Network:
    if reason := refusals.first(refusals.device(spec, *DEVICES), torch_network.no_cuda(spec), _missing()):
        raise Unavailable(reason)
    torch_network.check(spec, params, batch)
    found: Any = importlib.import_module("xlstm.blocks.slstm.cell")
    cell = found.sLSTMCell(found.sLSTMCellConfig(**configuration(spec, batch.batch)))
    return network(spec, params, batch, cell.to(spec.device))


def configuration(spec: Spec, batch: int) -> dict[str, Any]:
    """Of its `sLSTMCellConfig`. Biases, and with them its sums, are float32; nothing is cast behind our back."""
    return {
        "hidden_size": spec.hidden_size, "num_heads": 1, "function": "lstm", "backend": "cuda", "batch_size": batch,
        "input_shape": "SBGNH", "output_shape": "SBH", "dtype": spec.dtype, "dtype_b": "float32",
        "enable_automatic_mixed_precision": False,
    }  # fmt: skip


def network(spec: Spec, params: Params, batch: Batch, cell: nn.Module) -> torch_network.Network:
    """cell: called with the projected input [T, B, 4·H] and the state h, c [2, B, H]; gives y [T, B, H] and the last state. Its
    parameters, in its own layout, are R [1, H before, 4·H new] and b [4·H]."""
    spec = require_recurrent(spec)
    weights = torch_network.leaves(spec, params)

    def run(x: Tensor, state: torch_network.State) -> tuple[Tensor, torch_network.State]:
        projected = torch.nn.functional.linear(x, weights["weight_ih_l0"])
        both = (weights["bias_ih_l0"] + weights["bias_hh_l0"]) if spec.bias else x.new_zeros(4 * spec.hidden_size)
        own = {"_recurrent_kernel_": weights["weight_hh_l0"].T[None], "_bias_": both.float()}
        cell.train(torch.is_grad_enabled())  # it keeps the gates for a backward pass, or not
        first = torch.cat(state)
        y, last = torch.func.functional_call(cell, own, (projected, first))
        return y, (last[:1], last[1:])

    return torch_network.Network(spec, weights, batch, run, what_ran)


def what_ran(network: torch_network.Network) -> dict[str, str]:
    ours = any(KERNEL in name.lower() for name in network.names_run())
    return {"ran": "xlstm" if ours else f"no kernel named {KERNEL}", "input GEMM": "PyTorch's, inside the time"}
