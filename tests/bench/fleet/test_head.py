"""What the head of a fleet decides and stores, with machines that only pretend to measure."""

from __future__ import annotations

import os
import tracemalloc
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from bench.fleet.head import FleetError, Head, Order, Refused
from bench.fleet.scheduler import LOSSES_ALONE, LOSSES_IN_COMPANY
from bench.fleet.share import HOST, SharePlan, expected, fingerprint, own_backends, software
from bench.harness import plan as harness_plan
from bench.harness.case import Case
from bench.harness.plan import Plan
from bench.harness.run import OVERHEAD, OVERHEAD_CASE
from bench.harness.study import Study
from bench.machine import environment
from impls import LSTMSpec
from results import store
from results.record import Measurement, Record, encode
from tests.bench.conftest import Collector
from tests.faults.dose import is_full

STUDY = Study("?", "", {"smoke": tuple(Case(LSTMSpec(4, 4), steps, 1) for steps in range(1, 41))}, name="fake")
PLAN = Plan("smoke", (STUDY,), ("numpy", "torch"), replicates=3)
DESCRIBED = environment.describe(1)


@pytest.fixture(autouse=True)
def findable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bench.harness.study.get", lambda name: STUDY)


def introduced(
    host: str,
    governor: str = "performance",
    backends: dict[str, str] | None = None,
    protocol: int = environment.PROTOCOL,
    **changes: Any,
) -> dict[str, Any]:
    described = DESCRIBED | {"cpu": DESCRIBED["cpu"] | {"governor": governor}, "host": host}
    described |= {name: DESCRIBED[name] | value if name == "packages" else value for name, value in changes.items()}
    described["packages"] = {name: version for name, version in described["packages"].items() if version}
    name = environment.machine_name(described)
    its = software(described, backends or {}, protocol)
    return {
        "threads": 1, "environment": described, "machine": name, "host": host, "software": its,
        "fingerprint": fingerprint(name, described, environment.PROTOCOL),
    }  # fmt: skip


def outcomes(order: Order, host: str, plan: Plan = PLAN) -> list[list[Record]]:
    """Overhead, then the outcomes of each case of an order as `Run` makes them of its share."""
    share = SharePlan.of(replace(plan, threads=1), order.share, order.number)
    found = [] if order.known else [[record(OVERHEAD.name, OVERHEAD_CASE, "null", 0, host)]]
    for task in share.replicate(0):
        found.append([record(task.study.name, task.case, name, 0, host) for name in task.backends])
    return found


def record(study: str, case: Case, backend: str, replicate: int, host: str) -> Record:
    time = Measurement("time", "s", (1e-6,))
    return Record(study, case.key, backend, replicate, "ok", case.to_dict(), measurements=(time,), conditions={HOST: host})


@dataclass
class Fleet:
    """A head, its machines by name with their hosts, and what they hear."""

    head: Head
    hosts: dict[str, str] = field(default_factory=dict)
    plan: Plan = PLAN

    def join(self, name: str, host: str, **introduction: Any) -> None:
        self.head.join(name, introduced(host, **introduction))
        self.hosts[name] = host

    def lose(self, name: str) -> None:
        self.head.lost(name)
        del self.hosts[name]

    def measure(self, name: str, cases: int | None = None) -> bool:
        """One share, or so many cases of it and the first outcome of the next. False where there is none."""
        order = self.head.next(name)
        if order is None:
            return False
        made = outcomes(order, self.hosts[name], self.plan)
        for records in made[:cases]:
            self.head.records(name, map(encode, records))
        if cases is None:
            self.head.ended(name)
        elif cases < len(made):
            self.head.records(name, [encode(made[cases][0])])
        return True

    def finish(self) -> None:
        while not self.head.done:
            assert any([self.measure(name) for name in list(self.hosts)])
        self.head.close()


@pytest.fixture
def fleet(tmp_path: Path, collector: Collector) -> Fleet:
    return Fleet(Head(PLAN, tmp_path, collector))


def stored(root: Path) -> list[store.Run]:
    return [store.read(path) for path in store.find(root)]


def wanted(plan: Plan = PLAN) -> set[tuple[str, str, str, int]]:
    return {
        (its.name, case.key, *outcome)
        for its in plan.studies
        for case in plan.cases(its)
        for replicate in range(plan.replicates)
        for outcome in expected(plan, its, case, replicate)
    }


def of_study(run: store.Run) -> list[Record]:
    return [its for its in run.records if its.study == STUDY.name]


def test_identical_hosts_share_the_cases_and_split_none(fleet: Fleet, tmp_path: Path, collector: Collector):
    for number in range(3):
        fleet.join(f"m{number}", f"host{number}")
    fleet.finish()
    (run,) = stored(tmp_path)
    assert {its.task for its in of_study(run)} == wanted() and len(collector.records) == len(run.records)
    assert run.finished and not run.damaged, "nothing is stored twice"
    by: dict[tuple[str, int], set[str]] = defaultdict(set)
    for its in of_study(run):
        by[its.case, its.replicate].add(its.conditions[HOST])
    assert all(len(hosts) == 1 for hosts in by.values()), "the backends of a case are measured on one host"
    cases = {case: {host for (its, _), hosts in by.items() if its == case for host in hosts} for case, _ in by}
    assert all(len(hosts) == 3 for hosts in cases.values()), "its replicates on different ones"
    overhead = [(its.replicate, its.conditions[HOST]) for its in run.records if its.study == OVERHEAD.name]
    assert sorted(overhead) == [(0, "host0"), (1, "host1"), (2, "host2")]


