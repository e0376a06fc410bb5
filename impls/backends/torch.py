"""`torch.nn.LSTM`, `GRU` and `RNN`: on the CPU oneDNN or ATen's own loop, whichever PyTorch takes; on CUDA ATen with cuDNN off.
The residual models: attention by the kernel that `scaled_dot_product_attention` chooses, linear recurrences by a parallel scan.

oneDNN takes an LSTM in float32 and bfloat16, and in float16 without gradients, unless it is packed or projects
(`use_mkldnn` in aten/src/ATen/native/RNN.cpp); everything else on the CPU is ATen.
"""

from __future__ import annotations

import torch

from impls import refusals
from impls.batch import Batch
from impls.frameworks.torch import network as torch_network
from impls.frameworks.torch import residual
from impls.interface import Phase
from impls.params import Params
from impls.specs.recurrent import Recurrent, Spec

RUNS = ("onednn", "aten", residual.SCAN, *residual.ATTENTION)
FRAMEWORK = ("torch",)
LAUNCHES = ("eager", "graph")
TELLTALES = {"aten::mkldnn_rnn_layer": "onednn", "aten::_cudnn_rnn": "cudnn", "aten::miopen_rnn": "miopen"}


def refuses(spec: Spec, phase: Phase, ragged: bool) -> str | None:
    return refusals.first(refusals.in_principle(spec, phase, ragged), torch_network.no_cuda(spec))


def load(spec: Spec, params: Params, batch: Batch) -> torch_network.Network:
    set_flags = switch_cudnn_off if spec.device == "cuda" else None
    if not isinstance(spec, Recurrent):
        return residual.load(spec, params, batch, set_flags)
    torch_network.check(spec, params, batch)
    network = torch_network.module(spec, params)
    run = torch_network.module_run(network, batch)
    return torch_network.Network(
        spec,
        dict(network.named_parameters()),
        batch,
        run,
        what_ran,
        set_flags=set_flags,
        no_graph=torch_network.no_graph(batch),
    )


def switch_cudnn_off() -> None:
    torch.backends.cudnn.enabled = False


def what_ran(network: torch_network.Network) -> dict[str, str]:
    ran = {TELLTALES[name] for name in network.names_run() if name in TELLTALES}
    return {"ran": "+".join(sorted(ran)) or "aten"}
