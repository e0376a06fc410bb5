"""Whatever one backend does costs its own case: the good one beside it is complete, and no process is left behind."""

from __future__ import annotations

import sys
import uuid

import pytest

from bench.harness.case import Case
from bench.harness.suites import Pace
from bench.machine import system
from bench.processes import rounds
from bench.processes.rounds import Workers
from impls import backends
from impls.specs.recurrent import LSTMSpec
from tests.faults import hostile, processes
from tests.faults.dose import dose

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="supervisors of workers are Linux's")
CASE = Case(LSTMSpec(4, 5), steps=8, batch=3)
PACE = Pace(rounds=3, turn_seconds=0.005, warm_seconds=0.01)
GOOD = "numpy"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    place = tmp_path / "backends"
    place.mkdir()
    hostile.write(place)
    monkeypatch.setenv("LSTM_BENCH_BACKENDS", str(place))
    backends.__path__.append(str(place))
    yield place
    backends.__path__.remove(str(place))


@pytest.mark.parametrize("behaviour", dose(hostile.BEHAVIOURS, 14), ids=lambda behaviour: behaviour.name)
def test_a_hostile_backend_costs_its_own_case(folder, tmp_path, monkeypatch, behaviour):
    mark = uuid.uuid4().hex
    monkeypatch.setenv(processes.MARK, mark)
    if behaviour.hangs:
        for limit in ("WARM_SECONDS", "TURN_SECONDS"):
            monkeypatch.setattr(rounds, limit, 2.0)
    first: rounds.Responses = {}
    with Workers(system.usable()[:1], tmp_path) as workers:
        for _ in range(2):  # the second time it may already be out, and its worker is a new one
            ready, unready = workers.get([behaviour.name, GOOD])
            responses = unready | rounds.measure(ready, CASE.to_dict(), PACE, True, lambda _: None)
            assert responses[GOOD].status == "ok" and len(responses[GOOD].measurements[0].samples) >= PACE.rounds
            first = first or responses
            for name, response in responses.items():
                if response.died:
                    workers.drop(name)
    response = first[behaviour.name]
    outcome = "ok" if response.status == "ok" else response.kind
    assert outcome in behaviour.kinds, response
    assert response.status == "ok" or response.reason
    assert len(str(response)) < 1_000_000
    assert processes.left(mark) == []


def test_there_are_sixty_of_them():
    assert len({behaviour.name for behaviour in hostile.BEHAVIOURS}) == len(hostile.BEHAVIOURS) >= 60
