"""gpu-check under the emulation: interrupted and resumed, read by every reader, its dead workers replaced, its limits kept."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from analysis import constants, show
from bench import gpu_plan, items, session
from bench.gpu.items import ITEMS
from bench.plan import Plan
from results import store
from results.record import Measurement, Record


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """Tests may run while a person measures: their lock, and what they reveal, lies elsewhere."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("LSTM_BENCH_BACKENDS", "")
    monkeypatch.setattr("impls.backends.__path__", list(__import__("impls.backends").backends.__path__))


class Interrupting:
    """A listener that presses Ctrl-C when the first record of a study is on disk."""

    def __init__(self, study: str) -> None:
        self.study = study

    def expect(self, study, records):
        pass

    def doing(self, text):
        pass

    def recorded(self, records):
        if records[0].study == self.study:
            raise KeyboardInterrupt


@pytest.mark.timeout(900)  # a minute on two idle cores; compiles some twenty kernels for the CPU
def test_end_to_end_without_a_gpu_interrupted_and_resumed(tmp_path, collector):
    with pytest.raises(KeyboardInterrupt):
        session.start(gpu_plan.make(emulated=True), tmp_path, Interrupting("gpu_products"))
    (path,) = store.find(tmp_path)
    before = {record.task for record in store.read(path).records}
    session.resume(tmp_path, collector)
    run = store.read(path)
    assert run.finished
    assert not before & {record.task for record in collector.records}, "nothing is measured twice"
    counted = Counter(record.study for record in run.records)
    assert set(counted) == {f"gpu_{name}" for name in ITEMS} | {"goal", "overhead"}
    wrong = [record for record in run.records if record.status == "failed"]
    assert not wrong, wrong[0].reason
    assert {record.reason.split(":")[0] for record in run.records if record.status == "skipped"} == {"not measured"}
    # No reader can take anything of it for a GPU's.
    assert all(record.provenance["emulated"] == "true" for record in run.records)
    assert all(record.parameters["device"] == "cpu" for record in run.records)
    assert all(item.metric.startswith("emulated_") for record in run.records for item in record.measurements)
    assert {answer.measured for answer in constants.answers(run.records)} == {None}
    shown = show.values([path])
    assert {str(row["metric"])[:9] for row in shown if row["status"] == "ok"} == {"emulated_"}


def emulated(name: str, **options) -> list[Record]:
    arguments = {"limited": True, "cpus": (0,), "cache": None, "code": items.Code(), "finished": lambda *_: False}
    return list(items.measure(name, True, **(arguments | {"watch": lambda _: None} | options)))


def test_a_worker_that_dies_costs_its_part_alone(tmp_path, monkeypatch):
    started = []

    class Remembered(items.WorkerProcess):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)

    def kill(text: str) -> None:
        if "latency-C4" in text:
            started[-1].kill()

    monkeypatch.setattr(items, "WorkerProcess", Remembered)
    found = {record.case: record for record in emulated("sends", cache=tmp_path, watch=kill)}
    died = found.pop("latency-C4")
    assert (died.status, died.kind) == ("failed", "crash")
    assert len(found) == 5 and {record.status for record in found.values()} == {"ok"}
    assert len(started) == 2


def test_what_a_budget_does_not_reach_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(ITEMS, "sends", dataclasses.replace(ITEMS["sends"], budget=-1.0))
    found = emulated("sends", cache=tmp_path)
    assert len(found) == 6
    assert all(record.status == "skipped" and record.reason.startswith("not measured: the") for record in found)


def test_an_item_that_cannot_begin_is_one_record(tmp_path):
    asked = items.measure("sends", False, True, (0,), tmp_path, items.Code(), lambda *_: False, lambda _: None)
    pytest.importorskip("torch")
    if __import__("torch").cuda.is_available():
        pytest.skip("there is a GPU here")
    (record,) = asked
    assert record.status == "skipped" and "finds no CUDA device" in record.reason


def test_a_gpu_without_clusters_says_what_cannot_be_measured():
    from bench.gpu import items as gpu_items
    from bench.gpu.station import open_station
    from bench.prepare import Skip

    ampere = dataclasses.replace(open_station(emulated=True), target="sm_80")
    for name in ("occupancy", "sends"):
        with pytest.raises(Skip, match=r"not measured: thread-block clusters need compute capability 9\.0"):
            gpu_items.parts(name, ampere)
    assert not any("wgmma" in part["key"] for part in gpu_items.parts("products", ampere))
    assert not any("cluster" in part["key"] for part in gpu_items.parts("correctness", ampere))


def test_the_plan_fits_nine_minutes_and_reaches_every_point():
    plan = gpu_plan.make()
    assert plan == Plan.from_dict(plan.to_dict())
    assert plan.time_budget is not None and plan.time_budget < 540
    assert sum(item.budget for item in ITEMS.values()) < plan.time_budget
    assert all(predicted > 0 for *_, predicted, _ in gpu_plan.predicted(plan))
    stages = list(plan.stages(0))
    keys = [task.case.key for stage in stages for task in stage]
    assert len(keys) == len(set(keys)) == 6 * 6 * 3 * 2
    assert {task.case.spec.hidden_size for task in stages[0]} == {256, 512, 1024}
    assert plan.backends[0] == "cuda" and {"cudnn", "jax", "torch"} <= set(plan.backends)


def answered(metric: str, value: float, device: str = "cuda", **provenance: str) -> constants.Answer:
    parameters = {"device": device, "constant": "K", "written_in": "plan.py", "assumed": 16.0, "takes": "least"}
    samples = Measurement(metric, "B/cycle", (value, value, 2 * value))
    (answer,) = constants.answers(
        [Record("gpu_sends", "a", "probe", 0, "ok", parameters, measurements=(samples,), provenance=provenance)]
    )
    return answer


def test_a_measured_constant_says_what_to_write():
    assert answered("ingress", 17.0).verdict == "keep"
    found = answered("ingress", 24.0)
    assert (found.measured, found.verdict) == (24.0, "write 24.0 in plan.py")


@pytest.mark.parametrize("made", [("ingress", 24.0, "cpu"), ("emulated_ingress", 24.0)], ids=["by its device", "by its metric"])
def test_an_emulated_number_never_answers_a_constant(made):
    assert answered(*made).measured is None
    assert answered("ingress", 24.0, emulated="true").measured is None


def test_without_a_gpu_it_says_so(monkeypatch):
    from impls import Unavailable
    from lstm_bench import gpu_check

    monkeypatch.setattr("bench.environment.gpu_list", list)
    with pytest.raises(Unavailable, match=r"found no NVIDIA GPU .* --emulate"):
        gpu_check.gpu_check()
