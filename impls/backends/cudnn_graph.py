"""The backend `cudnn` with its streaming step in a CUDA graph: cuDNN's kernels, one launch a token. Never run."""

from __future__ import annotations

from impls import refusals
from impls.backend import Phase
from impls.backends import _torch_graph, cudnn
from impls.batch import Batch
from impls.params import Params
from impls.spec import Spec

RUNS = _torch_graph.runs(cudnn.RUNS)
FRAMEWORK = ("torch",)
DEVICES = ("cuda",)
CELLS = ("lstm", "gru", "rnn", "lstm_stack")
PHASES = ("step",)


def refuses(spec: Spec, phase: Phase, ragged: bool) -> str | None:
    return refusals.first(
        refusals.in_principle(spec, phase, ragged), _torch_graph.refuses_phase(phase), cudnn.refuses(spec, phase, ragged)
    )


def load(spec: Spec, params: Params, batch: Batch) -> _torch_graph.Replayed:
    return _torch_graph.Replayed(cudnn.load(spec, params, batch))
