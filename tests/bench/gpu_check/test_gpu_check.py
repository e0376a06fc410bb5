"""gpu-check under the emulation: interrupted and resumed, read by every reader, its dead workers replaced; its order and its
limits of time, and the table that it ends with."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter

import pytest

from analysis import gpu_check as constants
from analysis.report import summary
from bench.gpu_check.groups import GROUPS
from bench.harness import gpu_check as gpu_check_plan
from bench.harness import session, study
from bench.harness.case import Case
from bench.harness.plan import Plan
from bench.harness.run import Run
from lstm_bench.views import gpu_check as views_gpu_check
from results import store
from results.record import Header, Measurement, Record
from results.store import Writer
from tests.bench.conftest import Collector


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """Tests may run while a person measures: their lock, and what they register lies elsewhere."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("LSTM_BENCH_BACKENDS", "")
    monkeypatch.setattr("impls.backends.__path__", list(__import__("impls.backends").backends.__path__))


class Interrupting:
    """A listener that presses Ctrl-C when the first record of a study is on disk."""

    def __init__(self, study: str) -> None:
        self.study = study

    def on_planned(self, study, records):
        pass

    def on_status(self, text):
        pass

    def on_records(self, records):
        if records[0].study == self.study:
            raise KeyboardInterrupt


@pytest.mark.timeout(900)  # a minute on two idle cores; compiles some twenty kernels for the CPU
def test_end_to_end_without_a_gpu_interrupted_and_resumed(tmp_path, collector):
    with pytest.raises(KeyboardInterrupt):
        session.start(gpu_check_plan.make(emulated=True), tmp_path, Interrupting("gpu_products"))
    (path,) = store.find(tmp_path)
    before = {record.task for record in store.read(path).records}
    session.resume(tmp_path, collector)
    run = store.read(path)
    assert run.finished
    assert not before & {record.task for record in collector.records}, "nothing is measured twice"
    counted = Counter(record.study for record in run.records)
    assert set(counted) == {f"gpu_{name}" for name in GROUPS} | {"goal", "overhead"}
    first = list(dict.fromkeys(record.study for record in run.records))
    assert first[:2] == ["gpu_correctness", "gpu_operators"] and first.index("goal") < first.index("gpu_sends"), (
        "the stated order"
    )
    wrong = [record for record in run.records if record.status == "failed"]
    assert not wrong, wrong[0].reason
    skipped = [record for record in run.records if record.status == "skipped"]
    assert {record.skip for record in skipped} == {"not_measured"} and all(record.is_unmeasured for record in skipped)
    # No reader can take anything of it for a GPU's.
    assert all(record.provenance["emulated"] == "true" for record in run.records)
    assert all(record.parameters["device"] == "cpu" for record in run.records)
    assert all(item.metric.startswith("emulated_") for record in run.records for item in record.measurements)
    assert {answer.measured for answer in constants.answers(run.records)} == {None}
    table = list(views_gpu_check.lines(run))
    assert table[0].startswith("EMULATED") and max(map(len, table)) <= 80
    grid = [line.split() for line in table if line.startswith("H 16")]
    assert len(grid) == 4 and all(line[-4:] == ["-"] * 4 and "ok" in line for line in grid), "no time of a CPU stands there"
    shown = summary.values([path])
    assert {str(row["metric"])[:9] for row in shown if row["status"] == "ok"} == {"emulated_"}


def emulated(*names: str, **options) -> list[Record]:
    arguments = {"ends": None, "cpus": (0,), "cache": None, "code": gpu_check_plan.Code(), "is_finished": lambda *_: False}
    return list(gpu_check_plan.CheckGroups(True, **(arguments | {"on_status": lambda _: None} | options)).measure(names))


def test_a_worker_that_dies_costs_its_part_alone(tmp_path, monkeypatch):
    started = []

    class Remembered(gpu_check_plan.WorkerProcess):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)

    def kill(text: str) -> None:
        if "latency-C4" in text:
            started[-1].kill()

    monkeypatch.setattr(gpu_check_plan, "WorkerProcess", Remembered)
    found = {record.case: record for record in emulated("sends", cache=tmp_path, on_status=kill)}
    died = found.pop("latency-C4")
    assert (died.status, died.kind) == ("failed", "crash")
    assert len(found) == 5 and {record.status for record in found.values()} == {"ok"}
    assert len(started) == 2


