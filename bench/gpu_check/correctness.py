"""Every shipped configuration on this GPU against the float64 oracle: ragged lengths, initial states, every gradient,
both directions at once; and every cut of the streaming step, several tokens a launch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from bench.gpu_check.items import Found, Part
from bench.gpu_check.station import DeviceContext
from bench.harness.case import Case
from bench.worker import agreement
from impls import LSTMSpec
from impls.cuda.select import MEMORIES, SHIPPED, TENSOR_STEP_TILES, Memory, Plan
from impls.cuda.torch.network import Network
from impls.cuda.torch.streaming import CLUSTERS, COLUMNS, Stream
from results.record import Measurement

STEPS, BATCH = 5, 3
EMULATED = (
    "step-float32-saved", "tensor_step-bfloat16-N8-rebuilt", "cluster-bfloat16-H64-C1-N8,8-saved",
    "cluster-tensorfloat32-H64-C1-N8,8-saved", "cluster-bfloat16-H128-C2-N8,8-rebuilt", "tensor_step-bfloat16-both-saved",
    "stream-bfloat16-C8-N4",
)  # fmt: skip
DTYPES = {"Bfloat16": "bfloat16", "Float16": "float16", "Tensorfloat32": "tensorfloat32"}


def configurations(station: DeviceContext) -> Iterator[tuple[str, LSTMSpec, Plan]]:
    """The name of a configuration, a network that uses it, and the plan that runs it."""
    device = "cpu" if station.emulated else "cuda"
    for memory in MEMORIES:
        for dtype in ("float32", "float64", "bfloat16", "float16"):
            yield f"step-{dtype}-{memory}", _network(19, dtype, device), _plan("step", dtype, memory)
        for dtype in DTYPES.values():
            for tiles in TENSOR_STEP_TILES:
                spec = _network(72, dtype, device)
                yield f"tensor_step-{dtype}-N{8 * tiles}-{memory}", spec, _plan("tensor_step", dtype, memory, tiles=tiles)
        for design, dtype in (("step", "float32"), ("tensor_step", "bfloat16")):
            yield f"{design}-{dtype}-both-{memory}", _network(72, dtype, device, both=True), _plan(design, dtype, memory)
        if station.target.startswith("sm_8"):
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
                    if row is rows[-1] and i == 0:
                        yield f"{key}-both", _network(row.hidden, dtype, device, both=True), plan


def streams(station: DeviceContext) -> Iterator[tuple[str, Stream]]:
    """The name and the cut of every shipped way to stream a stack of two layers."""
    for dtype in ("float32", "bfloat16", "float16"):
        for cluster in CLUSTERS if not station.target.startswith("sm_8") else (1,):
            for columns in COLUMNS:
                yield f"stream-{dtype}-C{cluster}-N{columns}", Stream(getattr(torch, dtype), 8, 64, 2, cluster, columns)


def _network(hidden: int, dtype: str, device: str, both: bool = False, layers: int = 1) -> LSTMSpec:
    return LSTMSpec(8, hidden, layers, bidirectional=both, dtype=dtype, device=device)  # pyright: ignore[reportArgumentType]


def _plan(design: str, dtype: str, memory: Memory, **rest) -> Plan:
    stored = "float32" if dtype == "tensorfloat32" else dtype
    return Plan(design, getattr(torch, stored), memory, "asked for", **rest)  # pyright: ignore[reportArgumentType]


def parts(station: DeviceContext) -> Iterator[Part]:
    for key, spec, plan in configurations(station):
        if not station.emulated or key in EMULATED:
            yield Part(
                key, {"dtype": spec.dtype, "hidden_size": spec.hidden_size, "design": plan.design, "memory": plan.memory}
            )
    for key, cut in streams(station):
        if not station.emulated or key in EMULATED:
            sizes = {"dtype": str(cut.dtype).removeprefix("torch."), "hidden_size": cut.hidden, "design": "stream"}
            yield Part(key, sizes | {"cluster": cut.cluster, "columns": cut.columns})


def measure(station: DeviceContext, key: str) -> Found:
    """The largest error of any array, as a share of what is allowed. Raises `Disagreement` where it is more than all."""
    share, words = _streamed(station, key) if key.startswith("stream") else _trained(station, key)
    return Found((Measurement("error_share", "of what is allowed", (share,)),), station.provenance() | {"plan": words})


def _trained(station: DeviceContext, key: str) -> tuple[float, str]:
    spec, plan = next((spec, plan) for name, spec, plan in configurations(station) if name == key)
    case = Case(spec, STEPS, BATCH, "forward_backward", ragged=True, initial_state=True)
    params, batch = case.data()
    torch.backends.cuda.matmul.allow_tf32 = spec.dtype == "tensorfloat32"
    network = Network(spec, params, batch, plan, station.bench.launcher, station.bench.device)
    return agreement.check_against(agreement.answer(network, case), case), plan.words()


def _streamed(station: DeviceContext, key: str) -> tuple[float, str]:
    """All tokens in one launch."""
    cut = next(cut for name, cut in streams(station) if name == key)
    dtype = str(cut.dtype).removeprefix("torch.")
    device = "cpu" if station.emulated else "cuda"
    case = Case(_network(cut.hidden, dtype, device, layers=cut.layers), STEPS, BATCH, "step", initial_state=True)
    params, batch = case.data()

    def put(value: object) -> torch.Tensor:
        return torch.tensor(np.asarray(value), dtype=cut.dtype, device=station.bench.device)

    named = [
        {name.removesuffix(f"_l{i}"): v for name, v in params.items() if name.endswith(f"_l{i}")} for i in range(cut.layers)
    ]
    weights = cut.pack([(put(of["weight_ih"]), put(of["weight_hh"]), put(of["bias_ih"] + of["bias_hh"])) for of in named])
    h, c = put(batch.h0), put(batch.c0).float()
    y = cut.advance(station.bench.launcher, *weights, put(batch.x), h, c)
    found = {"outputs": y, "h_n": h, "c_n": c}
    answer = {name: value.double().cpu().numpy() for name, value in found.items()}
    return agreement.check_against(answer, case), cut.words()
