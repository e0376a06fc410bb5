"""Whole tasks on the machines of a fleet: who carries out which, what is kept of lost machines, and what travels."""

from __future__ import annotations

import importlib
import io
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from bench.fleet import shipping
from bench.fleet.head import Refused
from bench.fleet.machine import Machine
from bench.fleet.share import HOST
from bench.fleet.shipping import Place
from bench.fleet.tasks import Done, Head, Order, Tasks
from bench.machine import environment
from bench.machine.lock import FOLDER_VARIABLE
from bench.processes.code import VARIABLE
from bench.regression.revisions import Repository, code_of, packed, unpacked
from results import store
from results.record import Footer, Header, Measurement, Record, decode, encode
from tests.bench.conftest import Collector
from tests.bench.fleet.test_head import DESCRIBED, introduced

COMMITS = [f"{number:040}" for number in range(8)]


def header_of(commit: str, host: str) -> Header:
    described = DESCRIBED | {"host": host, "git": {"commit": commit, "committed": None, "dirty": False}}
    return Header(f"120000-{commit[-2:]}", "2026-01-01T12:00:00+00:00", 2, "machine", described, {"studies": ["fake"]})


def record(case: int, host: str = "") -> Record:
    marks = {HOST: host} if host else {}
    return Record(
        "fake", f"case{case}", "numpy", 0, "ok", {}, measurements=(Measurement("time", "s", (1e-6,)),), conditions=marks
    )


def job(task: str, place: Place, listener: Any) -> str:
    """Writes a run of three records, but for those that are there already."""
    found = store.find(place.runs)
    writer = store.Writer(found[0]) if found else store.create(place.runs, header_of(task, environment.host() or ""))
    there = {its.case for its in store.read(writer.path).records}
    for case in (case for case in range(3) if f"case{case}" not in there):
        writer.append(record(case))
        listener.on_records([record(case)])
    writer.append(Footer("2026-01-01T12:01:00+00:00", True, 1.0, 1.0))
    writer.close()
    return f"{task[-2:]} on {place.given}"


def lines(order: Order, host: str, cases: int = 3) -> list[tuple[str, Any]]:
    """What a machine sends of an order, each task up to so many cases."""
    sent: list[tuple[str, Any]] = []
    for number, commit, begun in order.tasks:
        place = next(iter(begun), f"{commit}.jsonl")
        there = sum('"line":"record"' in line for line in "".join(begun.values()).split("\n"))
        made = [] if begun else [encode(header_of(commit, host))]
        made += [encode(record(case, host)) for case in range(there, cases)]
        made += [encode(Footer("2026-01-01T12:01:00+00:00", True, 1.0, 1.0))] if cases == 3 else []
        sent += [("lines", (number, place, made)), *([("result", (number, "done"))] if cases == 3 else [])]
    return sent


@dataclass
class Fleet:
    """A head, and machines that only pretend to carry out what they are told."""

    head: Head
    hosts: dict[str, str] = field(default_factory=dict)

    def join(self, name: str, host: str, **introduction: Any) -> None:
        self.head.join(name, introduced(host, **introduction))
        self.hosts[name] = host

    def carry_out(self, name: str, cases: int = 3) -> Order | None:
        order = self.head.next(name)
        if order is not None:
            for kind, value in lines(order, self.hosts[name], cases):
                self.head.hear(name, kind, value)
            if cases == 3:
                self.head.ended(name)
        return order

    def lose(self, name: str) -> None:
        self.head.lost(name)
        del self.hosts[name]

    def finish(self) -> None:
        while not self.head.done:
            assert any([self.carry_out(name) for name in list(self.hosts)])
        assert not self.head.close("interrupted")


def unfinished(root: Path, commit: str) -> list[Path]:
    return [path for path in store.find(root) if store.header_of(path).environment["git"]["commit"] == commit]


@pytest.fixture
def fleet(tmp_path: Path, collector: Collector) -> Fleet:
    begun = lambda kind, host, task: unfinished(tmp_path, task) if tmp_path.is_dir() else []  # noqa: E731
    return Fleet(Head(Tasks(job, COMMITS, "cpu", tmp_path, pooled=True, begun=begun), collector))


def commits(root: Path) -> Counter[str]:
    return Counter(store.header_of(path).environment["git"]["commit"] for path in store.find(root))


def test_identical_machines_share_out_the_tasks(fleet: Fleet, tmp_path: Path, collector: Collector):
    fleet.join("m0", "host0")
    fleet.join("m1", "host1")
    fleet.finish()
    assert commits(tmp_path) == Counter(COMMITS) and len(collector.records) == 3 * len(COMMITS)
    by = {run.header.run: {its.conditions[HOST] for its in run.records} for run in map(store.read, store.find(tmp_path))}
    assert all(len(hosts) == 1 for hosts in by.values()) and set.union(*by.values()) == {"host0", "host1"}
    fleets = {repr(store.header_of(path).environment["fleet"]) for path in store.find(tmp_path)}
    assert len(fleets) == 1 and "fingerprint" in fleets.pop()
    assert all(store.read(path).finished for path in store.find(tmp_path))


