"""This project's own CUDA kernels (impls/backends/_cuda, docs/cuda.md). Proved by emulation; not yet run on any GPU."""

from __future__ import annotations

import torch

from impls import Unavailable, refusals
from impls.backend import Phase
from impls.backends._cuda import driver
from impls.backends._cuda.network import Network
from impls.backends._cuda.plan import choose
from impls.backends._torch import multiply_in
from impls.batch import Batch, check_batch
from impls.params import Params, check_params
from impls.spec import Spec, require_recurrent

RUNS = ("cluster", "tensor_step", "step")
CELLS = ("lstm",)


def refuses(spec: Spec, phase: Phase, ragged: bool) -> str | None:
    return refusals.first(
        refusals.in_principle(spec, phase, ragged),
        refusals.cell(spec, *CELLS),
        refusals.projection(spec),
        refusals.device(spec, "cuda"),
        driver.missing(),
    )


def load(spec: Spec, params: Params, batch: Batch) -> Network:
    if reason := driver.missing():
        raise Unavailable(f"cuda: {reason}")
    check_params(spec, params)
    check_batch(spec, batch)
    plan = choose(
        spec.hidden_size, batch.batch, spec.num_directions, getattr(torch, spec.stored_dtype),
        torch.cuda.get_device_capability(), tf32=spec.dtype == "tensorfloat32",
    )  # fmt: skip
    multiply_in(spec)  # the GEMMs outside of the recurrence
    record = driver.record if plan.design != "cluster" else None
    return Network(require_recurrent(spec), params, batch, plan, driver.Driver(), torch.device("cuda"), record)
