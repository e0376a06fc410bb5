"""Outputs and gradients on this GPU against the float64 reference: shipped kernel configurations and the PyTorch module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from bench.gpu_check.device import DeviceContext
from bench.gpu_check.groups import Check, CheckResult, Implementation
from bench.harness.case import Case
from bench.worker import agreement
from bench.worker.prepare import NotMeasured
from impls import LSTMSpec
from impls.batch import filled
from impls.cuda.runtime import BFLOAT16
from impls.cuda.runtime.driver import resident_clusters
from impls.cuda.select import BACKWARD, FORWARD, MEMORIES, TENSOR_STEP_TILES, Backward, Forward, Memory, Plan
from impls.cuda.select.grid import GRID, GRID_BACKWARD, GridShape
from impls.cuda.select.steps import ExactSteps, GemmSteps, TensorSteps
from impls.cuda.torch.module import LSTM
from impls.cuda.torch.network import Network
from impls.cuda.torch.stream import CLUSTERS, COLUMNS, GRID_STORAGE, GRID_UNITS, GridStream, Stream
from impls.specs.recurrent import require_recurrent
from results.record import Measurement

# Every shipped configuration on this GPU against the float64 reference: ragged lengths, initial states, every gradient,
# both directions at once; stacked layers as wavefronts; and every cut of the streaming step, several tokens a launch.

STEPS, BATCH = 5, 3
GEMMS = GemmSteps(BFLOAT16, 2, 2 * BATCH)  # in two parts, the input product by chunks of two steps
EMULATED = (
    "step-float32-saved", "tensor_step-bfloat16-N8-rebuilt", "cluster-bfloat16-H64-C1-N8,8-saved",
    "cluster-tensorfloat32-H64-C1-N8,8-saved", "cluster-bfloat16-H128-C2-N8,8-rebuilt", "tensor_step-bfloat16-both-saved",
    "gemm_step-bfloat16-P2-saved", "wavefront-gemm_step-bfloat16", "stream-bfloat16-C8-N4", "stream-bfloat16-U4",
)  # fmt: skip
DTYPES = {"Bfloat16": "bfloat16", "Float16": "float16", "Tensorfloat32": "tensorfloat32"}


def configurations(context: DeviceContext) -> Iterator[tuple[str, LSTMSpec, Plan]]:
    """The name of a configuration, a network that uses it, and the plan that runs it."""
    device = context.device_name
    for memory in MEMORIES:
        for dtype in ("float32", "float64", "bfloat16", "float16"):
            yield f"step-{dtype}-{memory}", _network(19, dtype, device), _plan(dtype, memory, ExactSteps(getattr(torch, dtype)))
        for storage in FORWARD:
            dtype = DTYPES[storage.name]
            for tiles in TENSOR_STEP_TILES:
                plan = _plan(dtype, memory, TensorSteps(storage, tiles))
                yield f"tensor_step-{dtype}-N{8 * tiles}-{memory}", _network(72, dtype, device), plan
            for parts in (1, 2):  # the input product by chunks of two steps
                plan = _plan(dtype, memory, GemmSteps(storage, parts, 2 * BATCH))
                yield f"gemm_step-{dtype}-P{parts}-{memory}", _network(72, dtype, device), plan
        pairs = (
            (ExactSteps(torch.float32), "float32"),
            (TensorSteps(BFLOAT16, 1), "bfloat16"),
            (GemmSteps(BFLOAT16), "bfloat16"),
        )
        for steps, dtype in pairs:
            key = f"{steps.design}-{dtype}-both-{memory}"
            yield key, _network(72, dtype, device, both=True), _plan(dtype, memory, steps)
        yield from _grids(device, memory)
        if not context.has_clusters:
            continue
        for storage, shapes in FORWARD.items():
            dtype, largest = DTYPES[storage.name], shapes[-1].hidden
            for hidden in sorted({shape.hidden for shape in shapes}):
                forward = [shape for shape in shapes if shape.hidden == hidden]
                least = min(shape.hidden for shape in BACKWARD[storage] if shape.hidden >= hidden)
                backward = [shape for shape in BACKWARD[storage] if shape.hidden == least]
                # Unequal numbers of them: the last of the shorter list runs with each of the rest.
                for i in range(max(len(forward), len(backward))):
                    there, back = forward[min(i, len(forward) - 1)], backward[min(i, len(backward) - 1)]
                    cuts = f"C{there.cluster},{back.cluster}-N{there.columns},{back.columns}"
                    key = f"cluster-{storage.name.lower()}-H{hidden}-{cuts}-{memory}"
                    plan = _plan(dtype, memory, there, back)
                    yield key, _network(hidden, dtype, device), plan
                    if hidden == largest and i == 0:
                        yield f"{key}-both", _network(hidden, dtype, device, both=True), plan


def _grids(device: str, memory: Memory) -> Iterator[tuple[str, LSTMSpec, Plan]]:
    """Every cut of the persistent-grid kernels with saved gates; rebuilt, and in two directions, the first of each dtype."""
    for storage, shapes in GRID.items():
        dtype = DTYPES[storage.name]
        for i, there in enumerate(shapes):
            backward = [shape for shape in GRID_BACKWARD[storage] if shape.hidden >= there.hidden]
            backward = [shape for shape in backward if shape.hidden == backward[0].hidden]
            back = backward[i % len(backward)] if backward else None
            cuts = f"U{there.units}-N{8 * there.tiles}-P{there.phases}-{8 * back.tiles if back else 'step'}"
            plan = _plan(dtype, memory, there, back or TensorSteps(storage, 1))
            key = f"grid-{storage.name.lower()}-H{there.hidden}-{cuts}-{memory}"
            if memory == "saved" or i == 0:
                yield key, _network(there.hidden, dtype, device), plan
            if i == 0:
                yield f"{key}-both", _network(there.hidden - 3, dtype, device, both=True), replace(plan, apart=True)


def _lacking(plan: Plan, hidden: int) -> str | None:
    """Why this GPU cannot run the plan's persistent-grid kernels."""
    for shape in (plan.forward, plan.backward):
        if isinstance(shape, GridShape) and (room := resident_clusters(shape.kernel())) < shape.blocks(hidden):
            return f"{shape.words()} needs {shape.blocks(hidden)} blocks at once, and this GPU holds {room}"
    return None


