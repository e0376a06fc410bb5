"""Clusters resident at once, for every shipped persistent-cluster kernel, and with all shared memory taken."""

from __future__ import annotations

from collections.abc import Iterator

from bench.gpu_check.items import Found, Part, assumption
from bench.gpu_check.station import DeviceContext
from bench.worker.prepare import Skip
from impls.cuda import microbenchmarks
from impls.cuda.runtime import Kernel
from impls.cuda.select import RESIDENT_CLUSTERS, SHIPPED
from impls.cuda.select.configurations import SHARED_LIMIT
from results.record import Measurement

PLAN = "impls/cuda/select/__init__.py"


def configurations(station: DeviceContext) -> Iterator[tuple[Part, Kernel]]:
    for storage, rows in SHIPPED.items():
        for row in rows:
            kernels = [("forward", s, s.forward_kernel()) for s in row.forward(storage)]
            kernels += [("backward", s, s.backward_kernel()) for s in row.backward(storage)]
            for phase, shape, kernel in kernels:
                key = f"{storage.name.lower()}-H{shape.hidden}-C{shape.cluster}-N{shape.columns}-{phase}"
                sizes = {"hidden_size": shape.hidden, "cluster": shape.cluster, "columns": shape.columns, "phase": phase}
                yield Part(key, {"dtype": storage.name.lower()} | sizes | _assumed(shape.cluster)), kernel
    for cluster in microbenchmarks.CLUSTERS:
        kernel = microbenchmarks.ingress_kernel(cluster, (SHARED_LIMIT - 16) // (32 * cluster))
        yield Part(f"full-C{cluster}", {"cluster": cluster} | _assumed(cluster)), kernel


def _assumed(cluster: int) -> dict[str, object]:
    return assumption(f"RESIDENT_CLUSTERS[{cluster}]", PLAN, RESIDENT_CLUSTERS[cluster], "least")


def parts(station: DeviceContext) -> Iterator[Part]:
    require_clusters(station)
    yield from (part for part, _ in configurations(station))


def require_clusters(station: DeviceContext) -> None:
    if station.target.startswith("sm_8"):
        raise Skip(f"not measured: thread-block clusters need compute capability 9.0, and this GPU is {station.target}")


def measure(station: DeviceContext, key: str) -> Found:
    kernel = next(kernel for part, kernel in configurations(station) if part.key == key)
    count = float(station.resident_clusters(kernel))
    return Found((Measurement("resident_clusters", "clusters", (count,)),), station.provenance())
