"""`torch.nn.LSTM`, `GRU` and `RNN` on cuDNN, which PyTorch calls with an algorithm it chooses by shape and dtype.

Persistent kernels keep W_hh on the chip: PERSIST_STATIC_SMALL_H for small H, PERSIST_STATIC for float16 with one layer, one
direction, H ≤ 1024, H and I multiples of 128, B a multiple of 8 up to 128. Everything else, and all that is packed or
projects, is STANDARD: a product and an elementwise kernel a step (`get_algo` in aten/src/ATen/native/cudnn/RNN.cpp).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from torch import Tensor

from impls import Unavailable, Unsupported, refusals
from impls.batch import Batch
from impls.frameworks.torch import network as torch_network
from impls.frameworks.torch import residual
from impls.interface import Phase
from impls.params import Params
from impls.specs.recurrent import LSTMStackSpec, Spec

RUNS = ("cudnn",)
FRAMEWORK = ("torch",)
DEVICES = ("cuda",)
CELLS = ("lstm", "gru", "rnn", "lstm_stack")
LAUNCHES = ("eager", "graph")
OPERATOR = "aten::_cudnn_rnn"
# Seen in published profiles: RNN_blockPersist_fp_LSTM_HMMA against LSTM_elementWise_fp and elemWiseRNNcell.
ALGORITHMS = {"persistent": r"rnn\w*persist|persist\w*rnn", "standard": r"(lstm|gru|rnn)_elementwise|elemwisernncell"}
BFLOAT16_SINCE = 91300  # cuDNN 9.13, pytorch/pytorch#164411
# Steps: 65 535 run and 65 536 end in CUDNN_STATUS_NOT_SUPPORTED (pytorch/pytorch#133751).
LONGEST = 65_535


def refuses(spec: Spec, phase: Phase, ragged: bool) -> str | None:
    return refusals.first(
        refusals.in_principle(spec, phase, ragged),
        refusals.cell(spec, *CELLS),
        refusals.device(spec, *DEVICES),
        torch_network.no_cuda(spec),
        _no_cudnn(spec),
    )


def _no_cudnn(spec: Spec) -> str | None:
    version = torch.backends.cudnn.version() or 0
    if not version:
        return "this PyTorch has no cuDNN; install one built with it"
    if spec.dtype == "bfloat16" and version < BFLOAT16_SINCE:
        return f"cuDNN {version} has no bfloat16 LSTM; install cuDNN 9.13 or newer, or ask for float16"
    return None


def load(spec: Spec, params: Params, batch: Batch) -> torch_network.Network:
    if reason := refusals.first(refusals.device(spec, *DEVICES), torch_network.no_cuda(spec), _no_cudnn(spec)):
        raise Unavailable(reason)
    torch_network.check(spec, params, batch)
    if isinstance(spec, LSTMStackSpec):
        network = residual.load(spec, params, batch, switch_cudnn_on)
        network.run = within_limit(network.run)
        return network
    network = torch_network.module(spec, params)
    run = within_limit(torch_network.module_run(network, batch))
    weights = dict(network.named_parameters())
    return torch_network.Network(
        spec, weights, batch, run, what_ran, set_flags=switch_cudnn_on, no_graph=torch_network.no_graph(batch)
    )


def within_limit(run: torch_network.Run) -> torch_network.Run:
    """Raises `Unsupported` for a sequence that is too long for cuDNN. A stream may be as long as it likes."""

    def checked(x: Tensor, state: torch_network.State) -> tuple[Tensor, torch_network.State]:
        if len(x) > LONGEST:
            raise Unsupported(
                f"unsupported: cuDNN runs sequences of at most {LONGEST} steps; got {len(x)} (pytorch/pytorch#133751); ask for "
                f"steps<={LONGEST}, or use the backends cuda or torch"
            )
        return run(x, state)

    return checked


def switch_cudnn_on() -> None:
    torch.backends.cudnn.enabled = True


def what_ran(network: torch_network.Network) -> dict[str, str]:
    names = network.names_run()
    version = str(torch.backends.cudnn.version())
    return {"ran": "cudnn" if OPERATOR in names else "aten", "algorithm": algorithm(names), "cudnn": version}


def algorithm(names: Iterable[str]) -> str:
    """Which of cuDNN's algorithms left these kernel names; forward and backward may differ, and are then joined by +."""
    seen = sorted({name for name in names if not name.startswith(("aten::", "cuda"))})
    found = [name for name, pattern in ALGORITHMS.items() if any(re.search(pattern, kernel, re.IGNORECASE) for kernel in seen)]
    return "+".join(found) or f"unrecognised among {', '.join(seen)}"
