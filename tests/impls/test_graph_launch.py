"""Calls replayed from a graph are the calls, by a stand-in that repeats operators on their tensors; and its traps are seen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import impls
from bench.harness.case import PHASES, Case
from bench.worker import agreement, prepare
from impls import GRUSpec, LSTMSpec, LSTMStackSpec, MinLSTMSpec, RNNSpec, Spec, SSMSpec, TransformerSpec
from impls.backends import torch as eager
from impls.frameworks.torch import graph as torch_graph
from impls.frameworks.torch import network as torch_network
from tests.impls.recorded_graph import Graph, Repeated

SPECS: list[Spec] = [
    LSTMSpec(5, 7, num_layers=2),
    GRUSpec(5, 7),
    RNNSpec(5, 7),
    LSTMStackSpec(5, 8, 2),
    MinLSTMSpec(5, 8, 2),
    SSMSpec(5, 8, state_size=3),
    TransformerSpec(5, 8, 2, num_heads=2),
    TransformerSpec(8, 8, 2, num_heads=2, num_kv_heads=1, window=3),
]
LSTM, TRANSFORMER = SPECS[0], SPECS[-2]


@pytest.fixture(autouse=True)
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """Every graph that is captured, in order."""
    made: list[Graph] = []

    def record(*arguments: Any) -> Graph:
        made.append(Graph(*arguments))
        return made[-1]

    monkeypatch.setattr(torch_graph, "record", record)
    return made


def case_of(spec: Spec, phase: impls.Phase = "step", **more: Any) -> Case:
    return Case(spec, 6, 3, phase, initial_state=bool(spec.state_shapes(1)), launch="graph", **more)


def loaded(case: Case, backend: str = "torch") -> torch_network.Network:
    network = impls.get(backend).load(case.spec, *case.data())
    assert isinstance(network, torch_network.Network)
    return network


@pytest.mark.parametrize("phase", ["forward", "forward_backward"])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: "-".join(spec.key_parts()))
def test_a_replayed_call_answers_as_the_oracle(spec: Spec, phase: impls.Phase, graphs: list[Graph]) -> None:
    case = case_of(spec, phase)
    agreement.check_against(agreement.answer(loaded(case), case), case)
    assert [graph.replays for graph in graphs] == [1]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: "-".join(spec.key_parts()))
def test_replayed_steps_answer_as_the_oracle(spec: Spec, graphs: list[Graph]) -> None:
    case = case_of(spec)
    agreement.check_against(agreement.answer(loaded(case), case), case)
    # All of a recurrent network's steps; of a Transformer's those that meet a full cache.
    steps = case.steps * (1 + case.remembers)
    assert [graph.replays for graph in graphs] == [
        steps - (spec.capacity(case.steps) if isinstance(spec, TransformerSpec) else 0)
    ]


@pytest.mark.parametrize(
    ("backend", "spec"),
    [("torch", LSTM), ("torch", TRANSFORMER), ("torch_loop", LSTMSpec(5, 7, bidirectional=True, proj_size=3))],
)
def test_a_replayed_training_step_equals_the_eager_one(backend: str, spec: Spec) -> None:
    case = case_of(spec, "forward_backward", ragged=backend == "torch_loop")
    own, other = loaded(case, backend), loaded(case, backend)
    call = own.capture("forward_backward")
    for _ in range(3):
        call()
        other.forward_backward()
        found, expected = agreement.Answer(own.gradients()), other.gradients()
        assert found.keys() == expected.keys() and all(np.array_equal(found[name], expected[name]) for name in found)
        assert np.array_equal(own.outputs(), other.outputs())
        kept = found
        for network in (own, other):
            generator = torch.Generator().manual_seed(7)
            with torch.no_grad():
                for value in network.grad_input_tensors:
                    value.add_(torch.randn(value.shape, generator=generator) / 10)
        call()
        assert not any(np.array_equal(own.gradients()[name], kept[name]) for name in ("x", "weight_ih_l0") if name in kept)
        other.forward_backward()
        assert all(np.array_equal(own.gradients()[name], value) for name, value in other.gradients().items())


def test_a_forward_pass_follows_what_changes_in_place() -> None:
    case = case_of(LSTM, "forward")
    own, other = loaded(case), loaded(case)
    call = own.capture("forward")
    call()
    for network in (own, other):
        with torch.no_grad():
            network.x.mul_(-2.0)
    call()
    other.forward()
    assert np.array_equal(own.outputs(), other.outputs())
    assert all(np.array_equal(own.final_state()[name], value) for name, value in other.final_state().items())


def test_ragged_lengths_in_a_loop_are_replayed() -> None:
    for phase in ("forward", "forward_backward"):
        case = Case(LSTMSpec(5, 7, num_layers=2), 6, 3, phase, ragged=True, launch="graph")
        agreement.check_against(agreement.answer(loaded(case, "torch_loop"), case), case)


def test_packed_sequences_are_refused() -> None:
    case = Case(LSTMSpec(5, 7), 6, 3, ragged=True, launch="graph")
    with pytest.raises(impls.Unavailable, match=r"packing sequences copies their order from the host.*ask for full lengths"):
        agreement.answer(loaded(case), case)


@pytest.mark.parametrize("phase", PHASES)
def test_a_compiled_loop_is_captured_without_compiling_again(phase: impls.Phase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_graph, "record", Repeated)
    case = Case(LSTMSpec(3, 4), 2, 2, phase, launch="graph")
    network = loaded(case, "torch_compile")
    agreement.check_against(agreement.answer(network, case), case)
    assert network.provenance()["ran"] == "graph of inductor"


def test_a_prefilled_stream_is_replayed_from_its_first_step(graphs: list[Graph]) -> None:
    for spec in (TransformerSpec(5, 8, dtype="float64"), LSTMSpec(5, 7, 2, dtype="float64")):
        case = Case(spec, 6, 3, "step")
        network, stepped = loaded(case), impls.get("numpy").load(case.spec, *case.data())
        call = network.capture("step")
        for _ in range(2):  # the second time with a graph of the first stream
            network.prefill()
            stepped = impls.get("numpy").load(case.spec, *case.data())
            for _ in range(case.steps):
                stepped.step()
            for _ in range(8):
                call()
                stepped.step()
                agreement.compare("y", network.outputs(), stepped.outputs(), 1e-12, "float64")
    assert [graph.replays for graph in graphs] == [8, 8, 16]  # a Transformer's second cache is another, with its own graph


def test_eager_steps_and_replayed_ones_are_one_stream() -> None:
    case = case_of(LSTM)
    own, other = loaded(case), loaded(case)
    call = own.capture("step")
    for step in (call, own.step, own.step, call, call):
        step()
        other.step()
        assert np.array_equal(own.outputs(), other.outputs())


def keep_the_first_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph reads a token that nobody writes to."""
    run = torch_network.Network.capture

    def capture(self: torch_network.Network, phase: impls.Phase) -> Any:
        inner, self.run = self.run, lambda x, state: inner(torch.tensor(x.tolist(), dtype=x.dtype), state)
        return run(self, phase)

    monkeypatch.setattr(torch_network.Network, "capture", capture)