def test_common_cases_are_measured_on_every_host(fleet: Fleet, tmp_path: Path):
    for number in range(5):
        fleet.join(f"m{number}", f"host{number}")
    fleet.finish()
    common = {fleet.head.asked[case].case.key for case in fleet.head.scheduler.common}
    hosts = Counter((its.case, its.conditions[HOST]) for its in of_study(stored(tmp_path)[0]) if its.backend == "numpy")
    assert len(common) == 2 and {host for case, host in hosts if case in common} == {f"host{number}" for number in range(5)}
    assert all(hosts[case, f"host{number}"] == 1 for case in common for number in range(5))


def test_nodes_of_one_host_measure_common_cases_no_oftener(fleet: Fleet, tmp_path: Path):
    fleet.join("m0", "host")
    fleet.join("m1", "host")
    fleet.finish()
    assert {its.task for its in of_study(stored(tmp_path)[0])} == wanted()


def test_other_fingerprints_measure_the_whole_suite_each(fleet: Fleet, tmp_path: Path):
    fleet.join("m0", "host0")
    fleet.join("m1", "host1", governor="powersave")
    fleet.finish()
    runs = stored(tmp_path)
    assert len(runs) == 2 and len({run.header.environment["fleet"]["fingerprint"] for run in runs}) == 2
    for run in runs:
        assert {its.task for its in of_study(run)} == wanted() and len({its.conditions[HOST] for its in run.records}) == 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"code": "0123"}, "code 0123 and not"),
        ({"backends": {"mine": "0123"}}, "backend mine 0123 and not none"),
        ({"python": "2.7.18"}, "python 2.7.18 and not"),
        ({"packages": {"numpy": "1.0"}}, "numpy 1.0 and not"),
        ({"packages": {"numpy": DESCRIBED["packages"]["numpy"] + "+mkl"}}, "the same build on all"),
        ({"packages": {"torch": None}}, "torch none and not"),
        ({"blas": "another 1.0"}, "blas another 1.0 and not .*the same build on all"),
        ({"protocol": 1}, "protocol 1 and not"),
    ],
)
def test_other_software_is_refused_with_the_difference(fleet: Fleet, changes: dict[str, Any], named: str):
    fleet.join("m0", "host0")
    with pytest.raises(Refused, match=named):
        fleet.join("m1", "host1", **changes)
    assert list(fleet.head.of) == ["m0"]


def test_a_machine_need_not_have_lstm_bench_installed(fleet: Fleet):
    """Its code travels, and is compared by its hash; which commit it is the head knows."""
    fleet.join("m0", "host0", packages={"lstm-bench": None}, git={"commit": None, "dirty": None, "reason": "no repository"})
    (run,) = fleet.head.runs.values()
    assert run.header.environment["git"] == DESCRIBED["git"]


def test_backends_of_the_users_own_are_compared_by_content(misbehaving: None):
    found = own_backends()
    assert found and not found.keys() & {"numpy", "torch"} and all(len(its) == 16 for its in found.values())


def test_another_build_on_another_kind_of_machine_is_not_refused(fleet: Fleet):
    fleet.join("m0", "host0")
    fleet.join("m1", "host1", governor="powersave", packages={"numpy": DESCRIBED["packages"]["numpy"] + "+mkl"})
    assert len(fleet.head.runs) == 2


def test_a_case_begun_on_a_lost_machine_is_measured_anew(fleet: Fleet, tmp_path: Path):
    fleet.join("m0", "host0")
    fleet.join("m1", "host1")
    fleet.measure("m0")
    fleet.measure("m0", cases=4)  # and one backend of the fifth
    before = {its.task for its in stored(tmp_path)[0].records}
    fleet.lose("m0")
    fleet.finish()
    (run,) = stored(tmp_path)
    assert {its.task for its in of_study(run)} == wanted() and before <= {its.task for its in run.records}
    hosts: dict[tuple[str, int], set[str]] = defaultdict(set)
    for its in of_study(run):
        hosts[its.case, its.replicate].add(its.conditions[HOST])
    assert all(len(its) == 1 for its in hosts.values())


