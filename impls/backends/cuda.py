"""This project's own CUDA kernels (impls/cuda, docs/cuda.md). Proved by emulation and, once, on an H100."""

from __future__ import annotations

import torch

from impls import Unavailable, refusals
from impls.batch import Batch, check_batch
from impls.cuda.runtime import Refused, driver
from impls.cuda.select import Design, Memory, Resident, choose
from impls.cuda.select.steps import SHARED_LIMIT
from impls.cuda.select.tuned import read
from impls.cuda.torch import network as torch_network
from impls.cuda.torch.network import Network
from impls.cuda.torch.stream import GridStream, Stream, choose_stream
from impls.frameworks.torch import network
from impls.frameworks.torch.network import multiply_in
from impls.interface import Phase
from impls.params import Params, check_params
from impls.specs.recurrent import LSTMStackSpec, Spec, require_recurrent

RUNS = ("cluster", "grid", "gemm_step", "tensor_step", "step", "stream")
FRAMEWORK = ("torch",)
DEVICES = ("cuda",)
CELLS = ("lstm", "lstm_stack")
LAUNCHES = ("eager", "graph")


def refuses(spec: Spec, phase: Phase, ragged: bool) -> str | None:
    return refusals.first(
        refusals.in_principle(spec, phase, ragged),
        refusals.cell(spec, *CELLS),
        refusals.device(spec, "cuda"),
        driver.missing(),
    )


def load(
    spec: Spec, params: Params, batch: Batch, *, design: Design = "auto", memory: Memory = "saved",
    wavefront: int = 0,
) -> Network | network.Network:  # fmt: skip
    """`design` and `memory` override the selector: a backend of one's own may pass them on; see docs/cuda.md.

    `wavefront`: steps of a chunk that stacked layers hand on at inference, each on a stream of its own; 0: layer after layer.
    """
    if reason := driver.missing():
        raise Unavailable(f"cuda: {reason}")
    if isinstance(spec, LSTMStackSpec):
        if wavefront:
            raise Refused("a wavefront is of stacked layers with nothing between them; ask for wavefront=0")
        return torch_network.load(spec, params, batch, design, memory)
    check_params(spec, params)
    check_batch(spec, batch)
    room = driver.room()
    capability, dtype = torch.cuda.get_device_capability(), getattr(torch, spec.stored_dtype)
    plan = choose(
        spec.hidden_size, batch.batch, spec.num_directions, dtype, capability,
        tf32=spec.dtype == "tensorfloat32", design=design, memory=memory, tuned=read(torch.cuda.get_device_name()), **room,
    )  # fmt: skip
    multiply_in(spec)  # the GEMMs outside of the recurrence
    stream = stream_of(spec, batch.batch, capability, **room) if design == "auto" else None
    return Network(
        require_recurrent(spec), params, batch, plan, driver.Driver(), torch.device("cuda"), stream=stream, wavefront=wavefront
    )


def stream_of(
    spec: Spec, batch: int, capability: tuple[int, int], resident: Resident | None = None, shared_limit: int = SHARED_LIMIT
) -> Stream | GridStream | None:
    """The cut with which one launch does a step, or None where there is none: then a step runs layer by layer, as planned."""
    if spec.bidirectional or getattr(spec, "proj_size", 0):
        return None
    try:
        dtype = getattr(torch, spec.stored_dtype)
        return choose_stream(
            dtype,
            spec.input_size,
            spec.hidden_size,
            spec.num_layers,
            batch,
            capability,
            resident=resident,
            shared_limit=shared_limit,
            tf32=spec.dtype == "tensorfloat32",
        )
    except Refused:
        return None
