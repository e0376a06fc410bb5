"""`torch.nn.LSTM`, `GRU` and `RNN`: on the CPU oneDNN or ATen's own loop, whichever PyTorch takes; on CUDA ATen with cuDNN off.
The residual models: attention by the kernel that `scaled_dot_product_attention` chooses, linear recurrences by a parallel scan.

oneDNN takes an LSTM in float32 and bfloat16, and in float16 without gradients, unless it is packed or projects
(`use_mkldnn` in aten/src/ATen/native/RNN.cpp); everything else on the CPU is ATen.
"""

from __future__ import annotations

import functools

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
    return refusals.first(refusals.in_principle(spec, phase, ragged), torch_network.no_cuda(spec), no_bfloat16(spec))


def no_bfloat16(spec: Spec) -> str | None:
    """Why PyTorch cannot compute in bfloat16 on this CPU, or None; found by trying, once."""
    if spec.dtype != "bfloat16" or spec.device != "cpu" or not (reason := _bfloat16_fails()):
        return None
    return f"PyTorch computes no LSTM in bfloat16 on this CPU ({reason}); ask for dtype=float32"


@functools.cache
def _bfloat16_fails() -> str:
    try:
        with torch.inference_mode():
            torch.nn.LSTM(1, 1, dtype=torch.bfloat16)(torch.zeros(1, 1, 1, dtype=torch.bfloat16))
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    return ""


def bfloat16_instructions() -> str:
    """What this CPU has for bfloat16, as PyTorch sees it; without any, products are computed in float32 and rounded."""
    known = {"AMX": "_is_amx_tile_supported", "AVX512-BF16": "_is_avx512_bf16_supported"}
    found = [name for name, asked in known.items() if getattr(torch.cpu, asked, lambda: False)()]
    return "+".join(found) or "none known to PyTorch"


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
    narrow = network.spec.dtype == "bfloat16" and network.spec.device == "cpu"
    told = {"instructions for bfloat16": bfloat16_instructions()} if narrow else {}
    return {"ran": "+".join(sorted(ran)) or "aten"} | told
