"""A GEMM and a pointwise kernel a step: against float64, and that its streams order every access that needs an order."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

from bench.worker import agreement
from impls.cuda.emulator import Emulation
from impls.cuda.runtime import BFLOAT16, Refused, streams
from impls.cuda.select import choose, model
from impls.cuda.select.steps import GemmSteps, TensorSteps
from impls.cuda.torch import gemm_step, layer, recurrence
from impls.cuda.torch.layer import Weights
from impls.cuda.torch.module import LSTM
from impls.cuda.torch.network import Network
from impls.cuda.torch.ops import lstm_wavefront
from tests.impls.cuda.emulated import (
    STORAGES,
    Remembering,
    Rewritten,
    case,
    check,
    cluster_plan,
    gemm_step_plan,
    tensor_step_plan,
    with_headers,
)
from tests.impls.cuda.races import Race, Recorder, Watch

HOPPER = (9, 0)


@pytest.mark.parametrize("dtype", STORAGES)
@pytest.mark.parametrize("memory", ["saved", "rebuilt"])
@pytest.mark.parametrize("hidden, steps, batch, parts", [(1, 1, 1, 1), (19, 2, 35, 2), (40, 33, 3, 2), (24, 7, 5, 1)])
def test_any_size_in_both_directions(dtype, memory, hidden, steps, batch, parts):
    """Chunks of the input product of a step or two, but for one; TF32 products are exact on a CPU."""
    plan = gemm_step_plan(dtype, memory, parts, 1024 if hidden == 24 else 2 * batch)
    check(case(hidden, steps, batch, dtype, num_layers=1 + (steps < 9), bidirectional=True), plan)


def test_a_long_memory():
    check(case(32, 512, 2, "bfloat16", of=Remembering), gemm_step_plan("bfloat16"))


@pytest.mark.parametrize("hidden", [16, 19])
def test_inference_streaming_and_no_bias(hidden):
    check(case(hidden, 9, 4, phase="forward", bias=False), gemm_step_plan("bfloat16", parts=2, rows=8))
    check(case(hidden, 5, 3, phase="step", num_layers=2), gemm_step_plan("bfloat16"))
    check(case(hidden, 4, 3, proj_size=3), gemm_step_plan("bfloat16"))


def operands(directions: int, batch: int, steps: int, hidden: int, ragged: bool) -> tuple:
    """Parameters, x, states, lengths."""
    generator = torch.Generator().manual_seed(0)

    def draw(*sizes: int) -> torch.Tensor:
        return (0.3 * torch.randn(*sizes, generator=generator)).bfloat16()

    weights = tuple([draw(4 * hidden, size) for _ in range(directions)] for size in (5, hidden))
    bias = [draw(4 * hidden) for _ in range(directions)]
    states = draw(directions, batch, hidden), draw(directions, batch, hidden).float()
    lengths = torch.arange(batch, dtype=torch.int32) if ragged else None
    return (*weights, bias), draw(steps, batch, 5), states, lengths


def called(launcher, plan, sizes: tuple, training: bool, states: bool = True) -> list[torch.Tensor]:
    """Everything that a layer gives, forward or forward and backward."""
    parameters, x, given, lengths = operands(*sizes)
    given = given if states else (None, None)
    packed = Weights(parameters[0], parameters[2], recurrence.pack(plan, launcher, parameters[1]))
    found = layer.forward(plan, launcher, packed, x, given, lengths=lengths, training=training)
    if not training:
        return [found.y, found.h_n, found.c_n]
    gradients = layer.backward(
        plan, launcher, parameters, x, given, lengths=lengths, result=found,
        grads=(torch.ones_like(found.y), None, torch.ones_like(found.c_n)),
    )  # fmt: skip
    parts = gradients.weight_ih, gradients.weight_hh, gradients.bias
    return [found.y, found.h_n, found.c_n, gradients.x, gradients.h0, gradients.c0, *(each for part in parts for each in part)]


def test_without_lengths_or_states_as_with_full_and_zero_ones():
    """Then h is read from y, and nothing is passed on beside it."""
    plan, sizes = gemm_step_plan("bfloat16", parts=2, rows=8), (2, 4, 5, 16, False)
    parameters, x, states, _ = operands(*sizes)
    zeros = torch.zeros_like(states[0]), torch.zeros_like(states[1])
    packed = Weights(parameters[0], parameters[2], parameters[1])
    full = torch.full((4,), 5, dtype=torch.int32)
    for first, second in ((states, states), ((None, None), zeros)):
        one = layer.forward(plan, Emulation(), packed, x, first, lengths=None, training=True)
        other = layer.forward(plan, Emulation(), packed, x, second, lengths=full, training=True)
        for name in ("y", "h_n", "c_n", "gates", "cells"):
            torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=0)


def test_the_input_product_of_inference_takes_two_chunks(monkeypatch):
    made: list[int] = []
    room = gemm_step._room
    monkeypatch.setattr(gemm_step, "_room", lambda *given: made.append(len(room(*given)[0].buffers[0])) or room(*given))
    for training in (False, True):
        called(Emulation(), gemm_step_plan("bfloat16", rows=8), (1, 4, 9, 16, False), training)
    assert made == [4, 9]


# Streams. No GPU orders anything here: a recorder of every access does, with the waits that the code makes.

RUNS = [
    (directions, parts, ragged, training, memory)
    for directions, parts in ((1, 2), (2, 1)) for ragged in (False, True)
    for training, memory in ((False, "saved"), (True, "saved"), (True, "rebuilt"))
] + [(1, 1, True, True, "saved"), (2, 2, True, True, "rebuilt")]  # fmt: skip


def recorded(monkeypatch, without: str = "", rows: int = 8, run=(2, 2, True, True, "rebuilt")) -> Recorder:
    """A call whose every access is checked, at last on the stream of the caller."""
    directions, parts, ragged, training, memory = run
    recorder = Recorder(without=without)
    monkeypatch.setattr(gemm_step, "lanes", recorder.lanes)
    plan = gemm_step_plan("bfloat16", memory, parts, rows)
    with Watch(recorder):
        found = called(recorder, plan, (directions, 4, 7, 8, ragged), training)
        for tensor in found:
            tensor.clone()
    return recorder


@pytest.mark.parametrize("run", RUNS, ids=str)
def test_streams_order_every_access(run, monkeypatch):
    several = recorded(monkeypatch, rows=8, run=run)
    assert len(several.lanes_used) == run[0] * run[1] + 1, "each chain on a stream of its own, beside the input product"
    one = recorded(monkeypatch, rows=1024, run=run)
    assert len(one.lanes_used) == run[0] * run[1]


@pytest.mark.parametrize("without", ["fork", "join", "wait", "wait 0", "wait 1", "wait 4"])
def test_without_any_one_of_the_waits_streams_race(without, monkeypatch):
    """Lane 0 waits before it makes a chunk over one that was read, the others for theirs."""
    with pytest.raises(Race):
        recorded(monkeypatch, without)


@pytest.mark.parametrize("without", ["fork", "join"])
def test_the_same_of_the_backward_pass_alone(without, monkeypatch):
    recorder, plan = Recorder(without=without), gemm_step_plan("bfloat16", parts=2)
    monkeypatch.setattr(gemm_step, "lanes", recorder.lanes)
    parameters, _, states, _ = operands(1, 4, 3, 8, False)
    with pytest.raises(Race), Watch(recorder):
        gates, cells = torch.ones(1, 3, 4, 4, 8, dtype=torch.bfloat16), torch.ones(1, 3, 4, 8)
        grads = torch.ones(3, 4, 8, dtype=torch.bfloat16), None, None
        found = gemm_step.backward(plan, recorder, parameters[1], gates.unbind(), cells, states[1], lengths=None, grads=grads)
        found[0].clone()


def test_lanes_of_a_gpu_fork_and_join_by_events(monkeypatch):
    """What CUDA is asked for, in order: a side stream waits for the current one at first, the current one for it at last."""
    said: list[tuple] = []

    class Stream:
        def __init__(self, device=None, priority=0, name="side") -> None:
            self.name, self.cuda_stream = name, 7

        def wait_stream(self, other) -> None:
            said.append((self.name, "waits for", other.name))

        def wait_event(self, event) -> None:
            said.append((self.name, "waits for", event))

    class Event:
        def record(self, stream) -> None:
            said.append((stream.name, "records", self))

    current, inside = Stream(name="current"), SimpleNamespace(name=None)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: inside)
    streams._side.cache_clear()
    with streams.lanes(torch.device("cuda", 0), 2, "test") as both:
        assert both.on(1) is inside and both.on(0) is not inside
        mark = both.mark(1)
        both.wait(0, mark)
    streams._side.cache_clear()
    assert said == [
        ("side", "waits for", "current"), ("side", "records", mark), ("current", "waits for", mark),
        ("current", "waits for", "side"),
    ]  # fmt: skip


# Stacked layers as a wavefront.


def answers(asked, plan, chunks) -> list[agreement.Answer]:
    """Of the network by wavefronts of so many steps; each within tolerance."""
    found = []
    for chunk in chunks:
        network = Network(asked.spec, *asked.data(), plan, Emulation(), torch.device("cpu"), wavefront=chunk)
        found.append(agreement.answer(network, asked))
        agreement.check_against(found[-1], asked)
    return found


PLANS = {
    "cluster": lambda dtype: cluster_plan(dtype, 16, 1), "tensor_step": tensor_step_plan,
    "gemm_step": lambda dtype: gemm_step_plan(dtype, parts=2, rows=6),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["bfloat16", "tensorfloat32"])
@pytest.mark.parametrize("design", PLANS)
def test_a_wavefront_gives_the_same_bits(dtype, design, monkeypatch):
    """Where the input product does not depend on how many rows it has at once."""

    def exact(weight_ih, bias, x):
        return [
            (x.flatten(0, 1).double() @ weight.double().t() + (0.0 if each is None else each.double())).to(x.dtype)
            for weight, each in zip(weight_ih, bias, strict=True)
        ]

    monkeypatch.setattr(layer, "project", exact)
    if design == "gemm_step":
        monkeypatch.setattr(gemm_step.Preactivations, "make", made_exactly)
    asked = case(16, 7, 3, dtype, phase="forward", num_layers=3)
    first, *others = answers(asked, PLANS[design](dtype), (0, 1, 3, 6))
    for other in others:
        for name, value in first.items():
            np.testing.assert_array_equal(value, other[name])


def made_exactly(z: gemm_step.Preactivations, number: int, direction: int) -> None:
    assert z.inputs is not None
    first, last = z.range_of(number, direction)
    start, bias = z.place(number, direction, first), z.inputs.bias[direction]
    product = z.inputs.x[first:last].double() @ z.inputs.weight_ih[direction].double().t()
    z.buffers[direction][start : start + last - first] = product if bias is None else product + bias.double()


def test_a_wavefront_without_states_and_lengths():
    plan = gemm_step_plan("bfloat16")
    parameters, x, _, _ = operands(1, 4, 7, 5, False)
    stack = [Weights(parameters[0], parameters[2], parameters[1])] * 2
    y, h_n, c_n = layer.wavefront(plan, Emulation(), stack, x, (None, None), lengths=None, chunk=3)
    first = layer.forward(plan, Emulation(), stack[0], x, (None, None), lengths=None, training=False)
    second = layer.forward(plan, Emulation(), stack[0], first.y, (None, None), lengths=None, training=False)
    torch.testing.assert_close(y, second.y)
    torch.testing.assert_close(h_n, torch.cat([first.h_n, second.h_n]))
    torch.testing.assert_close(c_n, torch.cat([first.c_n, second.c_n]))


def stacked(monkeypatch, without: str) -> None:
    recorder = Recorder(without=without, may_allocate=True)
    for module in (gemm_step, layer):
        monkeypatch.setattr(module, "lanes", recorder.lanes)
    parameters, x, (h0, c0), lengths = operands(1, 4, 7, 5, True)
    states = h0.repeat(3, 1, 1), c0.repeat(3, 1, 1)
    with Watch(recorder):
        stack = [Weights(parameters[0], parameters[2], parameters[1])] * 3
        plan = gemm_step_plan("bfloat16", parts=2, rows=4)
        for tensor in layer.wavefront(plan, recorder, stack, x, states, lengths=lengths, chunk=3):
            tensor.clone()
    assert len(recorder.lanes_used) == 3 + 3 * 2, "a lane a layer, and two parts of the batch in each"


def test_a_wavefront_orders_every_access(monkeypatch):
    stacked(monkeypatch, "")


@pytest.mark.parametrize("without", ["join", "wait", "wait 1", "wait 2"])  # a layer's first wait is as good as the fork
def test_without_any_one_of_its_waits_it_races(without, monkeypatch):
    with pytest.raises(Race):
        stacked(monkeypatch, without)


def test_a_wavefront_is_refused_where_it_cannot_be(monkeypatch):
    plan = choose(512, 3, 1, torch.bfloat16, HOPPER, design="grid")
    with pytest.raises(Refused, match="need all multiprocessors"):
        layer.wavefront(plan, Emulation(), [], torch.zeros(4, 3, 5), (None, None), lengths=None, chunk=2)
    asked = case(8, 4, 2, phase="forward", num_layers=2, bidirectional=True)
    with pytest.raises(Refused, match="of one direction"):
        Network(asked.spec, *asked.data(), plan, Emulation(), torch.device("cpu"), wavefront=2)


@pytest.fixture
def emulated(monkeypatch):
    monkeypatch.setenv("LSTM_BENCH_EMULATE", "1")


@pytest.mark.parametrize("changes", [{}, {"bias": False}, {"batch_first": True}, {"dtype": torch.bfloat16}], ids=str)
def test_the_module_runs_a_wavefront_at_inference(changes, emulated):
    torch.manual_seed(0)
    module = LSTM(5, 8, 3, **changes).requires_grad_(False)
    x = torch.randn(7, 7, 5, dtype=changes.get("dtype"))
    states = torch.randn(3, 7, 8, dtype=x.dtype), torch.randn(3, 7, 8, dtype=x.dtype)
    packed = pack_padded_sequence(x, torch.arange(1, 8), changes.get("batch_first", False), enforce_sorted=False)
    for given in ((x,), (x, states), (packed, states)):
        module.wavefront = 0
        expected = module(*given)
        module.wavefront = 2
        with torch.profiler.profile() as profiler:
            found = module(*given)
        torch.testing.assert_close(found, expected)
        assert "lstm_bench::lstm_wavefront" in {event.key for event in profiler.key_averages()}
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, states), module(x, states))


def test_the_module_trains_layer_after_layer(emulated):
    module = LSTM(5, 8, 2, wavefront=2, dropout=0.5)
    x = torch.randn(5, 3, 5)
    module(x)[0].sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    with torch.no_grad():
        assert not torch.equal(module(x)[0], module(x)[0]), "dropout in training mode"
        assert torch.equal(module.eval()(x)[0], module(x)[0])
    with pytest.raises(ValueError, match="one direction"):
        LSTM(5, 8, 2, wavefront=2, bidirectional=True)(x)
    with pytest.raises(RuntimeError, match=r"at most two biases of each layer.*chunk=0"):
        lstm_wavefront(x, [torch.zeros(32, 5), torch.zeros(32, 8)], 1, None, None, None, 0, "auto", None)


def test_opcheck_of_the_wavefront(emulated):
    generator = torch.Generator().manual_seed(0)
    weights = [0.3 * torch.randn(32, size, generator=generator) for size in (5, 8, 8, 8)]
    torch.library.opcheck(lstm_wavefront, (torch.ones(5, 3, 5), weights, 2, None, None, None, 2, "auto", None))


WRONG = [
    ("gemm_step_forward.cu", "launch.step < global_read", "launch.step <= global_read"),
    ("gemm_step_forward.cu", "if (launch.save) R::write(at, i)", "if (false) R::write(at, i)"),
    ("gemm_step_forward.cu", "if (d.cells) R::write_float", "if (d.cells && unit) R::write_float"),
    ("gemm_step_forward.cu", "h[u] = live ? after.h : 0.0f", "h[u] = after.h"),
    ("gemm_step_forward.cu", "if (!live) R::read(d.h ?", "if (false) R::read(d.h ?"),
    ("gemm_step_backward.cu", "into_h[u] += carried[u]", "into_h[u] += 0.0f"),
    ("gemm_step_backward.cu", "live ? sent.c_before : into_c[u]", "sent.c_before"),
    ("gemm_step_backward.cu", "live ? 0.0f : into_h[u]", "0.0f"),
]


@pytest.mark.parametrize("source, right, wrong", WRONG)
def test_a_wrong_kernel_disagrees(source, right, wrong):
    def rewrite(text):
        whole = with_headers(text)
        assert whole.count(right) == 1
        return whole.replace(right, wrong)

    with pytest.raises(agreement.Disagreement):
        check(case(16, 5, 3, bidirectional=True), gemm_step_plan("bfloat16"), Rewritten(source, rewrite))


# Its time.


def test_no_time_of_it_counts_as_measured():
    """Those that it is modelled on are of cuDNN."""
    known = model.estimate("gemm_step_forward", hidden=1024, batch=128)
    own = GemmSteps(BFLOAT16).estimate(1024, 128, 1, backward=False)
    assert (known.origin, own.origin) == ("measured", "modelled") and own.microseconds == known.microseconds
    assert GemmSteps(BFLOAT16).estimate(1024, 512, 1, backward=False).origin == "extrapolated"


def test_chains_side_by_side_take_one_of_them_or_their_work():
    constants = model.stored()["gemm_step_forward"]["constants"]
    half, two = (GemmSteps(BFLOAT16, parts).estimate(1024, rows, 1, False) for parts, rows in ((1, 64), (2, 128)))
    assert two.microseconds == half.microseconds and two.origin == "extrapolated"  # each waits for most of its time
    half, two = (GemmSteps(BFLOAT16, parts).estimate(1024, rows, 1, False) for parts, rows in ((1, 1664), (2, 3328)))
    assert two.microseconds == pytest.approx(2 * (half.microseconds - constants[0]))
    assert two.microseconds < GemmSteps(BFLOAT16).estimate(1024, 3328, 1, False).microseconds
    both = GemmSteps(BFLOAT16).estimate(1024, 1664, 2, False)
    assert both.microseconds == two.microseconds
    whole = GemmSteps(BFLOAT16).estimate(1024, 3328, 1, False)
    assert both.upper < two.upper < whole.upper, "in parts: as if half of the gain came"


@pytest.mark.parametrize("hidden, batch, parts", [(2048, 128, 1), (2048, 256, 1), (1024, 512, 2), (1024, 3328, 2)])
def test_large_batches_of_large_layers_take_it(hidden, batch, parts):
    plan = choose(hidden, batch, 1, torch.float16, HOPPER)
    assert isinstance(plan.forward, GemmSteps) and plan.forward.parts == parts
    assert isinstance(plan.backward, GemmSteps) and ("modelled" in plan.reason or "extrapolated" in plan.reason)
    assert "measured" not in plan.reason


@pytest.mark.parametrize("hidden, batch, dtype", [(1, 1, torch.float16), (3001, 7, torch.float32), (65, 3000, torch.bfloat16)])
@pytest.mark.parametrize("capability", [(8, 0), HOPPER, (12, 0)])
def test_asked_for_it_refuses_nothing(hidden, batch, dtype, capability):
    plan = choose(hidden, batch, 2, dtype, capability, tf32=True, design="gemm_step")
    assert isinstance(plan.forward, GemmSteps) and isinstance(plan.backward, GemmSteps)
    assert plan.words().startswith(f"gemm_step, saved: {'P1' if plan.forward == plan.backward else 'forward gemm_step P'}")
    mixed = replace(plan, forward=TensorSteps(plan.forward.storage, 1))
    assert mixed.words() == f"tensor_step, saved: forward tensor_step N8, backward gemm_step P{plan.backward.parts}"
