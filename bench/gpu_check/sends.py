"""`st.async` between the blocks of a cluster: latency to and fro, and what arrives when all send to all."""

from __future__ import annotations

from collections.abc import Iterator

from bench.gpu_check.items import Found, Part, assumption
from bench.gpu_check.occupancy import PLAN, require_clusters
from bench.gpu_check.station import DeviceContext
from impls.cuda import microbenchmarks
from impls.cuda.select import EXCHANGE_CYCLES, INGRESS_BYTES
from results.record import Measurement

REPEATS, TRIPS, STEPS = 5, 1000, 1000


def parts(station: DeviceContext) -> Iterator[Part]:
    require_clusters(station)
    small, large = microbenchmarks.INGRESS_PAYLOADS
    for cluster in microbenchmarks.CLUSTERS[: 2 if station.emulated else None]:
        latency = assumption("EXCHANGE_CYCLES", PLAN, EXCHANGE_CYCLES, "greatest")
        yield Part(f"latency-C{cluster}", {"cluster": cluster, "payload": 0} | latency)
        yield Part(f"ingress-C{cluster}-{small * 16}B", {"cluster": cluster, "payload": small // cluster})
        ingress = assumption("INGRESS_BYTES", PLAN, INGRESS_BYTES, "least")
        yield Part(f"ingress-C{cluster}-{large * 16}B", {"cluster": cluster, "payload": large // cluster} | ingress)


def measure(station: DeviceContext, key: str) -> Found:
    part = next(part for part in parts(station) if part.key == key)
    cluster, payload = part.parameters["cluster"], part.parameters["payload"]
    bench = station.bench
    if not payload:
        trips = 4 if station.emulated else TRIPS
        cycles = tuple(microbenchmarks.latency(bench, cluster, trips) for _ in range(REPEATS))
        return Found((Measurement("send_latency", "cycle", cycles),), station.provenance())
    steps, payload, threads = (4, 2, 64) if station.emulated else (STEPS, payload, microbenchmarks.INGRESS_THREADS)
    microbenchmarks.ingress(bench, cluster, payload, steps, check=True, threads=threads)
    cycles = [microbenchmarks.ingress(bench, cluster, payload, steps, check=False, threads=threads) for _ in range(REPEATS)]
    rates = tuple((cluster - 1) * payload * 16 / value for value in cycles)
    return Found((Measurement("ingress", "B/cycle", rates),), station.provenance())
