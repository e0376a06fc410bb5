"""Our kernels' calls replayed from a graph, by a stand-in that repeats operators and emulated launches; its traps are seen."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from bench.harness.case import PHASES, Case
from bench.worker import agreement, prepare
from impls import LSTMSpec, LSTMStackSpec, Phase
from impls.backends import cuda
from impls.cuda.emulator import Emulation
from impls.cuda.runtime import Launcher
from impls.cuda.select import Plan
from impls.cuda.torch import network as torch_network
from impls.cuda.torch import ops
from impls.cuda.torch.network import Network
from impls.frameworks.torch import graph as torch_graph
from impls.interface import allowed_runs
from tests.impls.cuda.emulated import cluster_plan, gemm_step_plan, step_plan, tensor_step_plan
from tests.impls.recorded_graph import Graph, Recorded

PLANS = [cluster_plan("bfloat16", 20, 2), tensor_step_plan("bfloat16"), step_plan("bfloat16"), gemm_step_plan("bfloat16")]
STREAMED = LSTMSpec(4, 20, num_layers=2, dtype="bfloat16")


@pytest.fixture(autouse=True)
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """Every graph that is captured, in order."""
    made: list[Graph] = []

    def record(*arguments: Any) -> Graph:
        made.append(Graph(*arguments))
        return made[-1]

    monkeypatch.setattr(torch_graph, "record", record)
    return made


def case_of(phase: Phase, spec: LSTMSpec | None = None, ragged: bool = False) -> Case:
    spec = spec or LSTMSpec(4, 20, dtype="bfloat16")
    return Case(spec, 3, 2, phase, ragged=ragged, initial_state=True, launch="graph")


def network_of(case: Case, plan: Plan, launcher: Launcher | None = None, stream: bool = False) -> Network:
    one_launch = cuda.stream_of(case.spec, case.batch, (9, 0)) if stream else None
    launcher = launcher or Recorded(Emulation())
    return Network(case.spec, *case.data(), plan, launcher, torch.device("cpu"), stream=one_launch)  # type: ignore[arg-type]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.design)
def test_a_replayed_call_answers_as_the_oracle(plan: Plan, phase: Phase, graphs: list[Graph]) -> None:
    case = case_of(phase, ragged=phase != "step")
    network = network_of(case, plan)
    agreement.check_against(agreement.answer(network, case), case)
    assert [graph.replays for graph in graphs] == [case.steps if phase == "step" else 1]
    assert network.provenance()["ran"] == f"graph of {plan.design}"


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.design)
def test_eager_calls_capture_nothing(plan: Plan, graphs: list[Graph]) -> None:
    network = network_of(case_of("forward_backward"), plan)
    for phase in PHASES:
        getattr(network, phase)()
        assert network.provenance()["ran"] == plan.design
    assert not graphs


def test_a_stack_in_one_launch_is_replayed_in_place(graphs: list[Graph]) -> None:
    case = case_of("step", STREAMED)
    network = network_of(case, PLANS[2], stream=True)
    agreement.check_against(agreement.answer(network, case), case)
    assert [graph.replays for graph in graphs] == [3]
    assert network.provenance()["ran"] == "graph of stream"


@pytest.mark.parametrize("stream", [True, False])
def test_eager_and_replayed_steps_are_one_stream(stream: bool) -> None:
    case = case_of("step", STREAMED)
    own, other = (network_of(case, PLANS[2], stream=stream) for _ in range(2))
    call = own.capture("step")
    for step in (call, own.step, own.step, call, call):
        step()
        other.step()
        if step is call:
            own.provenance()
        assert np.array_equal(own.outputs(), other.outputs())
        assert all(np.array_equal(own.final_state()[name], value) for name, value in other.final_state().items())


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.design)
def test_a_replayed_training_step_equals_the_eager_one(plan: Plan) -> None:
    case = case_of("forward_backward", ragged=True)
    own, other = network_of(case, plan), network_of(case, plan)
    call = own.capture("forward_backward")
    before: dict[str, np.ndarray] = {}
    for _ in range(2):
        call()
        other.forward_backward()
        found, expected = own.gradients(), other.gradients()
        assert found.keys() == expected.keys() and all(np.array_equal(found[name], expected[name]) for name in found)
        assert np.array_equal(own.outputs(), other.outputs())
        assert not before or not any(np.array_equal(found[name], before[name]) for name in ("x", "h0", "weight_hh_l0"))
        before = found
        for network in (own, other):
            for tensor in (network.x, network.parameters[0][1][0], network.h0):
                tensor.mul_(0.75)


@pytest.mark.parametrize("phase", PHASES)
def test_a_kernel_that_the_graph_does_not_launch_is_seen(phase: Phase) -> None:
    """As one launched on another stream than that which is captured."""
    case = case_of(phase)
    with pytest.raises(agreement.Disagreement):
        agreement.check_against(agreement.answer(network_of(case, PLANS[0], Emulation()), case), case)


@pytest.mark.parametrize("phase", PHASES)
def test_a_graph_that_is_never_launched_is_a_fall_back(phase: Phase, monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(phase)
    for launches in (True, False):
        monkeypatch.setattr(torch_graph, "record", partial(Graph, launches=launches))
        network = network_of(case, PLANS[0])
        call = network.capture(phase)
        call()
        assert (network.provenance()["ran"] in allowed_runs(cuda, "graph")) is launches  # type: ignore[arg-type]
    prepared = prepare.Prepared(case, "cuda", case.data(), network, call, network.wait, 0.0, 0.0, {})
    with pytest.raises(prepare.Rejected, match="fell back: 'no graph, but cluster' ran where it promises graph of cluster or "):
        prepare.verify(prepared)


def test_a_projection_is_replayed() -> None:
    case = case_of("forward", LSTMSpec(4, 8, proj_size=3, dtype="float32"))
    agreement.check_against(agreement.answer(network_of(case, step_plan("float32")), case), case)


@pytest.mark.parametrize("phase", PHASES)
def test_a_residual_stack_on_our_kernels_is_replayed(
    phase: Phase, graphs: list[Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = Recorded(Emulation())
    monkeypatch.setattr(ops, "launcher_for", lambda device: launcher)
    case = Case(LSTMStackSpec(5, 20, 2, dtype="bfloat16"), 3, 2, phase, initial_state=True, launch="graph")
    network = torch_network.load(case.spec, *case.data())
    agreement.check_against(agreement.answer(network, case), case)
    assert [graph.replays for graph in graphs] == [case.steps if phase == "step" else 1]
    assert network.provenance()["ran"] in allowed_runs(cuda, "graph")  # type: ignore[arg-type]
