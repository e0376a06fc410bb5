"""Nothing is compiled after the first call, and `torch_compile` owns up when it falls back to eager."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest
import torch
from torch._dynamo.utils import counters

import impls
from bench.harness.case import PHASES, Case
from impls import LSTMSpec

# Dynamo looks at .grad of whatever it is given.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
SPEC = LSTMSpec(3, 4, num_layers=2)


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """Grows by one event for each program that XLA compiles."""
    events: list[str] = []

    def note(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event.endswith("backend_compile_duration"):
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    yield events
    jax.monitoring.unregister_event_duration_listener(note)


@pytest.mark.parametrize("name", ["jax", "flax"])
@pytest.mark.parametrize("phase", PHASES)
def test_jax_compiles_in_the_first_call_only(name: str, phase: impls.Phase, compilations: list[str]) -> None:
    case = Case(SPEC, 5, 2, phase, ragged=phase != "step", initial_state=True)
    loaded = impls.get(name).load(case.spec, *case.data())
    compilations.clear()
    getattr(loaded, phase)()
    loaded.wait()
    assert len(compilations) == 1
    for _ in range(7):
        getattr(loaded, phase)()
    loaded.wait()
    assert len(compilations) == 1


@pytest.mark.parametrize("phase", PHASES)
def test_torch_compiles_in_the_first_call_only(phase: impls.Phase) -> None:
    loaded = load_compiled(phase)
    before = counters["stats"]["unique_graphs"]
    getattr(loaded, phase)()
    after = counters["stats"]["unique_graphs"]
    assert after > before
    for _ in range(7):
        getattr(loaded, phase)()
    assert counters["stats"]["unique_graphs"] == after
    assert loaded.provenance()["ran"] == "inductor"


def test_falling_back_to_eager_is_seen() -> None:
    loaded = load_compiled("forward")
    loaded.forward()
    torch.compiler.set_stance("force_eager")
    try:
        provenance = loaded.provenance()
    finally:
        torch.compiler.set_stance("default")
    assert provenance["ran"] == "eager"
    assert provenance["ran"] not in impls.get("torch_compile").RUNS
    assert provenance["compiled graphs called"] == "0 of 10"


def test_compiling_again_is_seen() -> None:
    loaded = load_compiled("forward")
    loaded.forward()
    torch._dynamo.reset()
    assert loaded.provenance()["ran"] not in impls.get("torch_compile").RUNS


def test_one_network_never_uses_up_the_limit_of_another() -> None:
    for hidden in range(2, 12):  # torch allows 8
        case = Case(LSTMSpec(3, hidden), 1, 2, "forward")
        loaded = impls.get("torch_compile").load(case.spec, *case.data())
        loaded.forward()
        assert loaded.provenance()["ran"] == "inductor"


def test_no_compiler_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    reason = impls.get("torch_compile").refuses(SPEC, "forward", False)
    assert reason == "torch.compile finds no C++ compiler; install g++ or set CXX, or use the backend torch_loop"


def load_compiled(phase: impls.Phase) -> impls.Loaded:
    case = Case(SPEC, 5, 2, phase)
    backend = impls.get("torch_compile")
    if reason := backend.refuses(case.spec, phase, False):
        pytest.skip(reason)
    return backend.load(case.spec, *case.data())
