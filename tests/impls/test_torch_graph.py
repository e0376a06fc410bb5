"""Steps replayed from a graph are the steps, by a stand-in that repeats operators on their tensors; and its traps are seen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch

import impls
from bench import agreement, prepare
from bench.case import Case
from impls import GRUSpec, LSTMSpec, LSTMStackSpec, MinLSTMSpec, RNNSpec, Spec, SSMSpec, TransformerSpec
from impls.backends import _torch_graph, cudnn_graph, torch_graph
from impls.backends import torch as eager
from tests.impls.recorded_graph import Graph

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


def case_of(spec: Spec) -> Case:
    return Case(spec, 6, 3, "step", initial_state=bool(spec.state_shapes(1)))


def replayed(case: Case, kind: type[_torch_graph.Replayed] = _torch_graph.Replayed, capture=Graph) -> _torch_graph.Replayed:
    return kind(eager.load(case.spec, *case.data()), capture)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: "-".join(spec.key_parts()))
def test_replays_answer_as_the_oracle(spec: Spec) -> None:
    case = case_of(spec)
    network = replayed(case)
    agreement.check_against(agreement.answer(network, case), case)
    assert isinstance(network.graph, Graph)
    # All of a recurrent network's steps; of a Transformer's those that meet a full cache.
    steps = case.steps * (1 + case.remembers)
    assert network.graph.replays == steps - (spec.capacity(case.steps) if isinstance(spec, TransformerSpec) else 0) > 0


def test_a_stream_that_was_prefilled_is_replayed_from_its_first_step() -> None:
    case = Case(TransformerSpec(5, 8, dtype="float64"), 6, 3, "step")
    network, stepped = replayed(case), impls.get("numpy").load(case.spec, *case.data())
    network.prefill()
    for _ in range(case.steps):
        stepped.step()
    for _ in range(8):
        network.step()
        stepped.step()
        agreement.compare("y", network.outputs(), stepped.outputs(), 1e-12, "float64")
    assert isinstance(network.graph, Graph) and network.graph.replays == 8


class KeepsItsFirstToken(_torch_graph.Replayed):
    def _body(self) -> None:
        self.token = self.token.clone()  # a token that nobody writes to
        super()._body()


class ForgetsItsState(_torch_graph.Replayed):
    def _body(self) -> None:
        self.network.y, _ = self.network.run(self.token, self.state)


class LeavesWarmingUpInTheState(_torch_graph.Replayed):
    def _restore(self) -> Callable[[], None]:
        return lambda: None


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        (KeepsItsFirstToken, SPECS[0]), (KeepsItsFirstToken, SPECS[-2]), (ForgetsItsState, SPECS[0]),
        (LeavesWarmingUpInTheState, SPECS[0]), (LeavesWarmingUpInTheState, SPECS[-2]),
    ],
)  # fmt: skip
def test_what_a_graph_may_get_wrong_is_seen(kind: type[_torch_graph.Replayed], spec: Spec) -> None:
    case = case_of(spec)
    with pytest.raises(agreement.Disagreement):
        agreement.check_against(agreement.answer(replayed(case, kind), case), case)


def test_a_graph_of_a_cache_that_still_grows_is_seen() -> None:
    """Captured one token too early, it would go on reading so few."""

    class Hasty(_torch_graph.Replayed):
        def step(self) -> None:
            cache = self.network.cache  # pyright: ignore[reportAttributeAccessIssue]
            cache.passed, kept = (cache.capacity, cache.passed) if cache.passed == 2 else (cache.passed, None)
            super().step()
            cache.passed = cache.passed if kept is None else cache.capacity

    case = case_of(SPECS[-2])
    with pytest.raises(agreement.Disagreement):
        agreement.check_against(agreement.answer(replayed(case, Hasty), case), case)


@pytest.mark.parametrize("spec", [SPECS[0], SPECS[-2]], ids=lambda spec: spec.cell)
def test_what_ran_is_told_and_looking_leaves_no_trace(spec: Spec) -> None:
    case = Case(spec, 6, 3, "step")
    network, undisturbed = replayed(case), replayed(case)
    for each in (network, undisturbed):
        each.prefill()
        each.step()
    provenance = network.provenance()
    assert provenance["ran"] in torch_graph.RUNS
    for _ in range(3):
        for each in (network, undisturbed):
            each.step()
        assert (network.outputs() == undisturbed.outputs()).all()
    assert all((network.final_state()[name] == value).all() for name, value in undisturbed.final_state().items())


def test_a_replay_that_launches_no_graph_is_a_fall_back() -> None:
    case = Case(SPECS[0], 6, 3, "step")

    for capture, names_a_graph in ((Graph, True), (partial(Graph, launches=False), False)):
        network = replayed(case, capture=capture)
        network.step()
        assert (network.provenance()["ran"] in torch_graph.RUNS) is names_a_graph
    prepared = prepare.Prepared(case, "torch_graph", network, network.step, network.wait, 0.0, 0.0, {})
    with pytest.raises(prepare.Rejected, match="fell back: 'no graph, but "):
        prepare.verify(prepared)


@pytest.mark.parametrize("backend", [torch_graph, cudnn_graph])
def test_what_they_refuse(backend: impls.Backend) -> None:
    on_cuda = LSTMSpec(3, 4, device="cuda")
    assert "runs step and no forward; ask for phase=step" in (backend.refuses(on_cuda, "forward", False) or "")
    assert "runs on cuda, not on cpu" in (backend.refuses(LSTMSpec(3, 4), "step", False) or "")
    assert "cannot stream" in (backend.refuses(LSTMSpec(3, 4, bidirectional=True, device="cuda"), "step", False) or "")
    if not torch.cuda.is_available():
        with pytest.raises(impls.Unavailable, match="finds no CUDA device here"):
            backend.load(on_cuda, *Case(on_cuda, 2, 1, "step").data())
    with pytest.raises(impls.Unavailable, match="ask for phase=step"):
        replayed(Case(SPECS[0], 6, 3)).forward()


def test_other_phases_are_refused_without_importing_them() -> None:
    case = Case(LSTMSpec(3, 4, device="cuda"), 2, 1)
    assert "no forward" in (prepare.refusal_unasked(case, "cudnn_graph") or "")