def streams(context: DeviceContext) -> Iterator[tuple[str, Stream | GridStream]]:
    """The name and the cut of every shipped way to stream a stack of two layers; over all multiprocessors also one whose
    weights pass through little shared memory."""
    for dtype in ("float32", "bfloat16", "float16"):
        for cluster in CLUSTERS if context.has_clusters else (1,):
            for columns in COLUMNS:
                yield f"stream-{dtype}-C{cluster}-N{columns}", Stream(getattr(torch, dtype), 8, 64, 2, cluster, columns)
    for dtype, storage in GRID_STORAGE.items():
        for units in GRID_UNITS:
            cut = GridStream(dtype, 8, 64, 2, units, tf32=dtype == torch.float32)
            yield f"stream-{DTYPES[storage.name]}-U{units}", cut
        narrow = GridStream(dtype, 8, 511, 2, GRID_UNITS[1], shared_limit=64 << 10, tf32=dtype == torch.float32)
        yield f"stream-{DTYPES[storage.name]}-U{narrow.units}-ring", narrow


def _dtype_of(cut: Stream | GridStream) -> str:
    return DTYPES[cut.storage.name] if isinstance(cut, GridStream) else str(cut.dtype).removeprefix("torch.")


def waves(device: str) -> Iterator[tuple[str, LSTMSpec, Plan]]:
    """Stacked layers as wavefronts of two steps: the name, the network and its plan."""
    steps, gemms = (Plan(shape, shape, torch.bfloat16, "saved", "asked for") for shape in (TensorSteps(BFLOAT16, 1), GEMMS))
    yield "wavefront-tensor_step-bfloat16", _network(72, "bfloat16", device, layers=3), steps
    yield "wavefront-gemm_step-bfloat16", _network(72, "bfloat16", device, layers=3), gemms
    forward, backward = FORWARD[BFLOAT16][0], BACKWARD[BFLOAT16][0]
    clusters = Plan(forward, backward, torch.bfloat16, "saved", "asked for")
    yield "wavefront-cluster-bfloat16", _network(forward.hidden, "bfloat16", device, layers=3), clusters


def _network(hidden: int, dtype: str, device: str, both: bool = False, layers: int = 1) -> LSTMSpec:
    return LSTMSpec(8, hidden, layers, bidirectional=both, dtype=dtype, device=device)  # pyright: ignore[reportArgumentType]