def test_what_no_machine_is_left_for_is_recorded_as_not_measured(tmp_path: Path, collector: Collector):
    now = [0.0]
    fleet = Fleet(Head(PLAN, tmp_path, collector, clock=lambda: now[0]))
    fleet.join("m0", "host0")
    fleet.join("m1", "host1", governor="powersave")
    fleet.measure("m1", cases=3)
    fleet.lose("m1")
    fleet.head.give_up_after(120)
    now[0] = 121.0
    assert not fleet.head.runs[introduced("", governor="powersave")["fingerprint"]].given_up
    fleet.head.give_up_after(120)
    fleet.finish()
    whole, part = sorted(stored(tmp_path), key=lambda run: sum(its.is_unmeasured for its in run.records))
    assert not any(its.is_unmeasured for its in whole.records) and whole.footer and not whole.footer.note
    assert {its.task for its in of_study(part)} == wanted()
    assert sum(its.status == "ok" for its in of_study(part)) == 4, "two cases; the first records are of the overhead"
    assert part.footer is not None and part.footer.note == f"{3 * 40 - 2} cases not measured"


def test_a_restarted_head_goes_on_from_the_records(fleet: Fleet, tmp_path: Path, collector: Collector):
    fleet.join("m0", "host0")
    fleet.join("m1", "host1")
    fleet.measure("m0")
    fleet.measure("m1", cases=5)
    before = stored(tmp_path)[0]
    again = Fleet(Head(PLAN, tmp_path, Collector()))
    assert again.head.resume() == [before.path]
    again.join("m2", "host0")
    again.finish()
    (run,) = stored(tmp_path)
    assert run.records[: len(before.records)] == before.records and not run.damaged and run.finished
    assert {its.task for its in of_study(run)} == wanted()
    with pytest.raises(FleetError, match="no unfinished run of a fleet"):
        Head(PLAN, tmp_path, Collector()).resume()


def test_a_run_of_another_plan_or_code_is_not_gone_on_with(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fleet.join("m0", "host0")
    with pytest.raises(FleetError, match="begun with another plan"):
        Head(replace(PLAN, replicates=2), tmp_path, Collector()).resume()
    monkeypatch.setattr(environment, "code_hash", lambda: "other")
    with pytest.raises(FleetError, match="begun with other software, this has code other and not"):
        Head(PLAN, tmp_path, Collector()).resume()


def test_a_case_that_ends_machine_after_machine_is_given_up(fleet: Fleet, tmp_path: Path):
    culprit, given_up, machines = STUDY.cases["smoke"][39].key, 0, 0
    while not fleet.head.done:
        name = f"m{machines}"
        machines += 1
        fleet.join(name, "host")
        while (order := fleet.head.next(name)) is not None:
            made = outcomes(order, "host")
            ends = next((place for place, records in enumerate(made) if records[0].case == culprit), None)
            for records in made[:ends]:
                fleet.head.records(name, map(encode, records))
            if ends is not None:
                fleet.lose(name)
                break
            fleet.head.ended(name)
    fleet.head.close()
    (run,) = stored(tmp_path)
    given_up = {its.case for its in run.records if its.is_unmeasured}
    assert given_up == {culprit} and {its.task for its in of_study(run)} == wanted()
    assert machines <= 3 * (LOSSES_IN_COMPANY + LOSSES_ALONE) + 1


def test_a_share_is_measured_as_a_run_by_hand_does(monkeypatch: pytest.MonkeyPatch):
    """With standalone cases of several repetitions, and backends that refuse."""
    monkeypatch.undo()
    plan = replace(harness_plan.make("quick"), replicates=2)
    by_hand = {
        (task.study.name, task.case.key, name, task.replicate)
        for task in [*plan.replicate(0), *plan.replicate(1), *plan.standalone()]
        for name in task.backends
    }
    refused = {task for task in by_hand - wanted(plan) if task[3] == 1}
    assert by_hand - wanted(plan) == refused and wanted(plan) <= by_hand, "later replicates do not repeat a refusal"
    for its in plan.studies:
        for case in plan.cases(its)[:3]:
            for number in (0, 1):
                share = SharePlan.of(plan, [(its.name, case.key)], number)
                tasks = [*share.replicate(0), *share.standalone()]
                assert {(name, task.replicate + number) for task in tasks for name in task.backends} == expected(
                    plan, its, case, number
                )


@pytest.mark.timeout(1800 if is_full() else 300)
def test_the_head_of_many_cases_takes_little_memory(tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch):
    """100 000 cases on 1000 machines with LSTM_BENCH_FAULTS=full, else a twenty-fifth of both."""
    cases, machines = (100_000, 1000) if is_full() else (4_000, 40)
    many = replace(STUDY, cases={"smoke": tuple(Case(LSTMSpec(4, 4), steps, 1) for steps in range(1, cases + 1))})
    plan = Plan("smoke", (many,), ("numpy",))
    monkeypatch.setattr("bench.harness.study.get", lambda name: many)
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(collector, "on_records", lambda records: None)
    of = {case.key: case for case in many.cases["smoke"]}
    tracemalloc.start()
    head = Head(plan, tmp_path, collector)
    for number in range(machines):
        head.join(f"m{number}", introduced(f"host{number}"))
    while not head.done:
        for name, host in list(head.host.items()):
            if (order := head.next(name)) is not None:
                for _, key in order.share:
                    head.records(name, [encode(record(STUDY.name, of[key], "numpy", 0, host))])
                head.ended(name)
    head.close()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e9 * cases / 100_000, peak
    print(f"{peak / 1e6:.0f} MB for {cases} cases")
