"""A machine of a fleet: it holds the lock of its device, measures one share at a time and hands out records as they are made.

A share is some cases of a run (`measure`), or whole tasks as a comparison of two commits (`carry_out`). Tasks write runs of
their own, which are handed out line by line as they are written.

An ordinary class, which Ray makes an actor of (see `bench.fleet.cluster`).
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.fleet import shipping
from bench.fleet.share import HOST, SharePlan, fingerprint, own_backends, software
from bench.fleet.shipping import CORPUS, NOTHING, Job, Parcel, Place
from bench.harness import plan as harness_plan
from bench.harness.plan import Plan
from bench.harness.run import Run
from bench.machine import environment, lock, system
from bench.processes import scratch
from bench.processes.code import VARIABLE
from bench.studies.quality.sources import corpus_name
from results.record import Record, decode, encode
from results.store import Writer

STATUS_SECONDS = 1.0  # at least, between two sentences on what runs
ALIVE_SECONDS = 1.0  # how often a machine that measures says so

# ("records", lines of JSON), ("status", a sentence), ("measured", seconds), ("alive", None).
# Of tasks ("lines", (task, place of the file below the folder of runs, lines)), ("planned", (study, outcomes)),
# ("result", (task, result)), where the task is its number.
Event = tuple[str, Any]


class Machine:
    """What a node of the cluster does for the fleet.

    Args:
        takes_turns: several nodes are on this host, so that each holds the lock for a share at a time and not all the time.
        cpus: that Ray counts as this actor's.
    """

    def __init__(self, takes_turns: bool = False, cpus: float = 0) -> None:
        system.require_measuring()
        self.takes_turns = takes_turns
        self.holding = ExitStack()
        # Ray sets these for what it starts, where its user has not; our workers get numbers of threads of their own.
        if os.environ.get("OMP_NUM_THREADS") == str(max(1, int(cpus))):
            del os.environ["OMP_NUM_THREADS"]
        if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
            del os.environ["CUDA_VISIBLE_DEVICES"]
        if own := shipping.supplied():
            os.environ[VARIABLE] = os.pathsep.join(map(str, own))
        self.parcel = NOTHING
        self.corpus: Path | None = None
        self.host = environment.host() or f"pid-{os.getpid()}"  # where nothing identifies it, it is its own
        self.fingerprint = ""

    def introduce(
        self, values: dict[str, Any], threads: int | None, wait: bool, parcel: Parcel = NOTHING
    ) -> dict[str, Any]:  # fmt: skip
        """Take the device for this machine, and say what machine it is.

        Args:
            values: the plan, as `Plan.to_dict` gives it.
            threads: asked of every backend; all usable processors if None.
            wait: wait for another run that holds the device, instead of raising `DeviceBusy`.
            parcel: data that is needed, as the user's corpus.

        Returns: `threads`, `environment`, `machine`, `host`, `fingerprint` and `software`.
        """
        scratch.sweep()  # what a machine that was killed here has left
        usable = len(system.usable())
        threads = min(threads or usable, usable)
        asked = replace(Plan.from_dict(values), threads=threads)
        harness_plan.require_device(asked)
        self.parcel = parcel
        if asked.corpus:
            self.corpus = self.holding.enter_context(scratch.folder("data")) / CORPUS
            self.corpus.write_bytes(parcel.open(CORPUS))
            if (there := corpus_name(self.corpus)) != asked.corpus:
                raise ValueError(f"it was sent the corpus {there}, and the run's is {asked.corpus}")
        if not self.takes_turns:
            with lock.policy(lock.Policy((lambda _: None) if wait else None)):
                self.holding.enter_context(lock.device_lock(asked.device))
        described = environment.describe(threads)
        name = environment.machine_name(described)
        self.fingerprint = fingerprint(name, described, environment.PROTOCOL)
        return {
            "threads": threads, "environment": described, "machine": name, "host": self.host,
            "fingerprint": self.fingerprint, "software": software(described, own_backends()),
        }  # fmt: skip

    def measure(
        self, values: dict[str, Any], share: Sequence[tuple[str, str]], number: int, known: Sequence[str]
    ) -> Iterator[Event]:
        """Measure a share, handing out every outcome as soon as it exists.

        Args:
            values: the plan, with this machine's threads.
            share: (study, case) of each.
            number: the replicate of the whole in which they are measured.
            known: peaks and overhead of this host, as lines of JSON: they are measured once a host.
        """
        plan = SharePlan.of(Plan.from_dict(values), share, number)
        finished = [line for line in map(decode, known) if isinstance(line, Record)]
        yield from self._speaking(plan.device, lambda events: self._run(plan, finished, events))

    def carry_out(
        self, job: Job, device: str, tasks: Sequence[tuple[int, Any, Mapping[str, str]]], given: Any, pooled: bool
    ) -> Iterator[Event]:
        """Carry out tasks one after the other, handing out the lines of their runs as they are written.

        Args:
            job: what carries out a task.
            device: that is measured.
            tasks: the number of each, what the job is told, and the runs that it goes on with, by their place.
            given: what the head says to machines of this fingerprint.
            pooled: the runs are of any machine of this fingerprint: another one may finish them, and their series is one.
        """

        def work(events: queue.SimpleQueue[Event]) -> None:
            with _as_one_host(f"fleet {self.fingerprint}" if pooled else ""):
                for number, task, begun in tasks:
                    with scratch.folder("task") as folder:
                        place = Place(folder / "runs", folder / "work", self.parcel, given)
                        place.folder.mkdir()
                        mirror = _Mirror(events, number, place.runs, self.host)
                        mirror.begin(begun)
                        try:
                            result = job(task, place, mirror)
                        finally:
                            mirror.send_lines()
                        events.put(("result", (number, result)))

        yield from self._speaking(device, work)

    def _speaking(self, device: str, work: Callable[[queue.SimpleQueue[Event]], None]) -> Iterator[Event]:
        """The events of work that is done in a thread of its own, beside which the machine says that it is there."""
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()

        def measure() -> None:
            failed: BaseException | None = None
            try:
                turns = lock.Policy(lambda _: events.put(("status", "waits for its turn on this host")), inner=True)
                with lock.policy(turns), lock.device_lock(device):
                    work(events)
            except BaseException as error:
                failed = error
            events.put(("ended", failed))

        measuring = threading.Thread(target=measure, daemon=True)
        measuring.start()
        while True:
            try:
                kind, value = events.get(timeout=ALIVE_SECONDS)
            except queue.Empty:
                yield "alive", None
                continue
            if kind == "ended":
                measuring.join()
                if value is not None:
                    raise value
                return
            yield kind, value

    def _run(self, plan: SharePlan, finished: list[Record], events: queue.SimpleQueue[Event]) -> None:
        with scratch.folder("share") as folder:
            writer = Writer(folder / "share.jsonl")
            try:
                run = Run(plan, writer, _Sender(events, self.host), finished, corpus=self.corpus)
                events.put(("measured", run.execute().measuring_seconds))
            finally:
                writer.close()


@contextmanager
def _as_one_host(name: str) -> Iterator[None]:
    """Within the block this host goes by a name that others have too; by its own where that is empty."""
    before = os.environ.get(environment.HOST_VARIABLE)
    try:
        if name:
            os.environ[environment.HOST_VARIABLE] = name
        yield
    finally:
        if name and before is None:
            del os.environ[environment.HOST_VARIABLE]
        elif before is not None:
            os.environ[environment.HOST_VARIABLE] = before


class _Sender:
    """Hears a run and sends what it hears."""

    def __init__(self, events: queue.SimpleQueue[Event], host: str) -> None:
        self.events, self.host = events, host
        self.said = float("-inf")

    def on_planned(self, study: str, records: int) -> None:
        """The head counts the whole."""

    def on_status(self, text: str) -> None:
        if time.monotonic() - self.said >= STATUS_SECONDS:  # a thousand machines speak to one head
            self.said = time.monotonic()
            self.events.put(("status", text.removeprefix("replicate 1  ")))  # of the share: it has one

    def on_records(self, records: Sequence[Record]) -> None:
        marked = [replace(record, conditions={**record.conditions, HOST: self.host}) for record in records]
        self.events.put(("records", list(map(encode, marked))))


class _Mirror(_Sender):
    """Hears a task and sends what it hears, and every whole line of the runs that the task writes."""

    def __init__(self, events: queue.SimpleQueue[Event], number: int, runs: Path, host: str) -> None:
        super().__init__(events, host)
        self.number, self.runs = number, runs
        self.sent: dict[str, int] = {}  # bytes of each file that the head has

    def begin(self, begun: Mapping[str, str]) -> None:
        """Put the runs there that the task goes on with."""
        self.runs.mkdir()
        for place, text in begun.items():
            path = self.runs / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="")
            self.sent[place] = path.stat().st_size

    def on_planned(self, study: str, records: int) -> None:
        self.events.put(("planned", (study, records)))

    def on_records(self, records: Sequence[Record]) -> None:
        self.send_lines()

    def send_lines(self) -> None:
        """What the runs have become longer by. A record says by which host it was made."""
        for path in sorted(self.runs.rglob("*.jsonl")):
            place = path.relative_to(self.runs).as_posix()
            with path.open("rb") as file:
                file.seek(self.sent.get(place, 0))
                new = file.read()
            new = new[: new.rfind(b"\n") + 1]
            if new:
                self.sent[place] = self.sent.get(place, 0) + len(new)
                self.events.put(("lines", (self.number, place, list(map(self._marked, new.decode().splitlines())))))

    def _marked(self, text: str) -> str:
        line = decode(text)
        if isinstance(line, Record):
            line = replace(line, conditions={**line.conditions, HOST: self.host})
        return encode(line)