def _plan(dtype: str, memory: Memory, forward: Forward, backward: Backward | None = None) -> Plan:
    """Without a backward configuration, per-step kernels both ways."""
    stored = "float32" if dtype == "tensorfloat32" else dtype
    if backward is None:
        assert isinstance(forward, ExactSteps | TensorSteps | GemmSteps)
        backward = forward
    return Plan(forward, backward, getattr(torch, stored), memory, "asked for")


def kernel_checks(context: DeviceContext) -> Iterator[Check]:
    for key, spec, plan in configurations(context):
        if not context.emulated or key in EMULATED:
            yield Check(
                key, {"dtype": spec.dtype, "hidden_size": spec.hidden_size, "design": plan.design, "memory": plan.memory}
            )
    for key, spec, plan in waves(context.device_name):
        if (context.has_clusters or plan.design != "cluster") and (not context.emulated or key in EMULATED):
            yield Check(key, {"dtype": spec.dtype, "hidden_size": spec.hidden_size, "design": plan.design})
    for key, cut in streams(context):
        if not context.emulated or key in EMULATED:
            sizes = {"dtype": _dtype_of(cut), "hidden_size": cut.hidden, "design": "stream"}
            own = {"units": cut.units} if isinstance(cut, GridStream) else {"cluster": cut.cluster, "columns": cut.columns}
            yield Check(key, sizes | own)


def measure_kernel(context: DeviceContext, key: str) -> CheckResult:
    """The largest error of any array, as a share of what is allowed. Raises `Disagreement` where it is more than all."""
    of = {"stream": _streamed, "wavefront": _waved}.get(key.partition("-")[0], _trained)
    share, words = of(context, key)
    return CheckResult((Measurement("error_share", "of what is allowed", (share,)),), context.provenance() | {"plan": words})


def _trained(context: DeviceContext, key: str) -> tuple[float, str]:
    spec, plan = next((spec, plan) for name, spec, plan in configurations(context) if name == key)
    case = Case(spec, STEPS, BATCH, "forward_backward", ragged=True, initial_state=True)
    if not context.emulated and (lacking := _lacking(plan, spec.hidden_size)):
        raise NotMeasured(lacking)
    params, batch = case.data()
    torch.backends.cuda.matmul.allow_tf32 = spec.dtype == "tensorfloat32"
    network = Network(spec, params, batch, plan, context.bench.launcher, context.bench.device)
    return agreement.check_against(agreement.answer(network, case), case), plan.words()


def _waved(context: DeviceContext, key: str) -> tuple[float, str]:
    spec, plan = next((spec, plan) for name, spec, plan in waves(context.device_name) if name == key)
    case = Case(spec, STEPS, BATCH, "forward", ragged=True, initial_state=True)
    network = Network(spec, *case.data(), plan, context.bench.launcher, context.bench.device, wavefront=2)
    return agreement.check_against(agreement.answer(network, case), case), network.provenance()["plan"]


def _streamed(context: DeviceContext, key: str) -> tuple[float, str]:
    """All tokens in one launch."""
    cut = next(cut for name, cut in streams(context) if name == key)
    dtype, device = _dtype_of(cut), context.device_name
    if isinstance(cut, GridStream) and not context.emulated and (room := resident_clusters(cut.kernel())) < cut.blocks:
        raise NotMeasured(f"{cut.words()}: all blocks have to be resident at once, and this GPU holds {room}")
    case = Case(_network(cut.hidden, dtype, device, layers=cut.layers), STEPS, BATCH, "step", initial_state=True)
    params, batch = case.data()

    def put(value: object) -> torch.Tensor:
        return torch.tensor(np.asarray(value), dtype=cut.dtype, device=context.bench.device)

    named = [
        {name.removesuffix(f"_l{i}"): v for name, v in params.items() if name.endswith(f"_l{i}")} for i in range(cut.layers)
    ]
    weights = cut.pack([(put(of["weight_ih"]), put(of["weight_hh"]), put(of["bias_ih"] + of["bias_hh"])) for of in named])
    h, c = put(batch.h0), put(batch.c0).float()
    y = cut.advance(context.bench.launcher, weights, put(batch.x), h, c)
    found = {"outputs": y, "h_n": h, "c_n": c}
    answer = {name: value.double().cpu().numpy() for name, value in found.items()}
    return agreement.check_against(answer, case), cut.words()


# The PyTorch module as its users call it, against float64: eager, compiled, packed, on a stream of its own, in a graph.