def test_each_kind_of_machine_carries_out_all_tasks(fleet: Fleet, tmp_path: Path):
    fleet.join("m0", "host0")
    fleet.join("m1", "host1", governor="powersave")
    order = fleet.head.next("m1")
    assert order is not None and order.given is None and order.pooled
    for kind, value in lines(order, "host1"):
        fleet.head.hear("m1", kind, value)
    fleet.head.ended("m1")
    while not fleet.head.done:
        assert any([fleet.carry_out(name) for name in ("m0", "m1")])
    by: dict[str, Counter[str]] = {}
    for done in fleet.head.done_tasks:
        by.setdefault(done.kind.fingerprint, Counter())[COMMITS[done.number]] += 1
    assert len(by) == 2 and all(count == Counter(COMMITS) for count in by.values())


def test_other_software_is_refused_by_the_head_of_tasks(fleet: Fleet):
    fleet.join("m0", "host0")
    with pytest.raises(Refused, match=r"m1 has numpy 1\.0 and not "):
        fleet.join("m1", "host1", packages={"numpy": "1.0"})
    with pytest.raises(Refused, match=r"m1 has blas other 1\.0 and not .*the same build on all"):
        fleet.join("m1", "host1", blas="other 1.0")
    assert list(fleet.head.machines) == ["m0"]


def test_which_commit_this_code_is_the_head_knows(fleet: Fleet, tmp_path: Path):
    fleet.join("m0", "host0")
    order = fleet.head.next("m0")
    assert order is not None
    (number, *_) = order.tasks[0]
    for place, code in (("a", environment.code_hash()), ("b", "another")):
        header = header_of("", "host0")
        unknown = {"commit": None, "committed": None, "dirty": None, "reason": "no repository"}
        header = replace(header, run=place, environment=header.environment | {"git": unknown, "code": code})
        fleet.head.hear("m0", "lines", (number, f"{place}.jsonl", [encode(header)]))
    found = {store.header_of(path).run: store.header_of(path).environment["git"] for path in store.find(tmp_path)}
    assert found["a"] == DESCRIBED["git"] and found["b"]["commit"] is None


def test_a_lost_machines_run_is_finished_by_another(fleet: Fleet, tmp_path: Path, collector: Collector):
    fleet.join("m0", "host0")
    order = fleet.carry_out("m0", cases=2)
    assert order is not None
    (first, *_) = order.tasks
    path = unfinished(tmp_path, first[1])[0]
    fleet.lose("m0")
    left = store.read(path)
    assert len(left.records) == 2 and left.footer is not None and left.footer.note == "its machine was lost"
    fleet.join("m1", "host1")
    fleet.finish()
    run = store.read(path)
    assert commits(tmp_path) == Counter(COMMITS), "the run of the lost machine went on, none was begun anew"
    assert run.finished and [its.conditions[HOST] for its in run.records] == ["host0", "host0", "host1"]
    assert len(collector.records) == 3 * len(COMMITS), "nothing is stored twice"


def test_tasks_without_a_machine_are_given_up(fleet: Fleet):
    now = [0.0]
    fleet.head.clock = lambda: now[0]
    fleet.join("m0", "host0")
    fleet.carry_out("m0")
    done = len(fleet.head.done_tasks)
    fleet.lose("m0")
    fleet.head.give_up_after(120)
    assert not fleet.head.done
    now[0] = 120.0
    fleet.head.give_up_after(120)
    assert fleet.head.done and 0 < done < len(COMMITS)
    assert [its.result for its in fleet.head.done_tasks[done:]] == [None] * (len(COMMITS) - done)


def test_what_an_earlier_fleet_finished_is_not_carried_out_again(tmp_path: Path, collector: Collector):
    heard: list[Done] = []
    finished: Mapping[int, list[Path]] = {1: [tmp_path / "a"], 2: [tmp_path / "b"]}
    fleet = Fleet(Head(Tasks(job, COMMITS, "cpu", tmp_path, finished=lambda kind: finished), collector, heard.append))
    fleet.join("m0", "host0")
    assert [its.number for its in heard] == [1, 2]
    fleet.finish()
    assert commits(tmp_path) == Counter(COMMITS[:1] + COMMITS[3:]) and len(heard) == len(COMMITS)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    made = Machine(takes_turns=True)
    made.fingerprint = "0123"
    return made