class Slow:
    """A worker without a process: it lists four parts of `sends`, each of which takes 10 s of a clock that is not the real one.

    A part that may not take so long is killed, as by `bench.processes.process`.
    """

    now = 0.0
    started: list[Slow]

    def __init__(self, backend, cpus, cache, start_seconds, code):
        self.waited, self.closed = [start_seconds], False
        Slow.started.append(self)

    def await_start(self):
        Slow.now += 5.0 * (len(self.waited) == 1)

    def request(self, operation, timeout, /, **arguments):
        self.waited.append(timeout)
        if operation == "parts":
            return {"status": "ok", "parts": [{"key": f"part-{number}", "parameters": {}} for number in range(4)]}
        Slow.now += min(timeout, 10.0)
        if timeout < 10.0:
            raise gpu_check_plan.WorkerFailed("timeout", "killed")
        return {"status": "ok", "measurements": []}

    def close(self):
        self.closed = True


@pytest.fixture
def slow(monkeypatch):
    Slow.now, Slow.started = 0.0, []
    monkeypatch.setattr(gpu_check_plan, "WorkerProcess", Slow)
    monkeypatch.setattr(gpu_check_plan.time, "monotonic", lambda: Slow.now)
    return Slow


def limited(names: list[str], ends: float | None) -> list[tuple[str, str, str | None]]:
    measured = gpu_check_plan.CheckGroups(False, ends, (0,), None, gpu_check_plan.Code())  # type: ignore[arg-type]
    return [(record.study, record.case, record.kind or record.status) for record in measured.measure(names)]


def test_a_group_ends_within_its_budget(slow, monkeypatch):
    monkeypatch.setitem(GROUPS, "sends", dataclasses.replace(GROUPS["sends"], budget=28.0))
    assert limited(["sends"], 1000.0) == [
        ("gpu_sends", "part-0", "ok"), ("gpu_sends", "part-1", "ok"), ("gpu_sends", "part-2", "timeout"),
        ("gpu_sends", "part-3", "skipped"),
    ]  # fmt: skip
    assert slow.now == 28.0 and all(worker.closed for worker in slow.started)
    assert slow.started[0].waited[0] == 28.0, "the worker's start counts too"


def test_nothing_outlives_the_end_of_the_whole_check(slow):
    found = limited(["sends", "exchange", "products"], 22.0)
    assert [result for _, _, result in found] == ["ok", "timeout", "skipped", "skipped", "skipped", "skipped"]
    assert {case for study, case, _ in found if study in ("gpu_exchange", "gpu_products")} == {gpu_check_plan.LIST}
    assert slow.now == 22.0


def test_without_a_limit_every_part_is_measured_by_one_worker(slow):
    assert {result for *_, result in limited(["sends", "exchange"], None)} == {"ok"}
    assert len(slow.started) == 1


def test_the_grid_leaves_the_probes_their_time(tmp_path):
    plan = gpu_check_plan.make()
    run = Run(plan, Writer(tmp_path / "a.jsonl"), Collector(), started=time.monotonic())
    probes = sum(item.predicted for item in GROUPS.values() if not item.first)
    assert run._seconds_left() == pytest.approx(480 - probes, abs=5) and probes > 100
    # As though outputs and gradients had taken all they may.
    run.started -= sum(item.budget for item in GROUPS.values() if item.first)
    assert run._seconds_left() > 200


def test_an_item_that_cannot_begin_is_one_record(tmp_path):
    measured = gpu_check_plan.CheckGroups(False, None, (0,), tmp_path, gpu_check_plan.Code())
    asked = measured.measure(["sends"])
    pytest.importorskip("torch")
    if __import__("torch").cuda.is_available():
        pytest.skip("there is a GPU here")
    (record,) = asked
    assert record.status == "skipped" and "finds no CUDA device" in record.reason


def test_a_gpu_without_clusters_says_what_cannot_be_measured():
    from bench.gpu_check.device import open_context
    from bench.gpu_check.groups import list_checks
    from bench.worker.prepare import Skip

    ampere = dataclasses.replace(open_context(emulated=True), target="sm_80")
    for name in ("occupancy", "sends"):
        with pytest.raises(Skip, match=r"not measured: thread-block clusters need compute capability 9\.0"):
            list_checks(name, ampere)
    assert not any("wgmma" in check["key"] for check in list_checks("products", ampere))
    assert not any("cluster" in check["key"] for check in list_checks("correctness", ampere))


def test_the_plan_fits_eight_minutes_in_the_stated_order():
    plan = gpu_check_plan.make()
    assert plan == Plan.from_dict(plan.to_dict())
    assert plan.time_budget == 480 and plan.backends == ("cuda", "cudnn")
    assert sum(item.budget if item.first else item.predicted for item in GROUPS.values()) + 200 < plan.time_budget
    assert all(item.predicted < item.budget for item in GROUPS.values())
    rows = gpu_check_plan.predicted(plan)
    names = [row.name for row in rows]
    assert names[:4] == ["correctness", "operators", "grid", "sends"] and set(names) == {*GROUPS, "grid"}
    assert sum(min(row.predicted, row.at_most or 0) for row in rows) <= plan.time_budget
    assert all(0 < row.predicted for row in rows) and {row.source for row in rows} == {"measured", "modelled"}


