"""What the kernels leave to be chosen: memory plans, one launch a streaming step, packed sequences; the pointwise part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from torch.nn.utils.rnn import pack_padded_sequence

from bench.gpu_check.items import Found, Part, assumption
from bench.gpu_check.occupancy import PLAN
from bench.gpu_check.station import DeviceContext
from bench.harness.case import Case
from bench.worker.prepare import Skip
from bench.worker.timing import CudaEventClock, WallClock, calls_per_sample
from impls import LSTMSpec
from impls.cuda.runtime import BFLOAT16, driver
from impls.cuda.select import FLOPS_PER_CYCLE, MEMORIES, POINTWISE_CYCLES, Memory, Plan, choose
from impls.cuda.select.configurations import Shape
from impls.cuda.torch import recurrence
from impls.cuda.torch.module import LSTM
from impls.cuda.torch.network import Network
from impls.cuda.torch.streaming import choose_stream
from results.record import Measurement

SAMPLES, STEPS = 20, 128
MEMORY_SIZES = ((256, 32), (512, 64), (768, 128))  # hidden, batch
STEP_SIZES = ((256, 1), (512, 1), (256, 8))
PACKED_SIZE = (512, 32)
POINTWISE_STEPS = 2048
EMULATED_SIZES = {"memory": ((16, 2),), "step": ((16, 1),)}

Calls = Mapping[str, Callable[[], object]]


def parts(station: DeviceContext) -> Iterator[Part]:
    sizes = EMULATED_SIZES if station.emulated else {"memory": MEMORY_SIZES, "step": STEP_SIZES}
    for what, pairs in sizes.items():
        for hidden, batch in pairs:
            yield Part(f"{what}-H{hidden}-B{batch}", {"what": what, "hidden_size": hidden, "batch": batch, "dtype": "bfloat16"})
    hidden, batch = (16, 2) if station.emulated else PACKED_SIZE
    yield Part(f"packed-H{hidden}-B{batch}", {"what": "packed", "hidden_size": hidden, "batch": batch, "dtype": "bfloat16"})
    if not station.target.startswith("sm_8"):
        yield Part("pointwise", {"what": "pointwise"} | assumption("POINTWISE_CYCLES", PLAN, POINTWISE_CYCLES, "greatest"))


def measure(station: DeviceContext, key: str) -> Found:
    part = next(part.parameters for part in parts(station) if part.key == key)
    if part["what"] == "pointwise":
        return Found((Measurement("pointwise", "cycle", _pointwise(station)),), station.provenance())
    calls = {"memory": _memory, "step": _step, "packed": _packed}[part["what"]](station, part["hidden_size"], part["batch"])
    seconds = _in_turns(station, calls)
    return Found(tuple(Measurement(f"time_{name}", "s", values) for name, values in seconds.items()), station.provenance())


def _in_turns(station: DeviceContext, calls: Calls) -> dict[str, tuple[float, ...]]:
    """Seconds a call, the contenders taking turns sample by sample."""
    make = WallClock if station.emulated else CudaEventClock
    clocks = {name: make(call, lambda: None) for name, call in calls.items()}  # type: ignore[arg-type]
    repeats = {name: 1 if station.emulated else calls_per_sample(clock) for name, clock in clocks.items()}
    samples: dict[str, list[float]] = {name: [] for name in clocks}
    for _ in range(1 if station.emulated else SAMPLES):
        for name, clock in clocks.items():
            samples[name].append(clock.sample(repeats[name]))
    return {name: tuple(values) for name, values in samples.items()}


def _case(station: DeviceContext, hidden: int, batch: int, phase: str, layers: int = 1) -> Case:
    device = "cpu" if station.emulated else "cuda"
    spec = LSTMSpec(hidden, hidden, num_layers=layers, dtype="bfloat16", device=device)
    steps = 1 if phase == "step" else 3 if station.emulated else STEPS
    return Case(spec, steps, batch, phase)  # type: ignore[arg-type]


def _network(station: DeviceContext, case: Case, memory: Memory = "saved", one_launch: bool = False) -> Network:
    params, batch = case.data()
    hidden, layers = case.spec.hidden_size, case.spec.num_layers
    capability = (9, 0) if station.emulated else torch.cuda.get_device_capability()
    plan = choose(hidden, case.batch, 1, torch.bfloat16, capability, memory=memory, resident=_resident(station))
    stream = None
    if one_launch:
        stream = choose_stream(torch.bfloat16, hidden, hidden, layers, case.batch, capability, resident=_resident(station))
    return Network(case.spec, params, batch, plan, station.bench.launcher, station.bench.device, stream)  # type: ignore[arg-type]


def _resident(station: DeviceContext):
    return None if station.emulated else driver.resident_clusters


def _memory(station: DeviceContext, hidden: int, batch: int) -> Calls:
    case = _case(station, hidden, batch, "forward_backward")
    return {memory: _training(station, _network(station, case, memory)) for memory in MEMORIES}


def _training(station: DeviceContext, network: Network) -> Callable[[], None]:
    """From a CUDA graph where a kernel is launched for every time step, which the host could not keep up with."""
    graphed = not station.emulated and network.plan.design != "cluster"
    return network.capture("forward_backward") if graphed else network.forward_backward


def _step(station: DeviceContext, hidden: int, batch: int) -> Calls:
    case = _case(station, hidden, batch, "step", layers=2)
    return {"one_launch": _network(station, case, one_launch=True).step, "by_layer": _network(station, case).step}


def _packed(station: DeviceContext, hidden: int, batch: int) -> Calls:
    """Half of the tokens are padding. The same module reads them padded and packed."""
    case = _case(station, hidden, batch, "forward")
    params, data = case.data()
    device = station.bench.device
    module = LSTM(hidden, hidden, dtype=torch.bfloat16, device=device)
    module.load_state_dict({name: torch.tensor(value, dtype=torch.bfloat16, device=device) for name, value in params.items()})
    x = torch.tensor(data.x, dtype=torch.bfloat16, device=device)
    lengths = torch.linspace(1, case.steps, case.batch).round().long()
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)

    @torch.no_grad()
    def call(given) -> None:
        module(given)

    return {"padded": lambda: call(x), "packed": lambda: call(packed)}


def _pointwise(station: DeviceContext) -> tuple[float, ...]:
    """Cycles of a step of the smallest cluster kernel, less those of its products: what gates and exchange with itself take."""
    shape = Shape(BFLOAT16, 64, 1)
    plan = Plan("cluster", torch.bfloat16, "saved", "asked for", shape, shape)
    steps = 4 if station.emulated else POINTWISE_STEPS
    generator = torch.Generator().manual_seed(0)
    draw = lambda *sizes: torch.randn(*sizes, generator=generator).to(station.bench.device)  # noqa: E731
    weights = recurrence.pack(plan, draw(1, 256, 64).bfloat16() / 8)
    projected, state = draw(1, 2 * steps, 8, 64, 4).bfloat16(), draw(1, 8, 64)
    lengths = torch.full((8,), 2 * steps, dtype=torch.int32, device=station.bench.device)

    whole = {"long": projected, "short": projected[:, :steps].contiguous()}

    def call(given: torch.Tensor) -> None:
        recurrence.forward(plan, station.bench.launcher, weights, given, state.bfloat16(), state, lengths)

    seconds = _in_turns(station, {name: partial(call, given) for name, given in whole.items()})
    hertz = 1e9 if station.emulated else torch.cuda.clock_rate() * 1e6
    products = 2 * 4 * 64 * 64 * shape.columns / FLOPS_PER_CYCLE
    if not station.emulated and min(seconds["long"]) <= min(seconds["short"]):
        raise Skip("not measured: twice the steps took no longer, so there is no time of a step to take apart")
    pairs = zip(seconds["long"], seconds["short"], strict=True)
    return tuple((long - short) / steps * hertz - products for long, short in pairs)