MODULE_DTYPES = ("bfloat16", "float32")
WAYS = ("eager", "compiled", "packed", "side_stream", "captured")
OF_A_GPU = ("side_stream", "captured")
WARM_UP_CALLS = 3  # on a side stream before a capture, as PyTorch's notes on CUDA graphs ask

State = tuple[Tensor, Tensor]
Call = Callable[[Tensor, State], tuple[Tensor, State]]


def module_checks(context: DeviceContext) -> Iterator[Check]:
    for dtype in MODULE_DTYPES[: 1 if context.emulated else None]:
        for way in WAYS:
            yield Check(f"{way}-{dtype}", {"way": way, "dtype": dtype})


def measure_module(context: DeviceContext, key: str) -> CheckResult:
    """The largest error of outputs, states or gradients, as a share of what is allowed."""
    chosen = next(check.parameters for check in module_checks(context) if check.key == key)
    way, dtype = chosen["way"], chosen["dtype"]
    if context.emulated and way in OF_A_GPU:
        raise NotMeasured("streams and CUDA graphs are a GPU's")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    spec = LSTMSpec(8, 72, 2, bidirectional=True, dtype=dtype, device=context.device_name)  # pyright: ignore[reportArgumentType]
    case = Case(spec, STEPS, BATCH, "forward_backward", ragged=way == "packed", initial_state=True)
    share = agreement.check_against(_Trial(case, context.bench.device).answer(way), case)
    return CheckResult((Measurement("error_share", "of what is allowed", (share,)),), context.provenance() | {"way": way})


class _Trial:
    """A module with the case's weights, and the case's tensors as leaves of autograd."""

    def __init__(self, case: Case, device: torch.device) -> None:
        params, batch = case.data()
        spec = require_recurrent(case.spec)
        full = filled(spec, batch)
        dtype = getattr(torch, spec.stored_dtype)
        put: Any = lambda value: torch.tensor(np.asarray(value), dtype=dtype, device=device)  # noqa: E731
        self.module = LSTM(
            spec.input_size, spec.hidden_size, spec.num_layers, bidirectional=spec.bidirectional, dtype=dtype, device=device
        )
        self.module.load_state_dict({name: put(value) for name, value in params.items()})
        self.leaves = {name: put(getattr(full, name)).requires_grad_() for name in ("x", "h0", "c0")}
        self.cotangents = [put(value) for value in (full.grad_y, full.grad_h_n, full.grad_c_n)]
        self.lengths = None if batch.lengths is None else torch.tensor(batch.lengths)

    def answer(self, way: str) -> agreement.Answer:
        """What the module says and sends back, called in this way."""
        run = {"side_stream": self._on_a_side_stream, "captured": self._captured}.get(way, self._run)
        call: Call = {"compiled": torch.compile(self.module, fullgraph=True), "packed": self._packed}.get(way, self.module)
        outputs, gradients = run(call)
        names = [*self.leaves, *(name for name, _ in self.module.named_parameters())]
        found = dict(zip(("outputs", "h_n", "c_n"), outputs, strict=True))
        found |= {f"gradient of {name}": value for name, value in zip(names, gradients, strict=True)}
        return {name: value.detach().double().cpu().numpy() for name, value in found.items()}

    def _run(self, call: Call) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        y, (h_n, c_n) = call(self.leaves["x"], (self.leaves["h0"], self.leaves["c0"]))
        wanted = [*self.leaves.values(), *self.module.parameters()]
        return (y, h_n, c_n), torch.autograd.grad([y, h_n, c_n], wanted, self.cotangents)

    def _packed(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        assert self.lengths is not None
        y, last = self.module(pack_padded_sequence(x, self.lengths, enforce_sorted=False), state)
        return pad_packed_sequence(y, total_length=x.shape[0])[0], last

    def _on_a_side_stream(self, call: Call):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            found = self._run(call)
        torch.cuda.current_stream().wait_stream(side)
        return found

    def _captured(self, call: Call):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_CALLS):
                self._run(call)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = self._run(call)
        for tensor in (*found[0], *found[1]):
            tensor.detach().fill_(torch.nan)  # only a replay can put it right
        graph.replay()
        torch.cuda.synchronize()
        return found


IMPLEMENTATIONS = {
    "correctness": Implementation(kernel_checks, measure_kernel),
    "operators": Implementation(module_checks, measure_module),
}
