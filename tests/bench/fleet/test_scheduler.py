"""The rules of the scheduler, and a simulation by a fake clock of a fleet in which machines are lost."""

from __future__ import annotations

import heapq
import random
import tracemalloc
from collections import Counter
from dataclasses import dataclass

import pytest

from bench.fleet.scheduler import Scheduler

MACHINES, CASES, REPLICATES = 1000, 100_000, 1


@dataclass
class Simulated:
    """What a simulated fleet has done."""

    makespan: float
    available: float  # seconds in which machines were there, until the end
    busy: float
    finished: Counter[tuple[str, int, int]]
    by: dict[tuple[int, int], str]
    losses: int


def simulate(scheduler: Scheduler, machines: dict[str, str], loss_every: float, back_after: float, seed: int) -> Simulated:
    """Run the scheduler with machines (their fingerprints by name) of which each is lost once in `loss_every` seconds or so.

    Events lie on a heap by time: the end of a case, the loss of a machine, its return. No machine has two shares at a time.
    """
    chance, events, serial = random.Random(seed), [], 0
    alive: dict[str, int] = {}  # how often it has joined
    idle: set[str] = set()
    result = Simulated(0.0, 0.0, 0.0, Counter(), {}, 0)
    since: dict[str, float] = {}

    def at(time: float, kind: str, name: str, life: int, case: int = -1) -> None:
        nonlocal serial
        serial += 1
        heapq.heappush(events, (time, serial, kind, name, life, case))

    def join(name: str, now: float) -> None:
        alive[name] = alive.get(name, 0) + 1
        scheduler.join(name, machines[name], name)
        since[name] = now
        idle.add(name)
        at(now + chance.expovariate(1 / loss_every), "loss", name, alive[name])

    def ask(name: str, now: float) -> None:
        share = scheduler.next(name)
        if share is None:
            return
        idle.discard(name)
        for case in share.cases:
            now += scheduler.seconds[case]
            at(now, "case", name, alive[name], case)
        at(now, "end", name, alive[name])

    for name in machines:
        join(name, 0.0)
    for name in machines:
        ask(name, 0.0)
    gone: set[str] = set()
    now = 0.0
    while not scheduler.done:
        now, _, kind, name, life, case = heapq.heappop(events)
        if life != alive[name] or (name in gone and kind != "return"):
            continue
        if kind == "case":
            replicate = scheduler.of[name].machines[name].share.replicate  # type: ignore[union-attr]
            scheduler.finish(name, case)
            result.finished[machines[name], case, replicate] += 1
            result.by[case, replicate] = name
            result.busy += scheduler.seconds[case]
        elif kind == "end":
            scheduler.end(name)
            idle.add(name)
            ask(name, now)
        elif kind == "loss":
            assert not scheduler.lose(name)
            result.losses += 1
            result.available += now - since.pop(name)
            gone.add(name)
            idle.discard(name)
            at(now + back_after, "return", name, life)
            for other in sorted(idle):
                ask(other, now)
        else:
            gone.discard(name)
            join(name, now)
            ask(name, now)
    result.makespan = now
    result.available += sum(now - began for began in since.values())
    return result


def test_a_thousand_machines_come_near_the_lower_bound():
    chance = random.Random(7)
    seconds = [chance.lognormvariate(3, 0.8) for _ in range(CASES)]
    tracemalloc.start()
    scheduler = Scheduler(seconds, [REPLICATES] * CASES)
    done = simulate(scheduler, {f"m{number}": "same" for number in range(MACHINES)}, 20_000.0, 300.0, 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    work = sum(count * seconds[case] for (_, case, _), count in done.finished.items())
    bound = max(work / (done.available / done.makespan), *seconds)  # the work over the machines that were there on average
    assert done.losses > 100
    assert {case for _, case, _ in done.finished} == set(range(CASES)) and set(done.finished.values()) == {1}
    assert done.makespan <= 1.1 * bound, (done.makespan, bound)
    assert peak < 1e9
    print(f"makespan {done.makespan:.0f} s, bound {bound:.0f} s, {done.losses} losses, {peak / 1e6:.0f} MB")


def test_a_machine_has_one_slot_and_ends_what_it_began():
    scheduler = Scheduler([1.0] * 4, [1] * 4, common=())
    scheduler.join("m", "same", "host")
    share = scheduler.next("m")
    assert share is not None and len(share.cases) == 4
    with pytest.raises(ValueError, match="m has one measuring slot, and a share in it"):
        scheduler.next("m")
    scheduler.finish("m", share.cases[0])
    with pytest.raises(ValueError, match="m ended its share without 3 of its cases"):
        scheduler.end("m")
    with pytest.raises(ValueError, match="m is in the fleet already"):
        scheduler.join("m", "same", "host")


def test_a_replicate_waits_for_the_other_host_and_not_for_ever():
    scheduler = Scheduler([100.0], [2], common=())
    for name in ("a", "b"):
        scheduler.join(name, "same", name)
    assert scheduler.next("a") is not None
    scheduler.finish("a", 0)
    scheduler.end("a")
    assert scheduler.next("a") is None, "it is b's turn"
    scheduler.lose("b")
    again = scheduler.next("a")
    assert again is not None and again.replicate == 1


def test_what_was_lost_twice_is_measured_in_a_share_of_its_own():
    scheduler = Scheduler([1.0] * 3, [1] * 3, common=())
    sizes = []
    for number in range(3):
        scheduler.join(f"m{number}", "same", "host")
        share = scheduler.next(f"m{number}")
        assert share is not None
        sizes.append(len(share.cases))
        assert scheduler.lose(f"m{number}") == []
    assert sizes == [3, 3, 1]


def test_replicates_are_spread_at_no_cost_of_the_bound():
    chance = random.Random(3)
    seconds = [chance.lognormvariate(2, 0.7) for _ in range(2000)]
    scheduler = Scheduler(seconds, [3] * len(seconds))
    done = simulate(scheduler, {f"m{number}": "same" for number in range(20)}, 4000.0, 60.0, 2)
    work = sum(count * seconds[case] for (_, case, _), count in done.finished.items())
    assert set(done.finished.values()) == {1} and done.losses
    assert done.makespan <= 1.1 * max(work / (done.available / done.makespan), *seconds)
    by: dict[int, list[str]] = {}
    for (case, _), name in done.by.items():
        by.setdefault(case, []).append(name)
    assert sum(len(set(names)) == len(names) for names in by.values()) >= 0.99 * len(by)


def test_a_scheduler_of_large_shares_would_miss_the_bound(monkeypatch: pytest.MonkeyPatch):
    """The gate on the makespan bites: shares that do not shrink end late."""
    monkeypatch.setattr("bench.fleet.scheduler.SHARE_SECONDS", 4000.0)
    seconds = [100.0] * 1000
    done = simulate(Scheduler(seconds, [1] * 1000, common=()), {f"m{number}": "same" for number in range(64)}, 1e9, 60.0, 1)
    assert done.makespan > 1.1 * sum(seconds) / 64
