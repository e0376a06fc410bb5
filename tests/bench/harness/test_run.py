"""Whole runs: every outcome on disk, nothing lost to a kill, nothing measured twice, budgets kept, locks held."""

from __future__ import annotations

import dataclasses
import errno
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.harness import plan, session, study
from bench.harness import standalone as alone
from bench.harness.session import NothingToResume
from bench.machine import system
from bench.machine.lock import DeviceBusy, device_lock
from bench.processes import rounds
from lstm_bench.views import run_summary
from results import store
from results.record import HOST_PEAK, Footer, Record
from results.store import StoreError
from tests.bench.conftest import Collector

KILLS = 10
LEAST_SHARE, LARGEST_SHARE = (
    0.02,
    0.12,
)  # of an undisturbed run, after which it is killed: late enough for a record now and then


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What killed runs leave behind lies there."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


def smoke(*backends: str, **options) -> plan.Plan:
    """The smoke suite without the studies that compute for seconds on end: what is tested here is how a run goes."""
    made = plan.make("smoke", backends or ("numpy",), threads=1, **options)
    return dataclasses.replace(made, studies=(study.get("throughput"), study.get("memory")))


class Whole(NamedTuple):
    """A run from its beginning to its end, the machine's peaks included."""

    plan: plan.Plan
    path: Path
    footer: Footer
    expected: int


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    root, collector = tmp_path_factory.mktemp("whole"), Collector()
    chosen = dataclasses.replace(smoke("numpy", replicates=2), suite="every")  # the scale of smoke, and the peaks
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(root))
        patch.setattr("tempfile.tempdir", None)
        path, footer = session.start(chosen, root, collector)
    return Whole(chosen, path, footer, collector.expected)


def test_a_run_holds_every_case_of_its_plan_and_ends_complete(whole):
    chosen, path, footer, expected = whole
    run = store.read(path)
    turned = {("throughput", case.key, "numpy", n) for case in chosen.cases(study.get("throughput")) for n in range(2)}
    alone = {("memory", case.key, "numpy", 0) for case in chosen.cases(study.get("memory"))}
    assert {record.task for record in run.records} >= turned | alone
    assert footer.complete and run.finished
    assert all(record.status == "ok" for record in run.records), [record.reason for record in run.records]
    assert expected == len(turned | alone)
    assert path.parts[-3:-1] == (run.header.started[:10], run.header.machine)


def test_each_repetition_has_a_fresh_worker(tmp_path, collector, monkeypatch):
    often = dataclasses.replace(study.get("memory"), repetitions=lambda case: 3)
    monkeypatch.setattr("bench.studies.memory.STUDY", often)
    chosen = dataclasses.replace(smoke("numpy"), studies=(study.get("memory"),))
    path, footer = session.start(chosen, tmp_path, collector)
    found = {record.task for record in store.read(path).records if record.study == "memory"}
    assert footer.complete
    assert found == {("memory", case.key, "numpy", n) for case in chosen.cases(chosen.studies[0]) for n in range(3)}
    assert collector.expected == len(found)


def test_later_replicates_begin_with_what_needs_fresh_workers(tmp_path, collector, monkeypatch):
    """Two cases of memory and three replicates: the second and third begin with one each, and no worker is started for them."""
    two = tuple(dataclasses.replace(case, batch=batch) for case in study.get("memory").cases["smoke"] for batch in (2, 4))
    monkeypatch.setattr("bench.studies.memory.STUDY", dataclasses.replace(study.get("memory"), cases={"smoke": two}))
    monkeypatch.setattr(alone, "measure", lambda jobs, *_: pytest.fail("a worker of its own") if jobs else (_ for _ in ()))
    path, footer = session.start(smoke("numpy", replicates=3, where=["phase=forward_backward"]), tmp_path, collector)
    order = [
        (record.study, record.replicate) for record in store.read(path).records if record.study in ("memory", "throughput")
    ]
    assert order == [("throughput", 0), ("memory", 0), ("throughput", 1), ("memory", 0), ("throughput", 2)]
    assert footer.complete and collector.expected == len(order)


