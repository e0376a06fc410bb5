"""Times and counts on this GPU that the kernels' cost model assumes, and what the kernels leave to be chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch.nn.utils.rnn import pack_padded_sequence

from bench.gpu_check.device import DeviceContext
from bench.gpu_check.groups import Check, CheckResult, Implementation, assumption
from bench.harness.case import Case
from bench.worker.prepare import NotMeasured
from bench.worker.timing import CudaEventClock, WallClock, calls_per_sample, interleaved
from impls import LSTMSpec
from impls.cuda import microbenchmarks
from impls.cuda.runtime import BFLOAT16, Kernel, driver
from impls.cuda.select import BACKWARD, FORWARD, MEMORIES, RESIDENT_CLUSTERS, Memory, Plan, choose
from impls.cuda.select.cluster import BackwardShape, ForwardShape
from impls.cuda.select.steps import SHARED_LIMIT, ExactSteps, TensorSteps
from impls.cuda.torch import recurrence
from impls.cuda.torch.module import LSTM
from impls.cuda.torch.network import Network
from impls.cuda.torch.stream import choose_stream
from results.record import Measurement

# Clusters resident at once, for every shipped persistent-cluster kernel, and with all shared memory taken.

PLAN, HERE = "impls/cuda/select/__init__.py", "bench/gpu_check/timings.py"
# What the kernels were designed for, of one SM: the rate of mma.sync, what distributed shared memory delivers a cycle, its
# latency, and the cycles of the pointwise part of a step. The model of their times rests on measured steps instead.
FLOPS_PER_CYCLE, INGRESS_BYTES, EXCHANGE_CYCLES, POINTWISE_CYCLES = 2560, 16, 260, 150


def cluster_kernels(context: DeviceContext) -> Iterator[tuple[Check, Kernel]]:
    for phase, shipped in (("forward", FORWARD), ("backward", BACKWARD)):
        for shape in (shape for shapes in shipped.values() for shape in shapes):
            dtype = shape.storage.name.lower()
            key = f"{dtype}-H{shape.hidden}-C{shape.cluster}-N{shape.columns}-{phase}"
            sizes = {"hidden_size": shape.hidden, "cluster": shape.cluster, "columns": shape.columns, "phase": phase}
            yield Check(key, {"dtype": dtype} | sizes | _assumed(shape.cluster)), shape.kernel()
    for cluster in microbenchmarks.CLUSTERS:
        kernel = microbenchmarks.ingress_kernel(cluster, (SHARED_LIMIT - 16) // (32 * cluster))
        yield Check(f"full-C{cluster}", {"cluster": cluster} | _assumed(cluster)), kernel


def _assumed(cluster: int) -> dict[str, object]:
    return assumption(f"RESIDENT_CLUSTERS[{cluster}]", PLAN, RESIDENT_CLUSTERS[cluster], "least")


def occupancy_checks(context: DeviceContext) -> Iterator[Check]:
    require_clusters(context)
    yield from (part for part, _ in cluster_kernels(context))


def require_clusters(context: DeviceContext) -> None:
    if not context.has_clusters:
        raise NotMeasured(f"thread-block clusters need compute capability 9.0, and this GPU is {context.target}")


def measure_occupancy(context: DeviceContext, key: str) -> CheckResult:
    kernel = next(kernel for check, kernel in cluster_kernels(context) if check.key == key)
    count = float(context.resident_clusters(kernel))
    return CheckResult((Measurement("resident_clusters", "clusters", (count,)),), context.provenance())


# `st.async` between the blocks of a cluster: latency to and fro, and what arrives when all send to all.

REPEATS = 5  # of a microbenchmark
TRIPS, SEND_STEPS = 1000, 1000


def send_checks(context: DeviceContext) -> Iterator[Check]:
    require_clusters(context)
    small, large = microbenchmarks.INGRESS_PAYLOADS
    for cluster in microbenchmarks.CLUSTERS[: 2 if context.emulated else None]:
        latency = assumption("EXCHANGE_CYCLES", HERE, EXCHANGE_CYCLES, "greatest")
        yield Check(f"latency-C{cluster}", {"cluster": cluster, "payload": 0} | latency)
        yield Check(f"ingress-C{cluster}-{small * 16}B", {"cluster": cluster, "payload": small // cluster})
        ingress = assumption("INGRESS_BYTES", HERE, INGRESS_BYTES, "least")
        yield Check(f"ingress-C{cluster}-{large * 16}B", {"cluster": cluster, "payload": large // cluster} | ingress)


def measure_sends(context: DeviceContext, key: str) -> CheckResult:
    chosen = next(check.parameters for check in send_checks(context) if check.key == key)
    cluster, payload = chosen["cluster"], chosen["payload"]
    bench = context.bench
    if not payload:
        trips = 4 if context.emulated else TRIPS
        cycles = tuple(microbenchmarks.latency(bench, cluster, trips) for _ in range(REPEATS))
        return CheckResult((Measurement("send_latency", "cycle", cycles),), context.provenance())
    steps, payload, threads = (4, 2, 64) if context.emulated else (SEND_STEPS, payload, microbenchmarks.INGRESS_THREADS)
    microbenchmarks.ingress(bench, cluster, payload, steps, check=True, threads=threads)
    cycles = [microbenchmarks.ingress(bench, cluster, payload, steps, check=False, threads=threads) for _ in range(REPEATS)]
    rates = tuple((cluster - 1) * payload * 16 / value for value in cycles)
    return CheckResult((Measurement("ingress", "B/cycle", rates),), context.provenance())


# What it costs that every block of a resident grid reads what all have written: three ways, for a persistent-grid kernel.

ASSUMED_CYCLES = 1900  # 1.08 µs at 1.755 GHz: the model of the grid-wide layout, which gives cuDNN's published time
PAYLOADS = (1, 8)  # 16-byte words a block: 8 are h of H = 1024, B = 8 in 16 bits over 128 blocks
EXCHANGE_STEPS = 1000


def exchange_checks(context: DeviceContext) -> Iterator[Check]:
    for way in microbenchmarks.WAYS:
        for payload in PAYLOADS[: 1 if context.emulated else None]:
            assumed = assumption(
                f"grid exchange by {way.lower()}, {payload} words", "docs/kernel-log.md", ASSUMED_CYCLES, "least"
            )
            yield Check(f"{way.lower()}-{payload * 16}B", {"way": way, "payload": payload} | assumed)


def measure_exchange(context: DeviceContext, key: str) -> CheckResult:
    way, payload = next((p.parameters["way"], p.parameters["payload"]) for p in exchange_checks(context) if p.key == key)
    steps, threads = (4, 32) if context.emulated else (EXCHANGE_STEPS, microbenchmarks.GRID_THREADS)
    cycles = [
        microbenchmarks.grid(context.bench, way, context.multiprocessors, payload, steps, threads)
        for _ in range(1 if context.emulated else REPEATS)
    ]
    blocks = {"blocks": str(context.multiprocessors)}
    return CheckResult((Measurement("grid_exchange", "cycle", tuple(cycles)),), context.provenance() | blocks)


# Products a multiprocessor issues a cycle: `mma` on 8 columns in several chains a warp; `wgmma` on 8, 16, 32 columns.

WARPS, ROUNDS = 8, 2048
PEAK_FLOPS = 4096  # a cycle and multiprocessor in 16 bits, the constant of the floors in docs/cuda.md


def product_checks(context: DeviceContext) -> Iterator[Check]:
    for storage in microbenchmarks.MULTIPLIED:
        share = storage.per_word / 2  # tf32 at half of the 16-bit rate
        for chains in microbenchmarks.CHAINS[: 1 if context.emulated else None]:
            name = "FLOPS_PER_CYCLE" + ("" if storage.per_word == 2 else ", tf32")
            assumed = assumption(name, HERE, FLOPS_PER_CYCLE * share, "greatest")
            yield Check(f"mma-{storage.name.lower()}-{chains}", {"dtype": storage.name.lower(), "chains": chains} | assumed)
        for columns in microbenchmarks.GROUP_COLUMNS[: 1 if context.emulated else None] if context.target == "sm_90a" else ():
            name = f"wgmma, {columns} columns, {storage.name.lower()}"
            sizes: dict[str, Any] = {"dtype": storage.name.lower(), "columns": columns}
            yield Check(f"wgmma-{storage.name.lower()}-{columns}",
                       sizes | assumption(name, "docs/cuda.md", PEAK_FLOPS * share, "greatest"))  # fmt: skip


def measure_products(context: DeviceContext, key: str) -> CheckResult:
    parameters = next(check.parameters for check in product_checks(context) if check.key == key)
    storage = next(storage for storage in microbenchmarks.MULTIPLIED if storage.name.lower() == parameters["dtype"])
    chains, columns = parameters.get("chains", 1), parameters.get("columns", 0)
    rounds, warps, repeats = (3, 4, 1) if context.emulated else (ROUNDS, WARPS, REPEATS)
    rates = tuple(microbenchmarks.multiply(context.bench, storage, warps, chains, rounds, columns) for _ in range(repeats))
    return CheckResult((Measurement("products", "FLOP/cycle", rates),), context.provenance())


# What the kernels leave to be chosen: memory plans, one launch a streaming step, packed sequences; the pointwise part.

SAMPLES, VARIANT_STEPS = 20, 128
MEMORY_SIZES = ((256, 32), (512, 64), (768, 128))  # hidden, batch
STEP_SIZES = ((256, 1), (512, 1), (256, 8))
PACKED_SIZE = (512, 32)
POINTWISE_STEPS = 2048
EMULATED_SIZES = {"memory": ((16, 2),), "step": ((16, 1),)}

Calls = Mapping[str, Callable[[], object]]


def variant_checks(context: DeviceContext) -> Iterator[Check]:
    sizes = EMULATED_SIZES if context.emulated else {"memory": MEMORY_SIZES, "step": STEP_SIZES}
    for what, pairs in sizes.items():
        for hidden, batch in pairs:
            yield Check(
                f"{what}-H{hidden}-B{batch}", {"what": what, "hidden_size": hidden, "batch": batch, "dtype": "bfloat16"}
            )
    hidden, batch = (16, 2) if context.emulated else PACKED_SIZE
    yield Check(f"packed-H{hidden}-B{batch}", {"what": "packed", "hidden_size": hidden, "batch": batch, "dtype": "bfloat16"})
    if context.has_clusters:
        yield Check("pointwise", {"what": "pointwise"} | assumption("POINTWISE_CYCLES", HERE, POINTWISE_CYCLES, "greatest"))


def measure_variant(context: DeviceContext, key: str) -> CheckResult:
    chosen = next(check.parameters for check in variant_checks(context) if check.key == key)
    if chosen["what"] == "pointwise":
        return CheckResult((Measurement("pointwise", "cycle", _pointwise(context)),), context.provenance())
    calls = {"memory": _memory, "step": _step, "packed": _packed}[chosen["what"]](
        context, chosen["hidden_size"], chosen["batch"]
    )
    seconds = sample_calls(context, calls)
    return CheckResult(
        tuple(Measurement(f"time_{name}", "s", values) for name, values in seconds.items()), context.provenance()
    )


def sample_calls(context: DeviceContext, calls: Calls) -> dict[str, tuple[float, ...]]:
    """Seconds a call of each, sampled in rounds; once under the emulation."""
    make = WallClock if context.emulated else CudaEventClock
    clocks = [make(call, lambda: None) for call in calls.values()]  # type: ignore[arg-type]
    repeats = [1 if context.emulated else calls_per_sample(clock) for clock in clocks]
    samples = interleaved(clocks, repeats, 1 if context.emulated else SAMPLES)
    return {name: tuple(values) for name, values in zip(calls, samples, strict=True)}


def _case(context: DeviceContext, hidden: int, batch: int, phase: str, layers: int = 1) -> Case:
    spec = LSTMSpec(hidden, hidden, num_layers=layers, dtype="bfloat16", device=context.device_name)
    steps = 1 if phase == "step" else 3 if context.emulated else VARIANT_STEPS
    return Case(spec, steps, batch, phase)  # type: ignore[arg-type]


def _network(context: DeviceContext, case: Case, memory: Memory = "saved", one_launch: bool = False) -> Network:
    params, batch = case.data()
    hidden, layers = case.spec.hidden_size, case.spec.num_layers
    capability = (9, 0) if context.emulated else torch.cuda.get_device_capability()
    plan = choose(hidden, case.batch, 1, torch.bfloat16, capability, memory=memory, resident=_resident(context))
    stream = None
    if one_launch:
        stream = choose_stream(torch.bfloat16, hidden, hidden, layers, case.batch, capability, resident=_resident(context))
    return Network(case.spec, params, batch, plan, context.bench.launcher, context.bench.device, stream=stream)  # type: ignore[arg-type]


def _resident(context: DeviceContext):
    return None if context.emulated else driver.resident_clusters


def _memory(context: DeviceContext, hidden: int, batch: int) -> Calls:
    case = _case(context, hidden, batch, "forward_backward")
    return {memory: _training(context, _network(context, case, memory)) for memory in MEMORIES}


def _training(context: DeviceContext, network: Network) -> Callable[[], None]:
    """From a CUDA graph where a kernel is launched for every time step, which the host could not keep up with."""
    graphed = not context.emulated and isinstance(network.plan.backward, ExactSteps | TensorSteps)
    return network.capture("forward_backward") if graphed else network.forward_backward


def _step(context: DeviceContext, hidden: int, batch: int) -> Calls:
    case = _case(context, hidden, batch, "step", layers=2)
    return {"one_launch": _network(context, case, one_launch=True).step, "by_layer": _network(context, case).step}


def _packed(context: DeviceContext, hidden: int, batch: int) -> Calls:
    """Half of the tokens are padding. The same module reads them padded and packed."""
    case = _case(context, hidden, batch, "forward")
    params, data = case.data()
    device = context.bench.device
    module = LSTM(hidden, hidden, dtype=torch.bfloat16, device=device)
    module.load_state_dict({name: torch.tensor(value, dtype=torch.bfloat16, device=device) for name, value in params.items()})
    x = torch.tensor(data.x, dtype=torch.bfloat16, device=device)
    lengths = torch.linspace(1, case.steps, case.batch).round().long()
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)

    @torch.no_grad()
    def call(given) -> None:
        module(given)

    return {"padded": lambda: call(x), "packed": lambda: call(packed)}


def _pointwise(context: DeviceContext) -> tuple[float, ...]:
    """Cycles of a step of the smallest cluster kernel, less those of its products: what gates and exchange with itself take."""
    sizes = {"storage": BFLOAT16, "hidden": 64, "cluster": 1}
    shape = ForwardShape(**sizes)
    plan = Plan(shape, BackwardShape(**sizes, warps=4), torch.bfloat16, "saved", "asked for")
    steps = 4 if context.emulated else POINTWISE_STEPS
    generator = torch.Generator().manual_seed(0)
    draw = lambda *sizes: torch.randn(*sizes, generator=generator).to(context.bench.device)  # noqa: E731
    weights = recurrence.pack(plan, context.bench.launcher, [draw(256, 64).bfloat16() / 8])
    projected, state = draw(2 * steps * 8, 256).bfloat16(), draw(1, 8, 64)
    states, whole = (state.bfloat16(), state), {"long": projected, "short": projected[: steps * 8].contiguous()}

    def call(given: torch.Tensor) -> None:
        recurrence.forward(plan, context.bench.launcher, weights, [given], states, steps=len(given) // 8, lengths=None)

    seconds = sample_calls(context, {name: partial(call, given) for name, given in whole.items()})
    hertz = 1e9 if context.emulated else torch.cuda.clock_rate() * 1e6
    products = 2 * 4 * 64 * 64 * shape.columns / FLOPS_PER_CYCLE
    if not context.emulated and min(seconds["long"]) <= min(seconds["short"]):
        raise NotMeasured("twice the steps took no longer, so there is no time of a step to take apart")
    pairs = zip(seconds["long"], seconds["short"], strict=True)
    return tuple((long - short) / steps * hertz - products for long, short in pairs)


IMPLEMENTATIONS = {
    "sends": Implementation(send_checks, measure_sends),
    "exchange": Implementation(exchange_checks, measure_exchange),
    "products": Implementation(product_checks, measure_products),
    "occupancy": Implementation(occupancy_checks, measure_occupancy),
    "variants": Implementation(variant_checks, measure_variant),
}
