"""Comparisons on disk are judged again as they were measured: in pairs, confirmed, calibrated; the real 3 % among them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from analysis.regression import calibration
from analysis.regression.calibration import Calibration
from analysis.regression.comparison import Sides, by_key
from lstm_bench.commands import compare
from lstm_bench.commands.compare import Options, Outcome
from results import store
from results.record import Footer, Header, Measurement, Record
from tests.bench.conftest import Collector

SLOW_DOWN = Path(__file__).parents[2] / "results/comparisons/slow-down"  # made by the commands in docs/comparison-accuracy.md
CASE = "lstm-I64-H64-T32-B32-forward-float32-cpu"
BACKENDS = ("numpy", "a_little_more")
ENVIRONMENT = {"cpu": {"threads": 1}, "git": {"commit": None, "dirty": False}, "packages": {}}


def stored(folder: Path, slowdown: float, spread: float) -> tuple[Path, Path]:
    """Both runs of a comparison of two backends whose pairs share a drift of 30 %."""
    random = np.random.default_rng(0)
    numbers = [*range(20), *range(1000, 1010)]
    drift = np.exp(random.normal(0, 0.3, len(numbers)))
    factor = (1 + slowdown) * np.exp(random.normal(0, spread, len(numbers)))
    paths = []
    for side, backend, times in (("base", BACKENDS[0], drift), ("new", BACKENDS[1], drift * factor)):
        plan = {"suite": "quick", "comparison": "1", "side": side, "sides_backends": list(BACKENDS)}
        header = Header(side, "2026-11-20T12:00:00Z", 1, "imaginary", ENVIRONMENT, plan)
        path = store.new_path(folder, header)
        writer = store.Writer(path)
        writer.append(header)
        for number, seconds in zip(numbers, times, strict=True):
            measured = (Measurement("time", "s", (0.001 * float(seconds),)),)
            writer.append(Record("throughput", CASE, backend, number, "ok", {}, measurements=measured, seconds=2.0))
        writer.append(Footer("2026-11-20T12:02:00Z", True, 100.0, 50.0))
        writer.close()
        paths.append(path)
    return paths[0], paths[1]


def calibrated(spread: float) -> Calibration:
    random = np.random.default_rng(1)

    def side(backend: str) -> list[Record]:
        times = 0.001 * np.exp(random.normal(0, spread / 2**0.5, 20))
        return [
            Record(
                "throughput", CASE, backend, number, "ok", {}, measurements=(Measurement("time", "s", (value,)),), seconds=2.0
            )
            for number, value in enumerate(times.tolist())
        ]

    sides = [by_key(record for backend in BACKENDS for record in side(backend)) for _ in range(2)]
    return calibration.calibrate(Sides(sides[0], sides[1], True), "imaginary", 1, 1, "quick", "2026-11-20")


def replayed(base: Path, new: Path, options: Options) -> Outcome:
    def no_plan():
        raise AssertionError("nothing is measured")

    return compare.compare(str(base), str(new), no_plan, base.parent, Collector(), options)


def test_stored_pairs_are_judged_under_their_calibration(tmp_path: Path):
    paths = stored(tmp_path, 0.03, 0.005)
    outcome = replayed(*paths, Options(calibration=calibrated(0.005)))
    (row,) = outcome.rows
    assert row.key.backend == "numpy → a_little_more"
    assert row.decision.verdict == "SLOWER" and outcome.exit_code == 1, "a drift of 30 % that both sides share cancels"
    (row,) = replayed(*paths, Options(calibration=calibrated(0.08))).rows
    assert row.decision.verdict == "UNDECIDED", "no verdict is finer than the floor"
    (row,) = replayed(*reversed(paths), Options()).rows
    assert row.decision.verdict == "FASTER", "the other way round"


def test_a_change_below_the_noise_floor_is_not_called_same(tmp_path: Path):
    outcome = replayed(*stored(tmp_path, 0.03, 0.025), Options(calibration=calibrated(0.025)))
    assert [row.decision.verdict for row in outcome.rows] == ["UNDECIDED"] and outcome.exit_code == 3


def test_a_calibration_of_another_kind_is_not_used(tmp_path: Path):
    paths = stored(tmp_path, 0.0, 0.005)
    made = calibrated(0.1)
    other = next(name for name in ("median", "minimum") if name != made.statistic)
    assert [row.decision.verdict for row in replayed(*paths, Options(calibration=made)).rows] == ["UNDECIDED"]
    elsewhere = replayed(*paths, Options(calibration=made, requested_statistic=other))
    assert [row.decision.verdict for row in elsewhere.rows] == ["SAME"]
    assert "so nothing is calibrated here" in " ".join(elsewhere.remarks)
    header = store.read(paths[0]).header
    assert made.holds_for(header)
    header.plan["suite"] = "cpu"
    assert not made.holds_for(header)


def kept(folder: str) -> dict[str, Path]:
    """Both runs of a stored comparison by side."""
    runs = {store.read(path).header.plan["side"]: path for path in sorted((SLOW_DOWN / folder).rglob("*.jsonl"))}
    if not runs:
        pytest.skip(f"no runs below {SLOW_DOWN / folder}: not measured; docs/comparison-accuracy.md says how")
    return runs


@pytest.mark.parametrize("folder", ["quiet", "noisy"])
def test_pairs_by_a_noisy_statistic_are_undecided(folder: str):
    """On this machine the medians of a pair scatter too much for 3 %, and nothing calibrates them."""
    runs = kept(folder)
    outcome = replayed(runs["base"], runs["new"], Options(requested_statistic="median"))
    (row,) = [row for row in outcome.rows if row.metric == "time"]
    assert row.decision.verdict == "UNDECIDED" and outcome.exit_code == 3


@pytest.mark.parametrize(("folder", "wanted"), [("quiet", ("SLOWER",)), ("noisy", ("SLOWER", "UNDECIDED"))])
def test_the_real_slow_down_is_detected_or_undecided(folder: str, wanted: tuple[str, ...]):
    runs = kept(folder)
    header = store.read(runs["base"]).header
    made = calibration.newest_for(SLOW_DOWN / f"{folder}-certificate", header)
    assert made is not None, "the runs are kept with the calibration they are judged by"
    (row,) = [row for row in replayed(runs["base"], runs["new"], Options(calibration=made)).rows if row.metric == "time"]
    assert row.decision.verdict in wanted, row.decision
    records = store.read(runs["new"]).records
    assert {record.provenance["more"] for record in records} == {"1 of 32 steps"}, "as the backend counts itself"


def test_noise_ends_with_the_command_it_disturbs():
    program = "import json, os; print(json.dumps(os.getpid())); raise SystemExit(7)"
    answer = subprocess.run(
        [sys.executable, "-m", "tests.perf.noise", sys.executable, "-c", program], capture_output=True, text=True, timeout=100
    )
    assert answer.returncode == 7 and json.loads(answer.stdout) > 0
    nothing = subprocess.run([sys.executable, "-m", "tests.perf.noise"], capture_output=True, text=True, timeout=100)
    assert nothing.returncode == 2 and "name the command" in nothing.stderr
