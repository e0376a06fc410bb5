"""One case, several backends, one clock: the backends take turns so that drift hits all alike.

Turn k of two backends lie next to each other in time; the order of turns is reversed each round (ABBA).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.process import WorkerFailed, WorkerProcess

PREPARE_SECONDS = 300.0  # compiling counts
WARM_SECONDS = 120.0
TURN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How long each part takes: `rounds` turns a backend of `turn_seconds` each, after `warm_seconds` busy."""

    rounds: int
    turn_seconds: float
    warm_seconds: float


Reply = dict[str, Any]
OK: Reply = {"status": "ok"}


def measure(
    workers: Mapping[str, WorkerProcess], case: Mapping[str, Any], pace: Pace, first: bool, watch: Callable[[str], None]
) -> dict[str, Reply]:
    """Ask every worker for the same case in turns; returns each backend's last reply.

    In the `first` replicate answers are checked against the oracle and first calls are timed.

    A reply is `ok` with measurements, provenance and first-call time, or the typed outcome that took its backend out.
    """
    replies: dict[str, Reply] = {}
    prepared: dict[str, Reply] = {}

    def settle(backend: str, ask: Callable[[], Reply]) -> Reply | None:
        """The reply if it is `ok`; else None, and the backend is out with that reply."""
        try:
            reply = ask()
        except WorkerFailed as failure:
            reply = {"status": "failed", "kind": failure.kind, "reason": str(failure), "died": True}
        if reply["status"] == "ok":
            return reply
        replies[backend] = reply
        return None

    def ask(backend: str, operation: str, timeout: float, /, **arguments: Any) -> Reply | None:
        return settle(backend, lambda: workers[backend].request(operation, timeout, **arguments))

    arguments = {"case": case, "check_answers": first}
    if first:  # one after the other: first calls are timed
        for backend in workers:
            watch(f"{backend}: preparing")
            if reply := ask(backend, "prepare", PREPARE_SECONDS, **arguments):
                prepared[backend] = reply
    else:
        watch("preparing")
        asked = [name for name in workers if settle(name, lambda name=name: workers[name].send("prepare", **arguments) or OK)]
        for backend in asked:
            if reply := settle(backend, lambda name=backend: workers[name].receive(PREPARE_SECONDS)):
                prepared[backend] = reply
    for backend in list(prepared):
        watch(f"{backend}: warming up")
        if not ask(backend, "warm_up", WARM_SECONDS, seconds=pace.warm_seconds):
            del prepared[backend]
    for number in range(pace.rounds):
        order = list(prepared)[:: 1 if number % 2 == 0 else -1]
        finished = True
        for backend in order:
            reply = ask(backend, "turn", TURN_SECONDS, seconds=pace.turn_seconds)
            if reply is None:
                del prepared[backend]
            else:
                watch(f"{backend}: {reply['latest'] * 1e3:.3g} ms")
                finished &= reply["finished"]
        if finished:
            break
    for backend, first in prepared.items():
        reply = ask(backend, "collect", TURN_SECONDS)
        if reply:
            replies[backend] = first | reply
    return replies
