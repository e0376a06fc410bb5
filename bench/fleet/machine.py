"""A machine of a fleet: it holds the lock of its device, measures one share at a time and hands out records as they are made.

An ordinary class, which Ray makes an actor of (see `bench.fleet.cluster`).
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.fleet.share import HOST, SharePlan, fingerprint, own_backends, software
from bench.harness import plan as harness_plan
from bench.harness.plan import Plan
from bench.harness.run import Run
from bench.machine import environment, lock, system
from bench.processes import scratch
from bench.studies.quality.sources import corpus_name
from results.record import Record, decode, encode
from results.store import Writer

STATUS_SECONDS = 1.0  # at least, between two sentences on what runs
ALIVE_SECONDS = 1.0  # how often a machine that measures says so

Event = tuple[str, Any]  # ("records", lines of JSON), ("status", a sentence), ("measured", seconds), ("alive", None)


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

    def introduce(self, values: dict[str, Any], threads: int | None, corpus: str | None, wait: bool) -> dict[str, Any]:
        """Take the device for this machine, and say what machine it is.

        Args:
            values: the plan, as `Plan.to_dict` gives it.
            threads: asked of every backend; all usable processors if None.
            corpus: path of the user's corpus, which must lie there on every machine.
            wait: wait for another run that holds the device, instead of raising `DeviceBusy`.

        Returns: `threads`, `environment`, `machine`, `host`, `fingerprint` and `software`.
        """
        scratch.sweep()  # what a machine that was killed here has left
        usable = len(system.usable())
        threads = min(threads or usable, usable)
        asked = replace(Plan.from_dict(values), threads=threads)
        harness_plan.require_device(asked)
        if asked.corpus:
            self._require_corpus(asked.corpus, corpus)
        if not self.takes_turns:
            with lock.policy(lock.Policy((lambda _: None) if wait else None)):
                self.holding.enter_context(lock.device_lock(asked.device))
        described = environment.describe(threads)
        name = environment.machine_name(described)
        host = described["host"] or f"pid-{os.getpid()}"  # nothing identifies it: it is its own
        return {
            "threads": threads, "environment": described, "machine": name, "host": host,
            "fingerprint": fingerprint(name, described, environment.PROTOCOL), "software": software(described, own_backends()),
        }  # fmt: skip

    def measure(
        self, values: dict[str, Any], share: Sequence[tuple[str, str]], number: int, known: Sequence[str], corpus: str | None
    ) -> Iterator[Event]:
        """Measure a share, handing out every outcome as soon as it exists.

        Args:
            values: the plan, with this machine's threads.
            share: (study, case) of each.
            number: the replicate of the whole in which they are measured.
            known: peaks and overhead of this host, as lines of JSON: they are measured once a host.
            corpus: path of the user's corpus.
        """
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        plan = SharePlan.of(Plan.from_dict(values), share, number)
        finished = [line for line in map(decode, known) if isinstance(line, Record)]
        measuring = threading.Thread(target=self._run, args=(plan, finished, corpus, events), daemon=True)
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

    def _run(self, plan: SharePlan, finished: list[Record], corpus: str | None, events: queue.SimpleQueue[Event]) -> None:
        """Runs in a thread of its own, beside which the machine goes on saying that it is there."""
        failed: BaseException | None = None
        try:
            turns = lock.Policy(lambda _: events.put(("status", "waits for its turn on this host")))
            with scratch.folder("share") as folder, lock.policy(turns), lock.device_lock(plan.device, inner=True):
                writer = Writer(folder / "share.jsonl")
                try:
                    run = Run(plan, writer, _Sender(events), finished, corpus=Path(corpus) if corpus else None)
                    events.put(("measured", run.execute().measuring_seconds))
                finally:
                    writer.close()
        except BaseException as error:
            failed = error
        events.put(("ended", failed))

    @staticmethod
    def _require_corpus(name: str, path: str | None) -> None:
        there = corpus_name(Path(path or ""))
        if there != name:
            raise ValueError(f"its {path} is the corpus {there}, and the run's is {name}; put the same file there")


class _Sender:
    """Hears a run and sends what it hears."""

    def __init__(self, events: queue.SimpleQueue[Event]) -> None:
        self.events = events
        self.said = float("-inf")
        self.host = environment.host() or f"pid-{os.getpid()}"

    def on_planned(self, study: str, records: int) -> None:
        """The head counts the whole."""

    def on_status(self, text: str) -> None:
        if time.monotonic() - self.said >= STATUS_SECONDS:  # a thousand machines speak to one head
            self.said = time.monotonic()
            self.events.put(("status", text.removeprefix("replicate 1  ")))  # of the share: it has one

    def on_records(self, records: Sequence[Record]) -> None:
        marked = [replace(record, conditions={**record.conditions, HOST: self.host}) for record in records]
        self.events.put(("records", list(map(encode, marked))))
