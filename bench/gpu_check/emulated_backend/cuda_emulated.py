"""The backend `cuda` with its kernels run by the emulation on a CPU: right as the GPU's, and thousands of times slower.

Seen by `gpu-check --emulate` alone, which proves itself with it.
"""

from __future__ import annotations

import torch

from impls import refusals
from impls.batch import Batch, check_batch
from impls.cuda.emulator import Emulation
from impls.cuda.select import CLUSTER_CAPABILITY, choose
from impls.cuda.torch.network import Network
from impls.interface import Phase
from impls.params import Params, check_params
from impls.specs.recurrent import Spec, require_recurrent

RUNS = ("emulation",)
DEVICES = ("cpu",)


class Emulated(Network):
    def provenance(self) -> dict[str, str]:
        provenance = super().provenance()
        return provenance | {"ran": "emulation", "design": provenance["ran"], "emulated": "true"}


def refuses(spec: Spec, phase: Phase, ragged: bool) -> str | None:
    return refusals.first(
        refusals.in_principle(spec, phase, ragged),
        refusals.cell(spec, "lstm"),
        refusals.projection(spec),
        refusals.device(spec, *DEVICES),
    )


def load(spec: Spec, params: Params, batch: Batch) -> Network:
    check_params(spec, params)
    check_batch(spec, batch)
    dtype = getattr(torch, spec.stored_dtype)
    plan = choose(spec.hidden_size, batch.batch, spec.num_directions, dtype, CLUSTER_CAPABILITY)
    return Emulated(require_recurrent(spec), params, batch, plan, Emulation(), torch.device("cpu"))
