"""A run at gpu scale, by backends that only say they run on a GPU: who lives beside whom, what fits, how long it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import impls
from bench import costs
from bench.harness import forecast, plan, session, study
from bench.harness.case import Case
from bench.processes import rounds
from bench.processes.process import WorkerProcess
from bench.worker import prepare
from impls import LSTMSpec
from results import store
from tests.bench.conftest import Collector

CASE = Case(LSTMSpec(8, 8, device="cuda"), 4, 2)
PRETENDED = ("pretend_gpu", "pretend_gpu_slower")


@pytest.fixture
def on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, misbehaving: None) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    small = replace(study.get("throughput"), cases={"gpu": (CASE, replace(CASE, launch="graph"))})
    monkeypatch.setattr("bench.studies.throughput.STUDY", small)


@pytest.fixture
def timed_together(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    measure = rounds.measure

    def noted(workers: dict[str, WorkerProcess], *arguments, **more):
        found.append(tuple(sorted(workers)))
        return measure(workers, *arguments, **more)

    monkeypatch.setattr(rounds, "measure", noted)
    return found


def run(tmp_path: Path, replicates: int = 1) -> Sequence[store.Record]:
    path, footer = session.start(plan.make("gpu", PRETENDED, threads=1, replicates=replicates), tmp_path, Collector())
    records = [record for record in store.read(path).records if record.study == "throughput"]
    assert footer.complete and {record.status for record in records} == {"ok"}, [record.reason for record in records]
    return records


def test_backends_of_one_framework_take_rounds_case_by_case(tmp_path, on_a_gpu, timed_together):
    records = run(tmp_path)
    assert timed_together == [("null",), PRETENDED, PRETENDED]
    assert {(record.backend, record.parameters["launch"]) for record in records} == {
        (name, launch) for name in PRETENDED for launch in ("eager", "graph")
    }
    assert {record.provenance["ran"] for record in records if record.parameters["launch"] == "graph"} == {"graph of numpy"}


def test_what_does_not_fit_at_once_is_timed_one_after_the_other(tmp_path, on_a_gpu, timed_together, monkeypatch):
    monkeypatch.setattr(costs, "at_once", lambda case, count: 1)
    run(tmp_path)
    assert sorted(timed_together[1:]) == sorted([(name,) for name in PRETENDED] * 2)


def test_frameworks_take_turns_and_the_order_is_reversed(tmp_path, on_a_gpu, timed_together, monkeypatch):
    facts = plan.impls.facts
    monkeypatch.setattr(plan.impls, "facts", lambda name: dataclasses.replace(facts(name), framework=name))
    run(tmp_path, replicates=2)
    first, second = PRETENDED
    assert timed_together[1:] == [(first,), (first,), (second,), (second,), (second,), (second,), (first,), (first,)]


def test_as_many_are_held_at_once_as_memory_lasts_for(monkeypatch):
    each = costs.CONTEXT_BYTES + costs.ABOVE_LEAST * costs.least_device_bytes(CASE)
    for free, expected in ((10 * each, 4), (3 * each, 3), (2 * each - 1, 1), (0, 1), (None, 4)):
        monkeypatch.setattr(costs, "free_bytes", lambda device, free=free: free)
        assert costs.at_once(CASE, 4) == expected


def test_every_backend_on_a_gpu_names_its_framework():
    """One that does not would live beside PyTorch's or JAX's on the device, or for itself where it need not."""
    frameworks = {name: impls.facts(name).framework for name in impls.names() if "cuda" in impls.facts(name).devices}
    assert {frameworks.pop("null", "null")} == {"null"}
    assert set(frameworks.values()) == {"torch", "jax", "onnxruntime"}
    for name, framework in frameworks.items():
        assert framework in Path(f"impls/backends/{name}.py").read_text()


def test_the_gpu_suite_fits_nine_minutes_on_an_h100():
    made = plan.make("gpu")
    predicted = forecast.seconds(made)
    assert predicted is not None and 240 < predicted <= 540
    assert made.replicates == 3 and made.name == "gpu"
    assert "forward_backward" in forecast.statement(made)[0]


def test_the_suite_for_a_gpu_compares_equal_launch_modes():
    """Each launch mode has a case of every phase, and each case at least two backends that can run it so."""
    made = plan.make("gpu")
    cases = made.cases(study.get("throughput"))
    assert {(case.phase, case.launch) for case in cases} == {
        (phase, launch) for phase in ("forward", "forward_backward", "step") for launch in ("eager", "graph")
    }
    for case in cases:
        assert sum(not prepare.static_unsupported_reason(case, name) for name in made.compared()) >= 2
    assert {case.spec.dtype for case in cases} == {"bfloat16", "float16", "float32"}
