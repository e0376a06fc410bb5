"""Products a multiprocessor issues a cycle: `mma` on 8 columns in several chains a warp; `wgmma` on 8, 16, 32 columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.gpu_check.items import Found, Part, assumption
from bench.gpu_check.occupancy import PLAN
from bench.gpu_check.station import DeviceContext
from impls.cuda import microbenchmarks
from impls.cuda.select import FLOPS_PER_CYCLE
from results.record import Measurement

WARPS, REPEATS, ROUNDS = 8, 5, 2048
PEAK_FLOPS = 4096  # a cycle and multiprocessor in 16 bits, the constant of the floors in docs/cuda.md


def parts(station: DeviceContext) -> Iterator[Part]:
    for storage in microbenchmarks.MULTIPLIED:
        share = storage.per_word / 2  # tf32 at half of the 16-bit rate
        for chains in microbenchmarks.CHAINS[: 1 if station.emulated else None]:
            name = "FLOPS_PER_CYCLE" + ("" if storage.per_word == 2 else ", tf32")
            assumed = assumption(name, PLAN, FLOPS_PER_CYCLE * share, "greatest")
            yield Part(f"mma-{storage.name.lower()}-{chains}", {"dtype": storage.name.lower(), "chains": chains} | assumed)
        for columns in microbenchmarks.GROUP_COLUMNS[: 1 if station.emulated else None] if station.target == "sm_90a" else ():
            name = f"wgmma, {columns} columns, {storage.name.lower()}"
            sizes: dict[str, Any] = {"dtype": storage.name.lower(), "columns": columns}
            yield Part(f"wgmma-{storage.name.lower()}-{columns}",
                       sizes | assumption(name, "docs/cuda.md", PEAK_FLOPS * share, "greatest"))  # fmt: skip


def measure(station: DeviceContext, key: str) -> Found:
    parameters = next(part.parameters for part in parts(station) if part.key == key)
    storage = next(storage for storage in microbenchmarks.MULTIPLIED if storage.name.lower() == parameters["dtype"])
    chains, columns = parameters.get("chains", 1), parameters.get("columns", 0)
    rounds, warps, repeats = (3, 4, 1) if station.emulated else (ROUNDS, WARPS, REPEATS)
    rates = tuple(microbenchmarks.multiply(station.bench, storage, warps, chains, rounds, columns) for _ in range(repeats))
    return Found((Measurement("products", "FLOP/cycle", rates),), station.provenance())
