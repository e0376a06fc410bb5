"""Nodes, the head and all of Ray are killed at random while a fleet measures: no finished case is lost or stored twice.

A small dose here; LSTM_BENCH_FAULTS=full kills 50 times.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.harness import plan
from tests.faults.dose import dose, is_full

ROOT = Path(__file__).parents[2]
NODES = 2
KILLS = 50
FILTERS = [] if is_full() else ["hidden_size<=32", "phase=forward"]
SUITE = ["many", "--backend", "numpy", *(word for its in FILTERS for word in ("--where", its))]
WAIT_SECONDS = 90.0  # for a record after a kill: Ray takes up to 15 s to see that a node is gone

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'lstm-bench[fleet]'"),
    pytest.mark.timeout(1800 if is_full() else 200),
    pytest.mark.filterwarnings("ignore"),  # of Ray's
]


class Cluster:
    """Ray on this machine, whose nodes offer the slot, and the process of the command."""

    def __init__(self, out: Path, locks: Path) -> None:
        self.out = out
        self.folder = tempfile.mkdtemp(prefix="lb-ray-", dir="/tmp")  # short: paths of sockets have a limit
        self.environment = os.environ | {
            "RAY_TMPDIR": self.folder,
            "PYTHONPATH": str(ROOT), "LSTM_BENCH_LOCKS": str(locks), "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_health_check_period_ms": "500", "RAY_health_check_timeout_ms": "1000",
            "RAY_health_check_failure_threshold": "3",
        }  # fmt: skip
        self.driver: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        from ray.cluster_utils import Cluster as Nodes

        os.environ.update(self.environment)
        self.nodes = Nodes()
        self.nodes.add_node(num_cpus=0, include_dashboard=False, object_store_memory=80 << 20)
        for _ in range(NODES):
            self.add()

    def add(self) -> None:
        self.nodes.add_node(num_cpus=0, resources={"lstm_bench": 1}, object_store_memory=80 << 20)

    def kill_node(self, chance: random.Random) -> None:
        self.nodes.remove_node(chance.choice(sorted(self.nodes.worker_nodes, key=id)), allow_graceful=False)
        self.add()

    def kill_ray(self) -> None:
        """All of it, the head node first."""
        self.kill_driver()
        self.nodes.remove_node(self.nodes.head_node, allow_graceful=False)
        self.nodes.shutdown()
        self.start()

    def kill_driver(self) -> None:
        assert self.driver is not None
        self.driver.send_signal(signal.SIGKILL)
        self.driver.wait()
        self.driver = None

    def drive(self) -> None:
        """Start the command, or go on where it was killed."""
        command = [sys.executable, "-m", "lstm_bench", "run", *SUITE, "--wait", "--out", str(self.out)]
        command += ["--fleet", self.nodes.address] + ["--resume"] * bool(list(self.out.rglob("*.jsonl")))
        self.driver = subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdout=subprocess.DEVNULL, stderr=(self.out.parent / "said").open("ab")
        )

    def close(self) -> None:
        if self.driver is not None:
            self.kill_driver()
        self.nodes.shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    before = dict(os.environ)
    (tmp_path / "locks").mkdir()
    its = Cluster(tmp_path / "runs", tmp_path / "locks")
    yield its
    its.close()
    os.environ.clear()
    os.environ.update(before)


def lines_of(out: Path) -> list[dict[str, Any]]:
    """The lines of the one run that are whole."""
    (path,) = list(out.rglob("*.jsonl")) or [None]
    if path is None:
        return []
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def is_complete(out: Path) -> bool:
    return any(it["line"] == "end" and it["complete"] for it in lines_of(out))


def tasks(lines: list[dict[str, Any]]) -> Counter[tuple[str, str, str, int]]:
    return Counter((it["study"], it["case"], it["backend"], it["replicate"]) for it in lines if it["line"] == "record")


def test_no_finished_case_is_lost_and_none_stored_twice(cluster: Cluster, tmp_path: Path):
    chance, left, runs = random.Random(18), len(dose(range(KILLS), 3)), 0
    kinds = Counter[str]()
    chosen = plan.make("many", ["numpy"], FILTERS)
    wanted = {(its.name, case.key, "numpy", 0) for its in chosen.studies for case in chosen.cases(its)}
    forced = ["node", "driver", "ray"]  # each at least once
    while left:
        cluster.out = tmp_path / f"runs{runs}"
        cluster.out.mkdir()
        runs += 1
        cluster.drive()
        stored: Counter[tuple[str, str, str, int]] = Counter()
        until = time.monotonic() + WAIT_SECONDS
        while cluster.driver is None or cluster.driver.poll() is None:
            assert time.monotonic() < until, (tmp_path / "said").read_text()[-3000:]
            time.sleep(0.1)
            now = tasks(lines_of(cluster.out))
            assert set(stored) <= set(now) and set(now.values()) <= {1}
            if len(now) >= len(stored) + chance.choice((2, 3, 5)):
                stored, until = now, time.monotonic() + WAIT_SECONDS
                if left:
                    time.sleep(chance.random())
                    kind = forced.pop(0) if forced else chance.choice(["node", "node", "node", "driver", "ray"])
                    kinds[kind] += 1
                    left -= 1
                    if kind == "node":
                        cluster.kill_node(chance)
                    else:
                        cluster.kill_driver() if kind == "driver" else cluster.kill_ray()
                        if is_complete(cluster.out):  # in the moment of the kill
                            break
                        cluster.drive()
        else:
            assert cluster.driver.returncode == 0, (tmp_path / "said").read_text()[-3000:]
        cluster.driver = None
        lines = lines_of(cluster.out)
        found = tasks(lines)
        assert set(found.values()) == {1} and is_complete(cluster.out)
        assert wanted <= set(found) and all(it["status"] == "ok" for it in lines if it["line"] == "record")
    print(f"{sum(kinds.values())} kills in {runs} runs of {len(wanted)} cases: {dict(kinds)}")
