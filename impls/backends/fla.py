"""flash-linear-attention (fla-org/flash-linear-attention), an optional baseline: a minLSTM's recurrence in one Triton kernel.

Its HGRN kernel computes h' = exp(g)·h + x, which is a minLSTM's with g = ln f/(f+i) and x = i/(f+i) times the candidate.
Read: release 0.6.0. Checked with that release's own `naive_recurrent_hgrn` on a CPU, and here with a stub of its signature; its
kernels have not run. How it is installed, and what it takes: docs/baselines.md.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from functools import partial

from torch import Tensor
from torch.nn import functional

from impls import Unavailable, refusals
from impls.batch import Batch
from impls.frameworks.torch import models as torch_models
from impls.frameworks.torch import network as torch_network
from impls.frameworks.torch.models import build
from impls.interface import Phase
from impls.params import Params
from impls.specs.recurrent import Spec
from impls.specs.residual import MinLSTMSpec

RUNS = ("hgrn",)
FRAMEWORK = ("torch",)
DEVICES = ("cuda",)
CELLS = ("minlstm",)
PACKAGE = "fla"
DISTRIBUTION = "fla-core[cuda]"
KERNEL = "fused_recurrent_hgrn"  # all of its kernels' names begin so
DTYPES = ("float32", "bfloat16", "float16", "tensorfloat32")
# x and g [B, T, H], the first state [B, H], whether the last is wanted; to the states [B, T, H] and the last.
Kernel = Callable[[Tensor, Tensor, Tensor, bool], tuple[Tensor, Tensor | None]]


def refuses(spec: Spec, phase: Phase, ragged: bool) -> str | None:
    return refusals.first(
        refusals.in_principle(spec, phase, ragged),
        refusals.cell(spec, *CELLS),
        refusals.dtype(spec, *DTYPES),
        refusals.device(spec, *DEVICES),
        _missing(),
        torch_network.no_cuda(spec),
    )


def _missing() -> str | None:
    if importlib.util.find_spec(PACKAGE) is None:
        return (
            f"flash-linear-attention is not installed; pip install '{DISTRIBUTION}', which has its kernels (or "
            "flash-linear-attention, which adds models and needs transformers); it needs Triton and a GPU"
        )
    return None


def load(spec: Spec, params: Params, batch: Batch) -> torch_network.Network:
    if reason := refusals.first(refusals.device(spec, *DEVICES), torch_network.no_cuda(spec), _missing()):
        raise Unavailable(reason)
    return network(spec, params, batch, importlib.import_module("fla.ops.hgrn").fused_recurrent_hgrn)


def network(spec: Spec, params: Params, batch: Batch, kernel: Kernel) -> torch_network.Network:
    assert isinstance(spec, MinLSTMSpec)
    torch_network.check(spec, params, batch)
    model = build(spec, params)
    for block in model.layers:
        assert isinstance(block, torch_models.MinLSTMBlock)
        block.states = partial(states, kernel)
    return torch_network.Network(spec, dict(model.named_parameters()), batch, model, what_ran)


def states(kernel: Kernel, forget: Tensor, write: Tensor, candidate: Tensor, h: Tensor) -> Tensor:
    """As `minlstm.states`."""
    keep = torch_models.kept(forget, write)
    x, g = (-keep).sigmoid() * candidate, functional.logsigmoid(keep)
    found, _ = kernel(x.transpose(0, 1).contiguous(), g.transpose(0, 1).contiguous(), h, False)
    return found.transpose(0, 1)


def what_ran(network: torch_network.Network) -> dict[str, str]:
    ours = any(name.startswith(KERNEL) for name in network.names_run())
    return {
        "ran": "hgrn" if ours else f"no kernel named {KERNEL}",
        "products": "PyTorch's, inside the time",
    }
