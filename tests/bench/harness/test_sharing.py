"""Studies that share: the reference's cases one after the other in one worker, everybody else in one of their own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bench.harness import standalone, study
from bench.harness.plan import Task
from bench.processes.response import WorkerFailed


class Pretended:
    """A worker without a process; it dies of a case whose init is in `deadly`, and its context of one in `corrupting`."""

    started: list[Pretended]
    deadly: set[str]
    corrupting: set[str]

    def __init__(self, backend, cpus, cache, code):
        self.backend, self.cases, self.closed = backend, [], False
        Pretended.started.append(self)

    def request(self, operation, timeout, /, study_name, case):
        assert operation == "alone" and not self.closed
        self.cases.append(case["init"])
        if case["init"] in Pretended.deadly:
            raise WorkerFailed("crash", "the worker was killed by SIGKILL")
        if case["init"] in Pretended.corrupting:  # as bench.processes.process answers then
            return {"status": "failed", "kind": "crash", "reason": "CUDA_ERROR_LAUNCH_FAILED", "died": True}
        return {"status": "ok", "measurements": []}

    def kill(self):
        self.closed = True

    close = kill


@pytest.fixture(autouse=True)
def pretended(monkeypatch):
    Pretended.started, Pretended.deadly, Pretended.corrupting = [], set(), set()
    monkeypatch.setattr(standalone, "WorkerProcess", Pretended)


def jobs(backends=(study.REFERENCE,) * 4, name="gradients"):
    cases = [case for case in study.get(name).cases["cpu"] if case.factor("probe") == "attenuation"]
    return [(Task(study.get(name), case, (backend,), 0), backend) for case, backend in zip(cases, backends, strict=False)]


def outcomes(asked):
    return list(standalone.measure(asked, [(0,)], Path()))


def test_the_references_cases_share_one_worker():
    found = outcomes(jobs())
    assert [each.response.status for each in found] == ["ok"] * 4
    (worker,) = Pretended.started
    assert len(worker.cases) == 4 and worker.closed


def test_a_shared_worker_that_dies_costs_one_case():
    Pretended.deadly = {"orthogonal"}
    found = {each.task.case.factor("init"): each.response for each in outcomes(jobs())}
    assert [found[init].status for init in ("pytorch", "orthogonal", "gaussian:0.5")] == ["ok", "failed", "ok"]
    assert "SIGKILL" in found["orthogonal"].reason and [len(each.cases) for each in Pretended.started] == [2, 2]


def test_a_corrupted_context_costs_one_case_too():
    Pretended.corrupting = {"orthogonal"}
    found = {each.task.case.factor("init"): each.response.status for each in outcomes(jobs())}
    assert [found[init] for init in ("pytorch", "orthogonal", "gaussian:0.5")] == ["ok", "failed", "ok"]
    assert [len(each.cases) for each in Pretended.started] == [2, 2]


def test_a_backend_never_runs_beside_a_shared_worker():
    outcomes(jobs((study.REFERENCE, "numpy", "numpy", study.REFERENCE)))
    assert [(each.backend, len(each.cases)) for each in Pretended.started] == [
        ("reference", 1), ("numpy", 1), ("numpy", 1), ("reference", 1),
    ]  # fmt: skip
    assert all(each.closed for each in Pretended.started)


def test_a_study_that_does_not_share_has_a_worker_a_case(monkeypatch):
    lone = dataclasses.replace(study.get("gradients"), reuse_worker=False)
    monkeypatch.setattr(study, "get", lambda name: lone)
    asked = [(Task(lone, case, (study.REFERENCE,), 0), study.REFERENCE) for case in lone.cases["cpu"][:3]]
    outcomes(asked)
    assert len(Pretended.started) == 3