def forget_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_graph, "copy", lambda into, values: None)


def leave_warming_up_in_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_graph, "copier", lambda values: lambda: None)


@pytest.mark.parametrize("trap", [keep_the_first_token, forget_the_state, leave_warming_up_in_the_state])
def test_what_a_graphed_step_may_get_wrong_is_seen(trap: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trap(monkeypatch)
    case = case_of(LSTM)
    with pytest.raises(agreement.Disagreement):
        agreement.check_against(agreement.answer(loaded(case), case), case)


def test_a_position_that_warming_up_moved_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_warming_up_in_the_state(monkeypatch)
    case = case_of(TRANSFORMER)
    with pytest.raises(agreement.Disagreement):
        agreement.check_against(agreement.answer(loaded(case), case), case)


def test_a_graph_of_a_cache_that_still_grows_is_seen() -> None:
    """Captured one token too early, it would go on reading so few."""
    case = case_of(TRANSFORMER)
    network: Any = loaded(case)
    call = network.capture("step")

    def hasty() -> None:
        cache = network.cache
        cache.passed, kept = (cache.capacity, cache.passed) if cache.passed == 2 else (cache.passed, None)
        call()
        cache.passed = cache.passed if kept is None else cache.capacity

    network.capture = lambda phase: hasty
    with pytest.raises(agreement.Disagreement):
        agreement.check_against(agreement.answer(network, case), case)


class AllocatesAnew:
    """Keeps of each run its answer in a tensor of its own that no replay writes to, as `.tolist()` and back does."""

    def __init__(self, run: torch_network.Run) -> None:
        self.run = run

    def __call__(self, x: torch.Tensor, state: torch_network.State) -> tuple[torch.Tensor, torch_network.State]:
        y, last = self.run(x, state)
        fresh = torch.tensor(y.tolist(), dtype=y.dtype)
        return y + (fresh - y.detach()), last


class ComputesInPython:
    """Scales by a number of Python's, right when it was captured."""

    def __init__(self, run: torch_network.Run) -> None:
        self.run = run

    def __call__(self, x: torch.Tensor, state: torch_network.State) -> tuple[torch.Tensor, torch_network.State]:
        largest = x.detach().abs().max()
        return self.run(x * (float(largest) / largest), state)


@pytest.mark.parametrize("trap", [AllocatesAnew, ComputesInPython])
@pytest.mark.parametrize("phase", PHASES)
def test_what_is_not_on_the_device_goes_stale_and_is_seen(phase: impls.Phase, trap: Any) -> None:
    case = case_of(LSTM, phase)
    eagerly, network = loaded(case), loaded(case)
    for each in (eagerly, network):
        each.run = trap(each.run)
    launched_eagerly = replace(case, launch="eager")
    agreement.check_against(agreement.answer(eagerly, launched_eagerly), launched_eagerly)
    with pytest.raises(agreement.Disagreement):
        agreement.check_against(agreement.answer(network, case), case)


@pytest.mark.parametrize(("spec", "phase"), [(LSTM, phase) for phase in PHASES] + [(TRANSFORMER, "step")])
def test_what_ran_is_told_and_looking_leaves_no_trace(spec: Spec, phase: impls.Phase) -> None:
    case = case_of(spec, phase)
    network, undisturbed = loaded(case), loaded(case)
    calls = [each.capture(phase) for each in (network, undisturbed)]
    for each, call in zip((network, undisturbed), calls, strict=True):
        each.prefill()
        call()
    assert network.provenance()["ran"] in impls.interface.allowed_runs(eager, "graph")
    for again in range(3):
        if again:
            for call in calls:
                call()
        assert np.array_equal(network.outputs(), undisturbed.outputs())
        assert network.gradients().keys() == undisturbed.gradients().keys() if phase == "forward_backward" else True
    assert all((network.final_state()[name] == value).all() for name, value in undisturbed.final_state().items())


@pytest.mark.parametrize("phase", PHASES)
def test_a_graph_that_is_never_launched_is_a_fall_back(phase: impls.Phase, monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(LSTM, phase)
    assert prepare.verify(prepare.load(case, "torch")).provenance["ran"] == "graph of onednn"
    monkeypatch.setattr(torch_graph, "record", partial(Graph, launches=False))
    with pytest.raises(prepare.Rejected, match="fell back: 'no graph, but onednn' ran where it promises graph of onednn or "):
        prepare.verify(prepare.load(case, "torch"))


def test_an_eager_call_is_no_graph_and_a_graph_no_eager_call() -> None:
    case = case_of(LSTM, "forward")
    prepared = prepare.load(case, "torch")
    prepared.loaded.forward()
    with pytest.raises(prepare.Rejected, match="fell back: 'onednn' ran where it promises graph of"):
        prepare.verify(prepared)
    prepared = prepare.load(case, "torch")
    prepared.case = replace(case, launch="eager")
    with pytest.raises(prepare.Rejected, match="fell back: 'graph of onednn' ran where it promises onednn or "):
        prepare.verify(prepared)


def test_unsupported_launches_are_known_without_importing() -> None:
    on_cuda = Case(LSTMSpec(3, 4, device="cuda"), 2, 1, launch="graph")
    assert [prepare.static_unsupported_reason(on_cuda, name) for name in ("torch", "cudnn", "torch_compile", "torch_loop")] == [
        None
    ] * 4
    for name in ("jax", "flax", "jax_cudnn"):
        assert "cannot be captured in a CUDA graph" in (prepare.static_unsupported_reason(on_cuda, name) or "")
        assert prepare.static_unsupported_reason(replace(on_cuda, launch="eager"), name) is None
    on_cpu = replace(on_cuda, spec=LSTMSpec(3, 4))
    assert "ask for device=cuda, or for launch=eager" in (prepare.static_unsupported_reason(on_cpu, "torch") or "")
    with pytest.raises(prepare.Skip, match="ask for device=cuda, or for launch=eager"):
        prepare.validate_backend(on_cpu, "torch")
    assert {name for name in impls.names() if "graph" in impls.facts(name).launches} == {
        "cuda",
        "cudnn",
        "torch",
        "torch_compile",
        "torch_compile_autotune",
        "torch_loop",
    }


def test_on_a_cpu_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(impls.Unavailable, match="launched on a GPU, not on cpu; ask for launch=eager"):
        loaded(case_of(LSTM, "forward")).capture("forward")()


def test_a_graph_is_captured_on_its_warm_up_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    events: list[str] = []
    inside: list[str] = []

    class Stream:
        def __init__(self, device: object, name: str = "side") -> None:
            self.name = name

        def wait_stream(self, other: Stream) -> None:
            events.append(f"{self.name} waits for {other.name}")

    @contextlib.contextmanager
    def within(name: str) -> Iterator[None]:
        inside.append(name)
        yield
        inside.pop()

    main = Stream(None, "main")
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: main)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: within(stream.name))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: events.append("replay")))
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, stream: within(f"capture on {stream.name}"))
    graph = torch_graph.record(
        lambda: events.append(f"body {inside}"), lambda: events.append(f"restore {inside}"), torch.device("cuda")
    )
    graph.replay()
    warm_up = ["body ['side']", "restore ['side']"] * torch_graph.WARM_UPS
    assert events == ["side waits for main", *warm_up, "main waits for side", "body ['capture on side']", "replay"]
