"""What it costs that every block of a resident grid reads what all have written: three ways, for a persistent-grid kernel."""

from __future__ import annotations

from collections.abc import Iterator

from bench.gpu_check.items import Found, Part, assumption
from bench.gpu_check.station import DeviceContext
from impls.cuda import microbenchmarks
from results.record import Measurement

ASSUMED_CYCLES = 1900  # 1.08 µs at 1.755 GHz: the model of the grid-wide layout, which gives cuDNN's published time
PAYLOADS = (1, 8)  # 16-byte words a block: 8 are h of H = 1024, B = 8 in 16 bits over 128 blocks
REPEATS, STEPS = 5, 1000


def parts(station: DeviceContext) -> Iterator[Part]:
    for way in microbenchmarks.WAYS:
        for payload in PAYLOADS[: 1 if station.emulated else None]:
            assumed = assumption(
                f"grid exchange by {way.lower()}, {payload} words", "docs/kernel-log.md", ASSUMED_CYCLES, "least"
            )
            yield Part(f"{way.lower()}-{payload * 16}B", {"way": way, "payload": payload} | assumed)


def measure(station: DeviceContext, key: str) -> Found:
    way, payload = next((p.parameters["way"], p.parameters["payload"]) for p in parts(station) if p.key == key)
    steps, threads = (4, 32) if station.emulated else (STEPS, microbenchmarks.GRID_THREADS)
    cycles = [
        microbenchmarks.grid(station.bench, way, station.multiprocessors, payload, steps, threads)
        for _ in range(1 if station.emulated else REPEATS)
    ]
    blocks = {"blocks": str(station.multiprocessors)}
    return Found((Measurement("grid_exchange", "cycle", tuple(cycles)),), station.provenance() | blocks)
