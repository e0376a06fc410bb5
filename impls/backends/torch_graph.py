"""The backend `torch` with its streaming step in a CUDA graph: every network, one launch a token. Never run.

Inside runs what `torch` runs on CUDA: ATen without cuDNN, the kernel of attention that PyTorch chooses, a scan of one step.
"""

from __future__ import annotations

from impls import Unavailable, refusals
from impls.backend import Phase
from impls.backends import _torch, _torch_graph, torch
from impls.batch import Batch
from impls.params import Params
from impls.spec import Spec

RUNS = _torch_graph.runs(torch.RUNS)
FRAMEWORK = ("torch",)
DEVICES = ("cuda",)
PHASES = ("step",)


def refuses(spec: Spec, phase: Phase, ragged: bool) -> str | None:
    return refusals.first(
        refusals.in_principle(spec, phase, ragged),
        _torch_graph.refuses_phase(phase),
        refusals.device(spec, *DEVICES),
        _torch.no_cuda(spec),
    )


def load(spec: Spec, params: Params, batch: Batch) -> _torch_graph.Replayed:
    if reason := refusals.first(refusals.device(spec, *DEVICES), _torch.no_cuda(spec)):
        raise Unavailable(reason)
    return _torch_graph.Replayed(torch.load(spec, params, batch))
