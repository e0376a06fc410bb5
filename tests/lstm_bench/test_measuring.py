"""`lstm_bench.measure`: on clocks that are made up, so that the true ratio is known; and once on real work."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

import lstm_bench
from bench import lock, pace
from impls import Unavailable
from lstm_bench import measuring
from lstm_bench.measuring import CallableFailed, InvalidMeasurement

ROOT = Path(__file__).parents[2]


class World:
    """Time that passes only while something is sampled, with noise of each sample and a drift that hits all alike."""

    def __init__(self, seed: int, noise: float = 0.03, drift: float = 0.2) -> None:
        self.random, self.noise, self.drift = random.Random(seed), noise, drift
        self.time, self.order = 0.0, list[str]()

    def now(self) -> float:
        return self.time

    def clock(self, name: str, seconds: float):
        return Made(self, name, seconds)


class Made:
    def __init__(self, world: World, name: str, seconds: float) -> None:
        self.world, self.name, self.seconds = world, name, seconds

    def sample(self, calls: int) -> float:
        world = self.world
        drift = 1 + world.drift * world.time / 10
        value = self.seconds * drift * world.random.lognormvariate(0.0, world.noise)
        world.time += value * calls
        if world.order[-1:] != [self.name]:
            world.order.append(self.name)
        return value


def table(seed: int, *seconds: float):
    world = World(seed)
    clocks = {f"f{number}": world.clock(f"f{number}", each) for number, each in enumerate(seconds)}
    return measuring.measured(clocks, None, 2.0, world.now), world


def test_the_same_is_called_different_no_more_often_than_the_interval_allows():
    wrong = sum(table(seed, 1e-3, 1e-3)[0]["f1"].verdict != "not decided" for seed in range(100))
    assert wrong <= 7


@pytest.mark.parametrize("truth", [2.0, 0.5, 1.1])
def test_what_is_different_is_decided_with_the_right_ratio(truth):
    row = table(1, 1e-3, 1e-3 / truth)[0]["f1"]
    assert row.speedup is not None and row.speedup.low is not None and row.speedup.high is not None
    assert row.verdict == ("faster" if truth > 1 else "slower")
    assert row.speedup.low * 0.99 <= truth <= row.speedup.high * 1.01
    assert row.seconds == pytest.approx(1e-3 / truth, rel=0.3)


def test_the_order_of_rounds_alternates():
    _, world = table(0, 1e-3, 1e-3, 1e-3)
    turns = world.order[-9:]
    assert "".join(name[1] for name in turns) in ("012101210", "210121012", "121012101", "101210121")  # ends of rounds meet
    assert [pace.order(["a", "b"], number) for number in (0, 1, 2)] == [["a", "b"], ["b", "a"], ["a", "b"]]


def test_it_ends_about_when_it_was_told_to_and_takes_ten_rounds_at_least():
    found, world = table(0, 1e-3, 1e-3)
    assert found.rounds >= pace.LEAST_ROUNDS and 1.5 < world.time < 3.5
    assert len(found["f0"].samples) >= pace.LEAST_ROUNDS


def test_the_table_can_be_read():
    lines = str(table(0, 1e-3, 5e-4)[0]).splitlines()
    assert re.search(r"median +speedup over f0 +95 % interval", lines[0])
    assert lines[1].startswith("f0") and lines[1].endswith("baseline")
    assert re.search(r"^f1 .* µs +(2|1\.9\d|2\.0\d) +\[.*\] +faster", lines[2])
    assert all(len(line) <= 80 for line in lines)


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
    ({"mine": fails}, {"seconds": 0}, InvalidMeasurement, "more than 0"),
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