def test_what_is_timed_alone_gets_all_processors_at_once(tmp_path, collector, monkeypatch):
    two = tuple(dataclasses.replace(case, batch=batch) for case in study.get("memory").cases["smoke"] for batch in (2, 4))
    timed = dataclasses.replace(study.get("memory"), cases={"smoke": two}, all_processors=lambda case: case.batch == 4)
    monkeypatch.setattr("bench.studies.memory.STUDY", timed)
    given = []

    def measure(jobs, slots, *_):
        given.append(([task.case.batch for task, _ in jobs], [tuple(cpus) for cpus in slots]))
        yield from ()

    monkeypatch.setattr(alone, "measure", measure)
    chosen = dataclasses.replace(smoke("numpy"), studies=(study.get("memory"),), threads=min(2, len(system.usable())))
    session.start(chosen, tmp_path, collector)
    (others, apart), (by_themselves, together) = given
    assert (others, by_themselves) == ([2], [4])
    assert len(apart) == chosen.threads and together == [tuple(cpu for (cpu,) in apart)]


def test_a_run_tells_warm_up_from_samples(whole):
    path, footer = whole.path, whole.footer
    assert footer.warm_up_seconds and 0 < footer.warm_up_seconds < footer.measuring_seconds < footer.seconds
    said = next(line for line in run_summary.lines(store.read(path), footer) if line.startswith("time: "))
    shares = [float(share) for share in re.findall(r"([\d.]+) %", said)]
    assert len(shares) == 3 and abs(sum(shares) - 100) <= 1


def test_every_worker_says_what_memory_it_held_at_most(whole):
    records = [record for record in store.read(whole.path).records if record.status == "ok"]
    peaks = [(record.conditions[HOST_PEAK], record.study, record.case) for record in records]
    assert all(10e6 < peak < 4e9 for peak, *_ in peaks) and max(peaks)[1] == "ceilings", "it copies a quarter of a gigabyte"


def test_misbehaving_backends_do_not_stop_a_run(misbehaving, tmp_path, collector, monkeypatch):
    monkeypatch.setattr(rounds, "PREPARE_SECONDS", 5.0)
    path, footer = session.start(
        smoke("numpy", "segfaulting", "raising", "hanging", where=["phase=forward"]), tmp_path, collector
    )
    found = {
        (record.backend, record.status, record.kind) for record in store.read(path).records if record.study == "throughput"
    }
    assert found == {
        ("numpy", "ok", None),
        ("segfaulting", "failed", "crash"),
        ("raising", "failed", "error"),
        ("hanging", "failed", "timeout"),
    }
    assert footer.complete


def test_a_case_that_failed_is_not_asked_again(misbehaving, tmp_path, collector):
    path, _ = session.start(smoke("numpy", "raising", where=["phase=forward"], replicates=3), tmp_path, collector)
    counted = Counter(record.backend for record in store.read(path).records if record.study == "throughput")
    assert counted == {"numpy": 3, "raising": 1}


