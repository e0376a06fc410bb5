"""`torch.nn.LSTM` and `GRU` on the CPU, quantized dynamically to int8: weights once, activations at every step.

It computes float32 cases in int8: it is held to the tolerance of int8, shown with its error and ranked with no other backend.
`torch.ao.quantization` is deprecated in favour of torchao, whose `quantize_` knows linear layers and no recurrent ones (read in
torch 2.13.0).
"""

from __future__ import annotations

import importlib.util
import warnings

import torch

from impls import Unavailable, refusals
from impls.batch import Batch
from impls.frameworks.torch import network as torch_network
from impls.interface import Phase
from impls.params import Params
from impls.specs.recurrent import Spec, require_recurrent

RUNS = ("aten::quantized_lstm", "aten::quantized_gru")
FRAMEWORK = ("torch",)
DEVICES = ("cpu",)
CELLS = ("lstm", "gru")
DTYPES = ("float32",)
PRECISION = "int8"
ON_REQUEST = True
TRAINS_NOT = "a network quantized to int8 has no gradients; ask for forward or step"


def refuses(spec: Spec, phase: Phase, ragged: bool) -> str | None:
    return refusals.first(
        refusals.in_principle(spec, phase, ragged),
        refusals.cell(spec, *CELLS),
        TRAINS_NOT if phase == "forward_backward" else None,
        refusals.projection(spec),
        refusals.dtype(spec, *DTYPES),
        refusals.device(spec, *DEVICES),
        None if getattr(spec, "bias", True) else "PyTorch quantizes networks with a bias alone; ask for bias=True",
        no_quantization(),
    )


def no_quantization() -> str | None:
    """Why this PyTorch cannot quantize, or None."""
    if not importlib.util.find_spec("torch.ao.quantization"):
        return "this PyTorch has no torch.ao.quantization, which is deprecated; install 'torch<2.14', or use the backend torch"
    if torch.backends.quantized.engine == "none":
        return "this PyTorch was built without kernels for int8; install one with FBGEMM, oneDNN or QNNPACK"
    return None


def load(spec: Spec, params: Params, batch: Batch) -> torch_network.Network:
    if reason := refusals.first(refusals.device(spec, *DEVICES), no_quantization()):
        raise Unavailable(reason)
    torch_network.check(spec, params, batch)
    exact = torch_network.module(require_recurrent(spec), params)
    with warnings.catch_warnings():
        # That it is deprecated is said above.
        warnings.simplefilter("ignore")
        holder = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(exact), {type(exact)}, dtype=torch.qint8)
    return torch_network.Network(spec, {}, batch, torch_network.module_run(holder[0], batch), what_ran)


def what_ran(network: torch_network.Network) -> dict[str, str]:
    ran = sorted(set(network.names_run()) & set(RUNS))
    return {"ran": "+".join(ran) or "aten", "engine": torch.backends.quantized.engine}
