"""`lstm_bench.measure`: on clocks that are made up, so that the true ratio is known; and once on real work."""

from __future__ import annotations

import math
import random
import re
import time
from pathlib import Path

import numpy as np
import pytest

import lstm_bench
from bench.harness import suites
from bench.machine import lock, noise
from impls import Unavailable
from lstm_bench import measuring
from lstm_bench.measuring import CallableFailed, InvalidMeasurement

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def a_lock_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    """Whoever else is measuring on this machine: the lock lies in the folder of temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("lock")))


class World:
    """Time that passes only while something is sampled, with noise of each sample and a drift that hits all alike.

    wanders: by how much, in the logarithm, each callable's time wanders by itself, with the time constant of `TIME_CONSTANT`.
    """

    def __init__(self, seed: int, noise: float = 0.03, drift: float = 0.2, wanders: float = 0.0) -> None:
        self.random, self.noise, self.drift, self.wanders = random.Random(seed), noise, drift, wanders
        self.time, self.order = 0.0, list[str]()

    def now(self) -> float:
        return self.time


TIME_CONSTANT = 0.3


class Made:
    def __init__(self, world: World, name: str, seconds: float) -> None:
        self.world, self.name, self.seconds = world, name, seconds
        self.level, self.at = world.random.gauss(0.0, world.wanders), 0.0

    def sample(self, calls: int) -> float:
        world = self.world
        drift = 1 + world.drift * world.time / 10
        kept = math.exp((self.at - world.time) / TIME_CONSTANT)
        self.level = kept * self.level + world.random.gauss(0.0, world.wanders * math.sqrt(1 - kept**2))
        self.at = world.time
        value = self.seconds * drift * math.exp(self.level) * world.random.lognormvariate(0.0, world.noise)
        world.time += value * calls
        if world.order[-1:] != [self.name]:
            world.order.append(self.name)
        return value


def table(world: World, *seconds: float, budget: float = 2.0, rounds: int | None = None) -> measuring.Table:
    clocks = {f"f{number}": Made(world, f"f{number}", each) for number, each in enumerate(seconds)}
    return measuring.measured(clocks, None, budget, world.now, rounds)


def test_false_positives_stay_within_the_intervals_level():
    wrong = sum(table(World(seed), 1e-3, 1e-3)["f1"].verdict != "undecided" for seed in range(100))
    assert wrong <= 10


def test_autocorrelated_rounds_are_not_counted_as_independent(monkeypatch: pytest.MonkeyPatch):
    def wrong() -> int:
        tables = (table(World(seed, wanders=0.03), 1e-3, 1e-3, budget=5.0) for seed in range(100))
        return sum(found["f1"].verdict != "undecided" for found in tables)

    assert wrong() <= 10
    monkeypatch.setattr(measuring, "BLOCKS", 1000)  # every pair of rounds by itself
    assert wrong() > 10, "a rule without blocks would be caught"


def test_blocks_hold_both_orders_equally_often():
    for count in (2, 10, 14, 28, 60):
        found = measuring.blocks(np.arange(count))
        assert len(found) == min(5, count // 2) and np.concatenate(found).tolist() == list(range(count))
        assert all(sum(number % 2 for number in block) * 2 == len(block) for block in found)


@pytest.mark.parametrize("truth", [2.0, 0.5, 1.1])
def test_what_is_different_is_decided_with_the_right_ratio(truth):
    row = table(World(1), 1e-3, 1e-3 / truth)["f1"]
    assert row.speedup is not None and row.speedup.low is not None and row.speedup.high is not None
    assert row.verdict == ("faster" if truth > 1 else "slower")
    assert row.speedup.low * 0.99 <= truth <= row.speedup.high * 1.01
    assert row.seconds == pytest.approx(1e-3 / truth, rel=0.3)


def test_the_order_of_rounds_alternates():
    world = World(0)
    table(world, 1e-3, 1e-3, 1e-3)
    turns = world.order[-9:]
    assert "".join(name[1] for name in turns) in ("012101210", "210121012", "121012101", "101210121")  # ends of rounds meet
    assert [suites.order(["a", "b"], number) for number in (0, 1, 2)] == [["a", "b"], ["b", "a"], ["a", "b"]]


@pytest.mark.parametrize("budget", [2.0, 40.0])
def test_it_ends_in_time_after_ten_rounds_at_least(budget: float):
    world = World(0, drift=0.0)
    found = table(world, 1e-3, 1e-3, budget=budget)
    assert found.rounds >= suites.LEAST_ROUNDS and found.rounds % 2 == 0
    assert 0.9 * budget < world.time < budget + 1.5
    assert len(found["f0"].samples) > 20 * found.rounds, "the last turns are as long as the first"


@pytest.mark.parametrize(("asked", "taken"), [(2, 2), (3, 4), (12, 12)])
def test_rounds_can_be_asked_for(asked: int, taken: int):
    assert table(World(0), 1e-3, 1e-3, rounds=asked).rounds == taken


def test_of_two_rounds_there_is_no_interval_and_no_verdict():
    row = table(World(0), 1e-3, 1e-4, rounds=2)["f1"]
    assert row.speedup is not None and row.speedup.low is None and row.verdict == "undecided"


def test_the_table_can_be_read():
    lines = str(table(World(0), 1e-3, 5e-4)).splitlines()
    assert re.search(r"median +speedup over f0 +95 % interval", lines[0])
    assert lines[1].startswith("f0") and lines[1].endswith("baseline")
    assert re.search(r"^f1 .* µs +(2|1\.9\d|2\.0\d) +\[.*\] +faster", lines[2])
    assert all(len(line) <= 80 for line in lines)


def test_a_row_is_found_by_its_name_and_the_rows_are_a_frame():
    found = table(World(0), 1e-3, 5e-4)
    with pytest.raises(KeyError, match="no 'f2' was measured; choose from f0, f1"):
        found["f2"]
    frame = found.to_frame()
    assert list(frame.columns) == ["name", "seconds", "speedup", "low", "high", "verdict", "notes"]
    assert frame["verdict"].tolist() == ["baseline", "faster"] and frame["speedup"].isna().tolist() == [True, False]
    assert frame["seconds"].tolist() == [row.seconds for row in found.rows]


def test_real_work_is_told_apart(capsys):
    values = list(range(20_000))
    found = lstm_bench.measure({"sum": lambda: sum(values), "three": lambda: [sum(values) for _ in range(3)]}, seconds=0.5)
    assert found["three"].verdict == "slower" and 0.2 < found["three"].speedup.value < 0.5
    assert str(found) in capsys.readouterr().out
    quiet = lstm_bench.measure(
        {"sum": lambda: sum(values), "again": lambda: sum(values)}, seconds=0.2, show=False, baseline="again"
    )
    assert quiet["again"].verdict == "baseline" and capsys.readouterr().out == ""


def fails():
    raise ArithmeticError("the widget came loose")


@pytest.mark.parametrize(("given", "options", "error", "said"), [
    ({}, {}, InvalidMeasurement, "nothing to time"),
    ([1], {}, InvalidMeasurement, "mapping of names"),
    ({"mine": 3}, {}, InvalidMeasurement, "'mine' is no function but int"),
    ({"mine": fails}, {"baseline": "theirs"}, InvalidMeasurement, "no 'theirs' to compare with; choose from mine"),
    ({1: fails}, {}, InvalidMeasurement, "a name must be a string; got 1"),
    ({"mine": fails}, {"seconds": 0}, InvalidMeasurement, "more than 0"),
    ({"mine": fails}, {"seconds": float("inf")}, InvalidMeasurement, "more than 0; got inf"),
    ({"mine": fails}, {"seconds": float("nan")}, InvalidMeasurement, "more than 0; got nan"),
    ({"mine": fails}, {"seconds": "5s"}, InvalidMeasurement, "more than 0; got '5s'"),
    ({"mine": fails}, {"rounds": 1}, InvalidMeasurement, "at least 2; got 1"),
    ({"mine": fails}, {"device": "gpu"}, InvalidMeasurement, "device must be one of cpu, cuda; got 'gpu'"),
    ({"mine": fails}, {"wait": 3}, InvalidMeasurement, "wait must be a function that takes no arguments; got int"),
    ({"good": lambda: None, "mine": fails}, {"seconds": 0.1}, CallableFailed, "mine raised ArithmeticError: the widget"),
])  # fmt: skip
def test_wrong_calls_are_told(given, options, error, said):
    with pytest.raises(error, match=said):
        lstm_bench.measure(given, **options)


def test_without_a_gpu_cuda_is_refused():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(Unavailable, match="no CUDA device"):
        lstm_bench.measure({"mine": lambda: None}, device="cuda")


class Event:
    """Stands for a CUDA event: the device is `device_seconds` a call busy, whatever the host took to enqueue it."""

    device_seconds, calls = 2e-3, 0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing
        self.at = 0

    def record(self) -> None:
        self.at = Event.calls

    def synchronize(self) -> None:
        """Nothing is under way."""

    def elapsed_time(self, end: Event) -> float:
        return (end.at - self.at) * self.device_seconds * 1e3


@pytest.mark.parametrize(("host_seconds", "notes"), [(0.0, ()), (4e-3, ("host_bound",))])
def test_on_cuda_events_are_the_clock_and_host_bound_is_noted(monkeypatch, host_seconds, notes):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "Event", Event)

    def kernel() -> None:
        Event.calls += 1
        time.sleep(host_seconds)

    row = lstm_bench.measure({"kernel": kernel}, device="cuda", seconds=0.1, rounds=2, show=False)["kernel"]
    assert row.seconds == pytest.approx(Event.device_seconds) and set(row.samples) == {row.samples[0]}
    assert tuple(note for note in row.notes if note == "host_bound") == notes


def test_a_noisy_machine_is_said_where_the_table_is_shown(monkeypatch, capsys):
    noisy = noise.Reading(median_over_fastest=2.0, p90_over_fastest=3.0)
    monkeypatch.setattr(noise, "read", lambda: noisy)
    for show in (True, False):
        lstm_bench.measure({"nothing": lambda: None}, seconds=0.05, show=show)
        said = capsys.readouterr().err
        assert said == f"{noise.sentence(noisy)}\n" * show


def test_it_holds_the_device_while_it_measures():
    held = []

    def look() -> None:
        held.append(any("cpu" in path.name for path in lock._held))

    lstm_bench.measure({"look": look}, seconds=0.05, show=False)
    assert held and all(held)


def test_the_example_of_the_readme_runs(capsys):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = [code for code in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL) if "lstm_bench.measure" in code]
    assert len(example.strip().splitlines()) <= 7
    exec(example, {})
    assert "speedup over" in capsys.readouterr().out
