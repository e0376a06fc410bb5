"""What a machine can tell apart, calibrated from identical sides whose noise is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis import AnalysisError
from analysis.regression import calibration
from analysis.regression.comparison import Key, Sides, by_key
from analysis.statistics.decision import Rule
from results.record import Measurement, Record

Noise = Callable[[np.random.Generator], np.ndarray]


def quiet(random: np.random.Generator) -> np.ndarray:
    return random.normal(0, 0.003) + random.normal(0, 0.002, 40)


def rough(random: np.random.Generator) -> np.ndarray:
    return random.normal(0, 0.03) + random.normal(0, 0.002, 40)


def contended(random: np.random.Generator) -> np.ndarray:
    """Neighbours only ever add, now more, now less: the fastest samples tell least of them."""
    return random.normal(0, 0.001, 40) + random.exponential(random.uniform(0.01, 0.3), 40)


def calibrated(**cases: Noise) -> calibration.Calibration:
    random = np.random.default_rng(0)

    def side() -> list[Record]:
        return [
            Record(
                "throughput", name, "torch", number, "ok", {}, seconds=3.0,
                measurements=(Measurement("time", "s", tuple(0.01 * np.exp(noise(random)))),),
            )
            for name, noise in cases.items() for number in range(20)
        ]  # fmt: skip

    return calibration.calibrate(
        Sides(by_key(side()), by_key(side()), True), "imaginary", 1, 2, "quick", "2026-01-01T00:00:00+00:00"
    )


def test_quiet_and_rough_cases_are_told_apart_and_priced():
    made = calibrated(quiet=quiet, rough=rough)
    calm, wild = (made.cases[Key("throughput", name, "torch")] for name in ("quiet", "rough"))
    assert calm.spread == pytest.approx(0.003 * math.sqrt(2), rel=0.4)
    assert calm.detectable < math.log(1.03) < wild.detectable
    assert calm.floor < 0.01 < wild.floor
    assert wild.pairs_wanted is None or wild.pairs_wanted > 40
    assert max(calm.confirmed_false_alarms, wild.confirmed_false_alarms) <= 0.0025
    assert made.sentence.startswith("3 % can be detected on 1 of 2 cases with 20 pairs; ")


def test_a_contended_machine_is_best_read_by_its_fastest_samples():
    made = calibrated(contended=contended)
    assert made.statistic == "minimum"
    assert made.repeats["minimum"] < made.repeats["median"] / 3
    assert made.within["minimum"] > 0.95


def test_a_calibration_holds_for_its_machine_and_threads_only(tmp_path: Path):
    made = calibrated(quiet=quiet)
    folder = tmp_path / "2026-01-01" / "imaginary"
    folder.mkdir(parents=True)
    made.write(folder / f"120000{calibration.SUFFIX}")
    assert calibration.newest(tmp_path, "imaginary", 1, 2, "quick") == made
    assert calibration.newest(tmp_path, "imaginary", 1, 4, "quick") is None
    assert calibration.newest(tmp_path, "another", 1, 2, "quick") is None
    assert calibration.newest(tmp_path, "imaginary", 1, 2, "cpu") is None, "another suite samples for another time"
    assert calibration.newest(tmp_path / "nowhere", "imaginary", 1, 2, "quick") is None
    assert {path.name for path in folder.iterdir()} == {f"120000{calibration.SUFFIX}"}
    (folder / f"130000{calibration.SUFFIX}").write_text("{")
    with pytest.raises(AnalysisError, match="is no calibration"):
        calibration.newest(tmp_path, "imaginary", 1, 2, "quick")


def test_of_two_backends_the_less_quiet_one_sets_the_floor():
    made = calibrated(quiet=quiet, rough=rough)
    own, other = (Key("throughput", name, "torch") for name in ("quiet", "rough"))
    both = {own: made.cases[own], own._replace(backend="jax"): made.cases[other]}
    two = replace(made, cases=both).rule(own._replace(backend="torch → jax"))
    assert two == made.rule(other) and two != made.rule(own)
    assert made.rule(own._replace(backend="torch → jax")) is None, "of jax nothing is known"
    assert made.rule(own._replace(case="unknown")) is None


def test_a_rule_states_what_is_detectable_with_its_pairs():
    made = calibrated(rough=rough)
    key = Key("throughput", "rough", "torch")
    rules = [made.rule(key, Rule(stages=stages)) for stages in ((5, 10, 20), (5, 10, 20, 40, 80))]
    assert rules[0] is not None and rules[1] is not None and rules[1].detectable is not None
    assert rules[0].detectable == pytest.approx(made.cases[key].detectable) and rules[0].floor == made.cases[key].floor
    assert rules[1].detectable < made.cases[key].detectable


def test_too_few_pairs_calibrate_nothing():
    with pytest.raises(calibration.NoCalibration, match="5 pairs"):
        calibration.calibrate(Sides({}, {}, True), "imaginary", 1, 2, "quick", "")
