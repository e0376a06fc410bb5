"""Ray, and nothing else imports it: nodes become machines, and what they hand out reaches the head.

A node that may measure offers one unit of the custom resource `SLOT`. Its machine is an actor that holds it, together with all
of the node's processors and GPUs as Ray counts them, so that Ray starts nothing else there meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bench.fleet.head import FleetError, Listener, Refused
from bench.fleet.shipping import HOOK, NOTHING, NOWHERE, Parcel, code_folder

SLOT = "lstm_bench"
LOCAL = "local:"
WAIT_SECONDS = 0.5  # for what happens next
ANSWER_SECONDS = 10.0  # for the cluster's port
LOOK_SECONDS = 2.0  # how often nodes that joined are looked for
HANG_SECONDS = 60.0  # a machine that says nothing for so long is lost; it speaks every second
START_SECONDS = 180.0  # in which a node starts the actor and introduces itself; a busy one cannot
GRACE_SECONDS = 120.0  # for which a fingerprint without a machine waits for one to come back
RESTARTS = 3  # of the actor on one node
OBJECT_STORE_BYTES = 80 << 20  # of a local node; the least that Ray takes
RAY_FOLDER = "RAY_TMPDIR"
LONGEST_TEMPORARY = 18  # bytes: Ray's sockets lie some 85 below, and paths of sockets have 103 (macOS) or 107 at most
# Of Ray: no reports to its makers, CUDA_VISIBLE_DEVICES as the node's owner has set it, and our code in place of a job's own.
VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",
}  # fmt: skip


@dataclass(slots=True)
class Member:
    """A node's actor. `waits` is what it was asked last: to introduce itself, or a share."""

    node: str
    actor: Any
    waits: Any
    since: float
    state: str = "starting"
    heard: float = 0.0
    status: str = ""


@contextmanager
def connected(address: str) -> Iterator[bool]:
    """Connected to the cluster at the address, or to one of so many nodes on this machine (`local:N`), ended afterwards.

    Returns: whether it is local. Raises `FleetError` for an address that cannot be, or where no cluster answers.
    """
    os.environ.update({name: value for name, value in VARIABLES.items() if name not in os.environ})
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with contextlib.ExitStack() as stack:
        local = address.startswith(LOCAL)
        if local:
            address = stack.enter_context(_local(address))
        stack.callback(ray.shutdown)
        code = stack.enter_context(code_folder())
        try:
            _require_answer(address)
            ray.init(
                address=address, log_to_driver=False, logging_level=logging.ERROR, namespace="lstm-bench",
                runtime_env={
                    "py_modules": [str(code)], "worker_process_setup_hook": HOOK, "working_dir": str(code.parent / NOWHERE),
                },
            )  # fmt: skip
        except RuntimeError as error:  # of another Ray or Python
            raise FleetError(f"cannot use the Ray cluster at {address}: {str(error).strip()}") from error
        except (OSError, ValueError, RayError) as error:
            raise FleetError(
                f"no Ray cluster answers at {address} ({str(error).splitlines()[0]}); start one as docs/fleet.md says, run "
                "this on one of its nodes, or try it on this machine with: --fleet local:2"
            ) from error
        for number, handler in handlers.items():  # Ray ends the process on SIGTERM: what there is would not be kept
            signal.signal(number, handler)
        yield local


