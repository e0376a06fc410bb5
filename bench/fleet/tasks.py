"""The head of a fleet that carries out whole tasks, each on one machine: comparisons of two commits, or commits to be tracked.

Knows no Ray (see `bench.fleet.cluster`). What a machine writes while it carries out a task is written here line by line, so
that a machine that is lost takes nothing finished with it. Each fingerprint carries out all tasks: they are never bridged.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from bench.fleet.head import LOCAL, Listener, require_alike
from bench.fleet.scheduler import Scheduler
from bench.fleet.share import own_backends, software
from bench.fleet.shipping import Job
from bench.machine import environment
from results import store
from results.record import Footer, Header, Record, decode

TASK_SECONDS = 600.0  # of every task: they are predicted to take equally long


class Order(NamedTuple):
    """What a machine is told to do: the arguments of `Machine.carry_out`."""

    job: Job
    device: str
    tasks: list[tuple[int, Any, dict[str, str]]]
    given: Any
    pooled: bool

    @property
    def method(self) -> str:
        """Of the machine."""
        return "carry_out"


@dataclass(frozen=True, slots=True)
class Kind:
    """Machines of one fingerprint, as the first of them that joined has introduced itself."""

    fingerprint: str
    machine: str
    threads: int
    software: dict[str, Any]
    environment: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """A task that is carried out, or given up.

    result: what the job returned; None where it is given up, or was finished by an earlier part of the same fleet.
    paths: its runs, by the place that they had on the machine.
    """

    number: int
    kind: Kind
    result: Any
    paths: Mapping[str, Path] = field(default_factory=dict)


class Tasks:
    """What is to be done, and what a command knows of it.

    Args:
        job: carries out a task on a machine.
        tasks: what the job is told of each.
        device: that is measured.
        root: folder of runs.
        asked: equal only for heads of which one may go on where another has stopped.
        pooled: runs are of any machine of a fingerprint, which may finish each other's.
        given: what machines of a kind are told.
        begun: the runs on disk that a host may go on with, as it carries out a task.
        finished: tasks that a kind has finished already, with their runs.
    """

    def __init__(
        self,
        job: Job,
        tasks: Sequence[Any],
        device: str,
        root: Path,
        *,
        asked: str = "",
        pooled: bool = False,
        given: Callable[[Kind], Any] = lambda kind: None,
        begun: Callable[[Kind, str, Any], Iterable[Path]] = lambda kind, host, task: (),
        finished: Callable[[Kind], Mapping[int, Sequence[Path]]] = lambda kind: {},
    ) -> None:
        self.job, self.tasks, self.device, self.root, self.asked, self.pooled = job, list(tasks), device, root, asked, pooled
        self.given, self.begun, self.finished = given, begun, finished


@dataclass(slots=True)
class _Busy:
    """A machine: its kind and host, and the files of the task that it is carrying out, by their place on the machine."""

    kind: Kind
    host: str
    writers: dict[tuple[int, str], store.Writer] = field(default_factory=dict)


class Head:
    """Hands tasks to the machines that join, and stores what they send.

    Args:
        tasks: what is to be done.
        listener: told what is stored.
        on_done: told of each task, as soon as it is done.
        id: of an earlier part of the same fleet, if this goes on with it.
        local: all nodes are on one host.
        clock: seconds, of any beginning.
    """

    def __init__(
        self,
        tasks: Tasks,
        listener: Listener,
        on_done: Callable[[Done], object] = lambda done: None,
        *,
        id: str = "",
        local: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tasks, self.listener, self.on_done, self.local, self.clock = tasks, listener, on_done, local, clock
        self.id = id or uuid.uuid4().hex[:8]
        described = environment.describe(1)
        self.software, self.git = software(described, own_backends()), described["git"]
        number = len(tasks.tasks)
        self.scheduler = Scheduler([TASK_SECONDS] * number, [1] * number, common=())
        self.kinds: dict[str, Kind] = {}
        self.machines: dict[str, _Busy] = {}
        self.empty_since: dict[str, float] = {}  # since when a fingerprint has no machine
        self.done_tasks: list[Done] = []
        self.joined = 0

    @property
    def done(self) -> bool:
        """Whether every fingerprint that joined has carried out, or given up, every task."""
        return self.scheduler.done

    def join(self, name: str, introduced: dict[str, Any]) -> None:
        """A machine has introduced itself (see `Machine.introduce`). Raises `bench.fleet.head.Refused`."""
        fingerprint, there = introduced["fingerprint"], introduced["software"]
        kind = self.kinds.get(fingerprint)
        require_alike(name, there, self.software, None if kind is None else kind.software)
        if kind is None:
            kind = self.kinds[fingerprint] = Kind(
                fingerprint, introduced["machine"], introduced["threads"], there, introduced["environment"]
            )
            finished = self.tasks.finished(kind)
            self.scheduler.open(fingerprint, {(number, 0) for number in finished})
            for number, paths in finished.items():
                self._is_done(Done(number, kind, None, {str(path): path for path in paths}))
        self.empty_since.pop(fingerprint, None)
        self.machines[name] = _Busy(kind, introduced["host"])
        self.scheduler.join(name, fingerprint, introduced["host"])
        self.joined += 1

    def next(self, name: str) -> Order | None:
        """What an idle machine is to carry out; None where there is nothing for it now."""
        share = self.scheduler.next(name)
        if share is None:
            return None
        machine, tasks = self.machines[name], self.tasks
        orders = []
        for number in sorted(share.cases):
            begun: dict[str, str] = {}
            for path in tasks.begun(machine.kind, machine.host, tasks.tasks[number]):
                place = path.relative_to(tasks.root).as_posix()
                machine.writers[number, place] = store.Writer(path)  # which ends a half-written line
                begun[place] = path.read_bytes().decode(errors="replace")
            orders.append((number, tasks.tasks[number], begun))
        return Order(tasks.job, tasks.device, orders, tasks.given(machine.kind), tasks.pooled)

    def hear(self, name: str, kind: str, value: Any) -> None:
        """What a machine hands out (see `bench.fleet.machine.Event`)."""
        if kind == "lines":
            self._write(self.machines[name], *value)
        elif kind == "planned":
            self.listener.on_planned(*value)
        elif kind == "result":
            self._finish(name, *value)

    def _write(self, machine: _Busy, number: int, place: str, lines: Sequence[str]) -> None:
        key = number, place
        new: list[Record] = []
        for line in map(decode, lines):
            if isinstance(line, Header):
                fleet = {"id": self.id, "fingerprint": machine.kind.fingerprint, "asked": self.tasks.asked}
                fleet |= {"remark": LOCAL} if self.local else {}
                known = line.environment | {"fleet": fleet}
                if known["git"]["commit"] is None and known["code"] == self.software["code"]:
                    known["git"] = self.git  # the machine has this code alone; which commit that is is known here
                header = replace(line, environment=known)
                # The two runs of a comparison are found by the name that both have, so that no number may be added to it.
                machine.writers[key] = store.create(self.tasks.root, header, numbered="comparison" not in header.plan)
            else:
                machine.writers[key].append(line)
                new += [line] if isinstance(line, Record) else []
        if new:
            self.listener.on_records(new)

    def _finish(self, name: str, number: int, result: Any) -> None:
        machine = self.machines[name]
        self.scheduler.finish(name, number)
        paths = {}
        for key in [key for key in machine.writers if key[0] == number]:
            machine.writers[key].close()
            paths[key[1]] = machine.writers.pop(key).path
        self._is_done(Done(number, machine.kind, result, paths))

    def _is_done(self, done: Done) -> None:
        self.done_tasks.append(done)
        self.on_done(done)

    def ended(self, name: str) -> None:
        """A machine has carried out all of its share."""
        self.scheduler.end(name)

    def lost(self, name: str) -> None:
        """A machine is gone; another one of its fingerprint carries out what it has not."""
        machine = self.machines.pop(name)
        self._break_off(machine, "its machine was lost")
        for number, _ in self.scheduler.lose(name):
            self._is_done(Done(number, machine.kind, None))
        if not any(other.kind is machine.kind for other in self.machines.values()):
            self.empty_since[machine.kind.fingerprint] = self.clock()

    def _break_off(self, machine: _Busy, note: str) -> None:
        """A last line for the runs that are not finished."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        for writer in machine.writers.values():
            if not store.read(writer.path).finished:
                writer.append(Footer(now, False, 0.0, 0.0, note))
            writer.close()
        machine.writers.clear()

    def give_up_after(self, seconds: float) -> None:
        """Give up what belongs to a fingerprint that has had no machine for so long."""
        for fingerprint, since in list(self.empty_since.items()):
            if self.clock() - since >= seconds:
                del self.empty_since[fingerprint]
                for number, _ in self.scheduler.series[fingerprint].give_up():
                    self._is_done(Done(number, self.kinds[fingerprint], None))

    def close(self, note: str) -> list[Path]:
        """End what is still being written. Returns the runs that are not finished."""
        paths = [writer.path for machine in self.machines.values() for writer in machine.writers.values()]
        for machine in self.machines.values():
            self._break_off(machine, note)
        return paths