def test_killed_ten_times_at_random_it_resumes_to_the_same_set(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    killed.mkdir()
    asked = ["run", "every", "--backend", "numpy", "--threads", 1, "--replicates", 8]
    started = time.monotonic()
    subprocess.run(_command(*asked, "--out", whole), check=True, capture_output=True)
    took = time.monotonic() - started  # a busy machine takes longer to every place where it may be killed
    wait, kills = random.Random(0), 0
    while kills < KILLS:
        command = _command("run", "--resume") if store.find(killed) else _command(*asked)
        running = subprocess.Popen([*command, "--out", str(killed)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(took * wait.uniform(LEAST_SHARE, LARGEST_SHARE))
        while kills == KILLS - 1 and not _stored(killed) and running.poll() is None:  # a machine that has become slower
            time.sleep(0.05)
        assert running.poll() is None, f"the run was over after {kills} kills"
        running.send_signal(signal.SIGKILL)
        running.wait()
        kills += 1
    between = _stored(killed)
    subprocess.run(_command("run", "--resume", "--out", killed), check=True, capture_output=True)
    (path,), (reference,) = store.find(killed), store.find(whole)
    tasks = Counter(record.task for record in _every_record(path))
    assert tasks == Counter(record.task for record in _every_record(reference))
    assert 0 < len(between) < len(tasks), "the kills came in the middle of the work"
    assert store.read(path).finished


def _stored(root: Path) -> tuple[Record, ...]:
    """The records so far of the one run below a folder."""
    return tuple(record for path in store.find(root) for record in store.read(path).records)


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "lstm_bench", *map(str, arguments)]


def _every_record(path: Path):
    """Records as they lie in the file: `read` would hide one measured twice."""
    return [line for _, line in store._lines(path) if isinstance(line, store.Record)]


def test_ctrl_c_leaves_a_valid_run_that_resume_finishes(tmp_path, collector):
    class Impatient(type(collector)):
        def on_records(self, records):
            super().on_records(records)
            if len(self.records) == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.start(smoke(), tmp_path, Impatient())
    (path,) = store.find(tmp_path)
    interrupted = store.read(path)
    assert interrupted.footer is not None and interrupted.footer.note == "interrupted" and not interrupted.finished
    again, _ = session.resume(tmp_path, collector)
    assert again == path and store.read(path).finished
    assert not {record.task for record in interrupted.records} & {record.task for record in collector.records}


def test_nothing_to_resume_is_said(tmp_path, collector):
    with pytest.raises(NothingToResume, match="no unfinished run below"):
        session.resume(tmp_path, collector)


def test_a_run_of_other_software_is_not_continued(tmp_path, collector, monkeypatch):
    class Impatient(type(collector)):
        def on_records(self, records):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.start(smoke(), tmp_path, Impatient())
    monkeypatch.setattr("bench.machine.environment.PROTOCOL", 99)
    with pytest.raises(StoreError, match="their numbers do not compare: start a new run"):
        session.resume(tmp_path, collector)


def test_a_full_disk_loses_nothing_and_says_what_to_do(tmp_path, collector, monkeypatch):
    write, failed = os.write, []

    def full(handle: int, data: bytes) -> int:
        if b'"study":"throughput"' in data and not failed:
            failed.append(True)
            write(handle, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, data)

    monkeypatch.setattr(store.os, "write", full)
    with pytest.raises(StoreError, match=r"No space left on device.*--resume"):
        session.start(smoke(), tmp_path, collector)
    monkeypatch.setattr(store.os, "write", write)
    (path,) = store.find(tmp_path)
    assert [record.study for record in _every_record(path)] == ["overhead"]
    session.resume(tmp_path, collector)
    assert store.read(path).finished


def test_two_runs_at_once_on_one_device_are_refused(tmp_path, collector):
    with device_lock("cpu"), pytest.raises(DeviceBusy, match=f"process {os.getpid()}"):
        session.start(smoke(), tmp_path, collector)


def test_a_budget_is_spent_on_more_replicates_and_kept(tmp_path, collector):
    started = time.monotonic()
    path, footer = session.start(smoke(time_budget=8.0, where=["phase=forward"]), tmp_path, collector)
    assert time.monotonic() - started < 20
    assert footer.complete and footer.note == "time budget spent"
    replicates = {record.replicate for record in store.read(path).records if record.study == "throughput"}
    assert len(replicates) > 1


def test_a_budget_that_is_too_small_says_so(tmp_path, collector):
    _, footer = session.start(smoke(time_budget=0.01), tmp_path, collector)
    assert "before every case had its replicates" in footer.note