def _require_answer(address: str) -> None:
    """Raise `OSError` where nobody listens at HOST:PORT; Ray itself tries for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and "/" not in address and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()


@contextmanager
def _local(address: str) -> Iterator[str]:
    """A cluster on this machine."""
    count = address.removeprefix(LOCAL)
    if not count.isdecimal() or not 1 <= int(count) <= 64:
        raise FleetError(f"{address} names no fleet on this machine: write local:3 for three nodes, at most 64")
    from ray.cluster_utils import Cluster

    usual, before = tempfile.gettempdir(), os.environ.get(RAY_FOLDER)
    folder = tempfile.mkdtemp(prefix="lb-ray-", dir=usual if len(os.fsencode(usual)) <= LONGEST_TEMPORARY else "/tmp")
    # Where Ray notes the address of a cluster of its tests, which this is: not where the user's own cluster has its note, nor
    # where there is no folder, for it makes none.
    os.environ[RAY_FOLDER] = folder
    (Path(folder) / "ray").mkdir()
    cluster = Cluster()
    try:
        common: dict[str, Any] = {"num_cpus": 0, "num_gpus": 0, "object_store_memory": OBJECT_STORE_BYTES}
        try:
            cluster.add_node(**common, include_dashboard=False, temp_dir=folder)
            for _ in range(int(count)):
                cluster.add_node(**common, resources={SLOT: 1})
        except (OSError, RuntimeError, ValueError, RayError) as error:
            raise FleetError(
                f"Ray does not start {count} nodes on this machine: {str(error).strip()}; "
                "free memory and disk, or ask for fewer"
            ) from error
        yield str(cluster.address)
    finally:
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
        if before is None:
            del os.environ[RAY_FOLDER]
        else:
            os.environ[RAY_FOLDER] = before


class Order(Protocol):
    """What a machine is told to do: the arguments of one of its methods."""

    @property
    def method(self) -> str: ...
    def __iter__(self) -> Iterator[Any]: ...


class Head(Protocol):
    """Decides and stores: `bench.fleet.head.Head` of the cases of a run, `bench.fleet.tasks.Head` of whole tasks."""

    local: bool
    joined: int
    listener: Listener

    @property
    def done(self) -> bool: ...
    def join(self, name: str, introduced: dict[str, Any]) -> None: ...
    def next(self, name: str) -> Order | None: ...
    def hear(self, name: str, kind: str, value: Any) -> None: ...
    def ended(self, name: str) -> None: ...
    def lost(self, name: str) -> None: ...
    def give_up_after(self, seconds: float) -> None: ...


class Fleet:
    """Has what the head wants measured by the machines of the cluster.

    Args:
        head: decides and stores.
        machine: the class of which each node gets an actor, `bench.fleet.machine.Machine`.
        introduce: arguments of its `introduce`, but for the parcel.
        say: is told of machines that are refused or lost, as they are.
        parcel: data that each machine gets.
    """

    def __init__(
        self, head: Head, machine: type, introduce: dict[str, Any], say: Callable[[str], None], parcel: Parcel = NOTHING
    ) -> None:
        self.head, self.machine, self.introduce, self.say = head, machine, introduce, say
        self.parcel = ray.put(parcel)
        self.members: dict[str, Member] = {}
        self.starts: dict[str, int] = {}  # by node
        self.refused: dict[str, str] = {}  # node: why
        self.shared: set[str] = set()  # hosts of several nodes
        self.looked = float("-inf")
        self.began = time.monotonic()

    def run(self) -> None:
        """Until everything is measured or given up. Raises `FleetError` where no machine can measure."""
        try:
            while not self.head.done or self._awaited():
                self._look()
                self._ask_idle()
                self._hear()
                self._expire()
                self._require_any()
        finally:
            for member in self.members.values():
                with contextlib.suppress(RayError):
                    ray.kill(member.actor)

    def _awaited(self) -> bool:
        """Whether a machine is ending its share, or one that may be of another fingerprint is starting."""
        states = {member.state for member in self.members.values()}
        return "busy" in states or ("starting" in states and not self.head.local)

    def _look(self) -> None:
        """Make machines of the nodes that joined."""
        now = time.monotonic()
        if now - self.looked < LOOK_SECONDS:
            return
        self.looked = now
        nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"] and node["Resources"].get(SLOT, 0) >= 1}
        taken = {member.node for member in self.members.values()}
        here = Counter(node["NodeManagerAddress"] for node in nodes.values())
        self.shared |= {host for host, count in here.items() if count > 1}
        self.head.local = self.head.local or bool(self.shared)
        for key, node in nodes.items():
            if key in taken or key in self.refused:
                continue
            self.starts[key] = self.starts.get(key, 0) + 1
            if self.starts[key] > 1 + RESTARTS:
                self._refuse(key, f"{_name_of(node)} was lost {RESTARTS + 1} times")
                continue
            cpus = node["Resources"].get("CPU", 0)
            actor = ray.remote(self.machine).options(
                num_cpus=cpus,
                num_gpus=node["Resources"].get("GPU", 0),
                resources={SLOT: 1},
                scheduling_strategy=NodeAffinitySchedulingStrategy(key, soft=False),
                max_restarts=0,
            ).remote(takes_turns=node["NodeManagerAddress"] in self.shared, cpus=cpus)  # fmt: skip
            name = f"{_name_of(node)}-{key[:6]}" + (f"-{self.starts[key]}" if self.starts[key] > 1 else "")
            waits = actor.introduce.remote(**self.introduce, parcel=self.parcel)  # pyright: ignore[reportAttributeAccessIssue]
            self.members[name] = Member(key, actor, waits, now, heard=now)

    def _ask_idle(self) -> None:
        for name, member in self.members.items():
            if member.state != "idle":
                continue
            order = self.head.next(name)
            if order is not None:
                asked = getattr(member.actor, order.method)
                member.waits = asked.options(num_returns="streaming").remote(*order)
                member.state, member.heard = "busy", time.monotonic()

    def _hear(self) -> None:
        """What has happened, within `WAIT_SECONDS`."""
        waiting = {member.waits: name for name, member in self.members.items() if member.state in ("starting", "busy")}
        if not waiting:
            time.sleep(WAIT_SECONDS)
            return
        ready, _ = ray.wait(list(waiting), num_returns=1, timeout=WAIT_SECONDS)
        if ready and len(waiting) > 1:  # all of those, lest one that is always ready keeps the others waiting
            ready, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        for its in ready:
            name = waiting[its]
            try:
                if self.members[name].state == "starting":
                    self._join(name, ray.get(its))
                else:
                    self._take(name, its)
            except RayTaskError as error:  # raised by our own code there: it would be again
                self._drop(name, f"{type(error.cause).__name__}: {error.cause}", again=False)
            except RayError as error:
                self._drop(name, str(error).splitlines()[0], again=True)

    def _join(self, name: str, introduced: dict[str, Any]) -> None:
        member = self.members[name]
        try:
            self.head.join(name, introduced)
        except Refused as error:
            self._refuse(member.node, str(error))
            ray.kill(self.members.pop(name).actor)
            return
        member.state, member.heard = "idle", time.monotonic()

    def _take(self, name: str, generator: Any) -> None:
        """The next of what a machine hands out."""
        member = self.members[name]
        try:
            kind, value = ray.get(next(generator))
        except StopIteration:
            self.head.ended(name)
            member.state, member.status = "idle", ""
            return
        member.heard = time.monotonic()
        if kind != "status":
            self.head.hear(name, kind, value)
        else:
            member.status = value
            busy = sum(each.state == "busy" for each in self.members.values())
            self.head.listener.on_status(f"{busy} of {len(self.members)} machines  {name}: {value}")

    def _drop(self, name: str, reason: str, again: bool) -> None:
        """A machine is gone. again: its node may start another actor, if it is there."""
        member = self.members.pop(name)
        with contextlib.suppress(RayError):
            ray.kill(member.actor)
        if member.state != "starting":
            self.head.lost(name)
            self.say(f"{name} is lost: {reason}")
        elif again:
            self.say(f"{name} did not start: {reason}")
        if not again:
            self._refuse(member.node, f"{name}: {reason}", quiet=member.state != "starting")

    def _refuse(self, node: str, reason: str, quiet: bool = False) -> None:
        self.refused[node] = reason
        if not quiet:
            self.say(f"refused: {reason}")

    def _expire(self) -> None:
        """Machines that hang, and fingerprints that nobody measures any more."""
        now = time.monotonic()
        for name, member in list(self.members.items()):
            if member.state == "busy" and now - member.heard > HANG_SECONDS:
                self._drop(name, f"it said nothing for {HANG_SECONDS:.0f} s", again=False)
            elif member.state == "starting" and now - member.since > START_SECONDS and not self.introduce["wait"]:
                self._drop(name, f"it did not start within {START_SECONDS:.0f} s: its processors are in use", again=False)
        self.head.give_up_after(GRACE_SECONDS)

    def _require_any(self) -> None:
        if self.members or self.head.joined:
            return
        if self.refused:
            raise FleetError("no machine of the fleet can measure: " + "; ".join(self.refused.values()))
        if time.monotonic() - self.began > GRACE_SECONDS:
            raise FleetError(
                f"no node of the cluster offers the measuring slot; start those that are to measure with: "
                f"ray start --address=HEAD:6379 --resources='{{\"{SLOT}\": 1}}'"
            )


def _name_of(node: dict[str, Any]) -> str:
    return node.get("NodeManagerHostname") or node["NodeManagerAddress"]