def test_a_machine_hands_out_the_lines_of_the_runs_it_writes(machine: Machine, tmp_path: Path, collector: Collector):
    head = Head(Tasks(job, COMMITS[:2], "cpu", tmp_path / "head"), collector)
    head.join("m", introduced("host"))
    while (order := head.next("m")) is not None:
        for kind, value in machine.carry_out(*order):
            head.hear("m", kind, value)
        head.ended("m")
    assert head.done and [its.result for its in head.done_tasks] == ["00 on None", "01 on None"]
    for path in store.find(tmp_path / "head"):
        run = store.read(path)
        assert run.finished and not run.damaged and len(run.records) == 3
        assert {its.conditions[HOST] for its in run.records} == {machine.host} == {run.header.environment["host"]}


def test_pooled_runs_are_of_one_host_and_go_on_on_another(machine: Machine):
    begun = encode(header_of(COMMITS[0], "pool")) + "\n" + encode(record(0, "another")) + "\n"
    events = list(machine.carry_out(job, "cpu", [(0, COMMITS[0], {"a/run.jsonl": begun}), (1, COMMITS[1], {})], "x", True))
    sent = {value[0]: value for kind, value in events if kind == "lines"}
    texts = {number: [decode(line) for kind, value in events if kind == "lines" and value[0] == number for line in value[2]]
             for number in (0, 1)}  # fmt: skip
    assert sent[0][1] == "a/run.jsonl" and [its.case for its in texts[0] if isinstance(its, Record)] == ["case1", "case2"]
    (header,) = [its for its in texts[1] if isinstance(its, Header)]
    assert header.environment["host"] != machine.host and environment.host() == (
        machine.host if machine.host[:4] != "pid-" else None
    )


def test_an_error_of_a_task_ends_the_machines_share(machine: Machine):
    def full(task: str, place: Place, listener: Any) -> None:
        raise store.WriteFailed("no space left")

    with pytest.raises(store.WriteFailed):
        list(machine.carry_out(full, "cpu", [(0, "", {})], None, False))


def test_the_code_that_travels_is_this_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "own.py").write_text("load = 1\n")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "mine"))
    with shipping.code_folder() as folder:
        assert environment.code_hash(folder) == environment.code_hash()
        assert {path.name for path in folder.iterdir()} == {*shipping.PACKAGES, shipping.SUPPLIED, "__init__.py"}
        assert (folder / shipping.SUPPLIED / "0" / "own.py").is_file() and not list(folder.rglob("*.jsonl"))
        monkeypatch.setattr("sys.path", [str(folder.parent), *sys.path])
        monkeypatch.chdir(tmp_path)
        module, hook = shipping.HOOK.split(".")
        getattr(importlib.import_module(module), hook)()
        assert sys.path[0] == str(folder) and Path.cwd() == folder
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(environment, "ROOT", folder)
        assert shipping.supplied() == [folder / shipping.SUPPLIED / "0"]
        (folder / "bench" / "costs.py").write_text("# another\n")
        assert environment.code_hash(folder) != environment.code_hash(Path(shipping.__file__).parents[2])
    assert not folder.exists()


def test_a_parcel_that_was_damaged_is_refused():
    sent = shipping.Parcel.of({"commits": b"whole"})
    assert sent.open("commits") == b"whole"
    with pytest.raises(shipping.Damaged, match=r"its commits has the hash \w{12} and not \w{12}: it was damaged on the way"):
        replace(sent, contents={"commits": b"hole"}).open("commits")
    with pytest.raises(shipping.Damaged, match="no corpus came with the task"):
        sent.open("corpus")


def test_commits_travel_without_their_history(tmp_path: Path):
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        command = ["git", *who, "-C", str(tmp_path / "origin"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    (tmp_path / "origin").mkdir()
    git("init", "--quiet")
    made = []
    for number in range(4):
        (tmp_path / "origin" / "file").write_text(f"{number}\n")
        git("add", "--all")
        git("commit", "--quiet", "--message", str(number))
        made.append(git("rev-parse", "HEAD"))
    (tmp_path / "origin" / "file").write_text("not committed\n")
    sent = Repository(unpacked(packed(Repository(tmp_path / "origin"), made[:2]), tmp_path / "there"))
    assert sent.resolve("HEAD") == made[3] and sent.git("rev-list", "--all", "HEAD", *made[:2]).split() != made
    for number in (0, 1):
        with code_of(sent, made[number]) as code:
            assert (code.root / "file").read_text() == f"{number}\n" and code.commit == made[number]
    with pytest.raises(Exception, match=made[2]):
        sent.git("cat-file", "-p", made[2])


def test_commits_are_unpacked_nowhere_else(tmp_path: Path):
    contents = io.BytesIO()
    with zipfile.ZipFile(contents, "w") as archive:
        archive.writestr("../outside", "")
        archive.writestr(str(tmp_path / "absolute"), "")
    unpacked(contents.getvalue(), tmp_path / "there")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