def test_the_grid_is_bfloat16_in_cuda_graphs_its_middle_first():
    plan = gpu_check_plan.make()
    stages = list(plan.stages(0))
    cases = [task.case for stage in stages for task in stage]
    assert len({case.key for case in cases}) == len(cases) == 6 * 6 * 2
    assert {(case.spec.dtype, case.launch) for case in cases} == {("bfloat16", "graph")}
    middle = {(case.spec.hidden_size, case.batch) for case in (task.case for task in stages[0])}
    assert middle >= {(hidden, batch) for hidden in (256, 512, 1024) for batch in (1, 32, 128)}
    assert len(study.get("goal").cases["grid"]) == 6 * 6 * 3 * 2 * 2, "and run goal asks for the rest"


def timed(case: Case, backend: str, seconds: float | None, reason: str = "") -> Record:
    status = "ok" if seconds else "skipped" if reason.startswith("not measured") else "failed"
    samples = (Measurement("time", "s", (seconds, seconds, 9.0)),) if seconds else ()
    kind = "crash" if status == "failed" else None
    return Record("goal", case.key, backend, 0, status, case.to_dict(), reason, kind, samples)


def test_the_table_holds_what_a_developer_asks(tmp_path):
    cases = study.get("goal").cases["grid"]
    chosen = [case for case in cases if case.launch == "graph" and case.spec.dtype == "bfloat16" and case.phase == "forward"]
    one, two, three, four = chosen[:4]
    error = Measurement("error_share", "of what is allowed", (0.25,))
    spent = "not measured: the time of the grid was spent"
    kernel, illegal = {"device": "cuda", "design": "cluster", "dtype": "bfloat16"}, "CUDA_ERROR_ILLEGAL_INSTRUCTION: "
    records = [
        Record("gpu_correctness", "a", "probe", 0, "ok", kernel, measurements=(error,)),
        Record("gpu_correctness", "b", "probe", 0, "failed", kernel, illegal + "why " * 200, "crash"),
        Record("gpu_operators", "compiled-bfloat16", "probe", 0, "ok", {"device": "cuda"}, measurements=(error,)),
        timed(one, "cuda", 128 * 0.75e-6), timed(one, "cudnn", 128 * 6e-6),
        timed(two, "cuda", None, "CUDA_ERROR_ASSERT"), timed(two, "cudnn", 128 * 6e-6),
        timed(three, "cuda", None, spent), timed(three, "cudnn", None, spent),
        timed(four, "cuda", 128 * 0.75e-6), timed(four, "cudnn", None, spent),
        Record("gpu_sends", "latency-C4", "probe", 0, "ok", {"device": "cuda"}),
    ]  # fmt: skip
    state = {"git": {"commit": "a" * 40, "dirty": None}, "gpus": [{"name": "NVIDIA H100", "driver": "580"}], "packages": {}}
    header = Header("r", "2026-11-26T17:36:15+00:00", 1, "m", state, {"studies": ["goal"], "items": ["sends"]})
    lines = list(views_gpu_check.lines(store.Run(tmp_path, header, tuple(records), None)))
    assert max(map(len, lines)) <= 80 and all(line.isascii() for line in lines)
    text = "\n".join(lines)
    rows = {tuple(line.split()) for line in lines}
    size = [("H", str(case.spec.hidden_size), "B", str(case.batch), "forward", "bfloat16") for case in (one, two, four)]
    assert (*size[0], "ok", "0.75", "6.00", "8.00x", "-") in rows
    assert (*size[1], "ours", "failed", "-", "6.00", "-", "-") in rows
    assert any(row[:6] == size[2] and row[-4:] == ("0.75", "-", "-", "-") for row in rows)
    assert ("kernel", "cluster", "bfloat16", "1", "failed/2", "-", "-", "-", "0.25") in rows
    assert ("module", "compiled,", "bfloat16", "1", "ok", "-", "-", "-", "0.25") in rows
    assert ("cases", "that", "time", "did", "not", "reach", "1", "unmeasured", "-", "-", "-", "-") in rows
    assert "aaaaaaaaaaaa (changes unknown)" in text and "interrupted" in text and "NVIDIA H100, driver 580" in text
    assert "Failed: 2" in text and "correctness b: crash: CUDA_ERROR_ILLEGAL_INSTRUCTION" in text
    assert f"goal {two.key} on" in text.replace("\n    ", " ") and "Not measured: 3" in text


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
    from lstm_bench.commands import gpu_check

    monkeypatch.setattr("bench.machine.environment.gpu_list", list)
    with pytest.raises(Unavailable, match=r"found no NVIDIA GPU .* --emulate"):
        gpu_check.gpu_check()
