"""(f) Every shipped configuration on this GPU against the float64 oracle: ragged lengths, initial states, every gradient."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bench import agreement
from bench.case import Case
from bench.gpu.items import Found, Part
from bench.gpu.station import Station
from impls import LSTMSpec
from impls.backends._cuda.network import Network
from impls.backends._cuda.plan import MEMORIES, SHIPPED, TENSOR_STEP_TILES, Memory, Plan
from results.record import Measurement

STEPS, BATCH = 5, 3
EMULATED = ("step-float32-saved", "cluster-bfloat16-H64-C1-N8,8-saved", "cluster-tensorfloat32-H64-C1-N8,8-saved")
DTYPES = {"Bfloat16": "bfloat16", "Float16": "float16", "Tensorfloat32": "tensorfloat32"}


def configurations(station: Station) -> Iterator[tuple[str, LSTMSpec, Plan]]:
    """The name of a configuration, a network that uses it, and the plan that runs it."""
    device = "cpu" if station.emulated else "cuda"
    for number, memory in enumerate(MEMORIES):
        for dtype in ("float32", "float64", "bfloat16", "float16"):
            yield f"step-{dtype}-{memory}", _network(19, dtype, device), _plan("step", dtype, memory)
        for dtype in DTYPES.values():
            for tiles in TENSOR_STEP_TILES:
                spec = _network(72, dtype, device)
                yield f"tensor_step-{dtype}-N{8 * tiles}-{memory}", spec, _plan("tensor_step", dtype, memory, tiles=tiles)
        if station.target.startswith("sm_8") or (station.emulated and number):
            continue
        for storage, rows in SHIPPED.items():
            for row in rows:
                forward, backward = row.forward(storage), row.backward(storage)
                # Unequal numbers of tiles: the last of the shorter list runs with each of the rest.
                for i in range(max(len(forward), len(backward))):
                    there, back = forward[min(i, len(forward) - 1)], backward[min(i, len(backward) - 1)]
                    key = (
                        f"cluster-{storage.name.lower()}-H{row.hidden}-C{row.cluster}-N{there.columns},{back.columns}-{memory}"
                    )
                    dtype = DTYPES[storage.name]
                    plan = _plan("cluster", dtype, memory, forward=there, backward=back)
                    yield key, _network(row.hidden, dtype, device), plan


def _network(hidden: int, dtype: str, device: str) -> LSTMSpec:
    return LSTMSpec(8, hidden, dtype=dtype, device=device)  # pyright: ignore[reportArgumentType]


def _plan(design: str, dtype: str, memory: Memory, **rest) -> Plan:
    stored = "float32" if dtype == "tensorfloat32" else dtype
    return Plan(design, getattr(torch, stored), memory, "asked for", **rest)  # pyright: ignore[reportArgumentType]


def parts(station: Station) -> Iterator[Part]:
    for key, spec, plan in configurations(station):
        if station.emulated and key not in EMULATED:
            continue
        yield Part(key, {"dtype": spec.dtype, "hidden_size": spec.hidden_size, "design": plan.design, "memory": plan.memory})


def measure(station: Station, key: str) -> Found:
    """The largest error of any array, as a share of what is allowed. Raises `Disagreement` where it is more than all."""
    spec, plan = next((spec, plan) for name, spec, plan in configurations(station) if name == key)
    case = Case(spec, STEPS, BATCH, "forward_backward", ragged=True, initial_state=True)
    params, batch = case.data()
    torch.backends.cuda.matmul.allow_tf32 = spec.dtype == "tensorfloat32"
    network = Network(spec, params, batch, plan, station.bench.launcher, station.bench.device)
    share = agreement.check_against(agreement.answer(network, case), case)
    return Found((Measurement("error_share", "of what is allowed", (share,)),), station.provenance() | {"plan": plan.words()})
