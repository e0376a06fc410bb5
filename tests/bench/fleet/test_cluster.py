"""What the driver does with nodes that hang, fail, are refused or are not there, on a Ray that only pretends."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

if importlib.util.find_spec("ray") is None:
    pytest.skip("Ray is not installed: pip install 'lstm-bench[fleet]'", allow_module_level=True)

from ray.exceptions import ActorDiedError, RayTaskError

from bench.fleet import cluster
from bench.fleet.head import FleetError, Head, Order
from results import store
from results.record import encode
from results.store import WriteFailed
from tests.bench.conftest import Collector
from tests.bench.fleet import test_head
from tests.bench.fleet.test_head import PLAN, introduced, outcomes, wanted

findable = test_head.findable
INTRODUCE = {"values": PLAN.to_dict(), "threads": 1, "wait": False}


@dataclass(eq=False)
class Reference:
    """Of a value, or of an error that getting it raises; never ready without either."""

    value: Any = None
    error: Exception | None = None
    never: bool = False


class Generator:
    """Of events, in the middle of which a machine may hang or fail."""

    def __init__(self, events: Iterator[Reference]) -> None:
        self.events = events
        self.next: Reference | None = next(events, None)

    @property
    def never(self) -> bool:
        return self.next is not None and self.next.never

    def __next__(self) -> Reference:
        if self.next is None:
            raise StopIteration
        its, self.next = self.next, next(self.events, None)
        return its


@dataclass(eq=False)
class Actor:
    """What Ray gives for an actor: methods with `remote`."""

    node: str
    options: dict[str, Any]
    pretends: Pretended
    alive: bool = True

    @property
    def introduce(self) -> Any:
        return Method(lambda **given: self.pretends.introduced(self.node))

    @property
    def measure(self) -> Any:
        return Method(lambda *order: Generator(self.pretends.events(self.node, Order(*order))))


class Method:
    """Of an actor."""

    def __init__(self, remote: Callable[..., Any]) -> None:
        self.remote = remote

    def options(self, **given: Any) -> Method:
        return self


@dataclass
class Pretended:
    """Stands in for the module `ray`. ways: of each node, what becomes of its first share (`hangs`, `fails`, `dies`)."""

    ways: dict[str, str]
    introductions: dict[str, dict[str, Any]] = field(default_factory=dict)
    actors: list[Actor] = field(default_factory=list)

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": name * 56, "Alive": True, "Resources": {cluster.SLOT: 1.0, "CPU": 8.0, "GPU": 2.0},
             "NodeManagerHostname": name, "NodeManagerAddress": name}
            for name in self.ways
        ]  # fmt: skip

    def introduced(self, node: str) -> Reference:
        if self.ways[node] == "busy":
            return Reference(error=RayTaskError("introduce", "", WriteFailed("the device is busy")))
        return Reference(self.introductions.get(node) or introduced(f"host of {node}"))

    def events(self, node: str, order: Order) -> Iterator[Reference]:
        way, self.ways[node] = self.ways[node], "works"
        made = outcomes(order, f"host of {node}")
        for number, records in enumerate(made):
            if number == 2 and way == "hangs":
                yield Reference(never=True)
            if number == 2 and way == "fails":
                yield Reference(error=RayTaskError("measure", "", WriteFailed("cannot write: no space left on device")))
                return
            if number == 2 and way == "dies":
                yield Reference(error=ActorDiedError())
                return
            yield Reference(("records", list(map(encode, records))))
        yield Reference(("measured", 1.0))

    def remote(self, machine: type) -> Any:
        def options(**given: Any) -> Method:
            def make(takes_turns: bool, cpus: float) -> Actor:
                self.actors.append(Actor(given["scheduling_strategy"].node_id[0], given, self))
                return self.actors[-1]

            return Method(make)

        made = Method(lambda: None)
        made.options = options  # type: ignore[method-assign]
        return made

    def wait(self, waiting: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        ready = [its for its in waiting if not its.never][:num_returns]
        if not ready:
            time.sleep(0.01)
        return ready, [its for its in waiting if its not in ready]

    def get(self, reference: Reference) -> Any:
        if reference.error is not None:
            raise reference.error
        return reference.value

    def put(self, value: Any) -> Any:
        return value

    def kill(self, actor: Actor) -> None:
        actor.alive = False


@pytest.fixture
def drive(tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Callable[[Pretended], list[str]]:
    """Carries out the plan on a pretended Ray, and returns what is said."""

    def it(pretended: Pretended) -> list[str]:
        monkeypatch.setattr(cluster, "ray", pretended)
        monkeypatch.setattr(cluster, "HANG_SECONDS", 0.2)
        monkeypatch.setattr(cluster, "GRACE_SECONDS", 0.2)
        monkeypatch.setattr(cluster, "LOOK_SECONDS", 0.0)
        monkeypatch.setattr(cluster, "WAIT_SECONDS", 0.01)
        said: list[str] = []
        head = Head(PLAN, tmp_path, collector)
        try:
            cluster.Fleet(head, object, INTRODUCE, said.append).run()
        finally:
            head.close("ended by an error")
        assert not any(actor.alive for actor in pretended.actors)
        return said

    return it


def complete(root: Path) -> store.Run:
    (path,) = store.find(root)
    run = store.read(path)
    assert run.finished and not run.damaged and {its.task for its in run.records if its.study == "fake"} >= wanted()
    return run


def test_an_actor_holds_the_slot_and_all_of_its_node(drive: Any, tmp_path: Path):
    pretended = Pretended({"a": "works", "b": "works"})
    assert drive(pretended) == []
    complete(tmp_path)
    assert len(pretended.actors) == 2
    for actor in pretended.actors:
        assert (actor.options["num_cpus"], actor.options["num_gpus"]) == (8.0, 2.0)
        assert actor.options["resources"] == {cluster.SLOT: 1}


@pytest.mark.parametrize(
    ("way", "said", "actors"),
    [
        ("hangs", "a-aaaaaa is lost: it said nothing for 0 s", 2),
        ("fails", "a-aaaaaa is lost: WriteFailed: cannot write: no space left on device", 2),
        ("dies", "a-aaaaaa is lost: The actor died unexpectedly before finishing this task.", 3),
    ],
)
def test_what_a_lost_machine_had_left_is_measured_by_another(drive: Any, tmp_path: Path, way: str, said: str, actors: int):
    pretended = Pretended({"a": way, "b": "works"})
    assert drive(pretended) == [said]
    run = complete(tmp_path)
    assert not any(its.is_unmeasured for its in run.records)
    assert len(pretended.actors) == actors, "one that died starts again where its node lives"


def test_where_all_are_lost_the_rest_is_not_measured(drive: Any, tmp_path: Path):
    assert len(drive(Pretended({"a": "fails"}))) == 1
    run = complete(tmp_path)
    assert sum(its.is_unmeasured for its in run.records) > 200 and run.footer is not None and "not measured" in run.footer.note


def test_where_all_are_refused_the_reasons_are_the_error(drive: Any, tmp_path: Path):
    pretended = Pretended({"a": "works", "b": "busy"}, {"a": introduced("host", code="0123")})
    with pytest.raises(FleetError, match=r"no machine of the fleet can measure: .*code 0123 and not .*the device is busy"):
        drive(pretended)
    assert not store.find(tmp_path)


def test_a_cluster_of_another_python_is_refused(monkeypatch: pytest.MonkeyPatch):
    def init(**given: Any) -> None:
        (code,) = given["runtime_env"]["py_modules"]
        assert Path(code, "bench", "fleet", "cluster.py").is_file()
        left = Path(given["runtime_env"]["working_dir"])  # which Ray unpacks anew for each node, under those that measure
        assert [path.name for path in left.iterdir()] == ["empty"]
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.60.0\n    Python: 3.12.1")

    monkeypatch.setattr("ray.init", init)
    refused = pytest.raises(FleetError, match=r"(?s)cannot use the Ray cluster at auto: Version mismatch.*Python: 3\.12\.1")
    with refused, cluster.connected("auto"):
        raise AssertionError


def test_nodes_that_ray_does_not_start_are_told(monkeypatch: pytest.MonkeyPatch):
    def add_node(*_: Any, **given: Any) -> None:
        raise RuntimeError("The raylet did not start.")

    monkeypatch.setattr("ray.cluster_utils.Cluster.add_node", add_node)
    refused = pytest.raises(FleetError, match=r"Ray does not start 2 nodes on this machine: The raylet did not start\.; free")
    with refused, cluster.connected("local:2"):
        raise AssertionError


def test_a_cluster_without_the_slot_is_told_how_to_offer_it(drive: Any, tmp_path: Path):
    with pytest.raises(FleetError, match=r"ray start --address=HEAD:6379 --resources='\{\"lstm_bench\": 1\}'"):
        drive(Pretended({}))
    assert not store.find(tmp_path)
