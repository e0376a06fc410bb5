"""A small calibration, measured for real, and a comparison that obeys it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.regression import calibration
from bench.harness import plan
from lstm_bench.commands import compare
from lstm_bench.commands.compare import Options
from tests.bench.conftest import Collector


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


def test_a_calibration_is_measured_found_again_and_obeyed(tmp_path: Path):
    asked = plan.make("smoke", ["numpy"], ["phase=forward"], threads=1)
    made, path = compare.calibrate(asked, 5, tmp_path, Collector(), Options())
    (case,) = made.cases.values()
    assert case.pairs == 5 and case.seconds_per_pair > 0
    assert json.loads(path.read_text())["location"] == made.statistic
    assert compare.here(tmp_path, 1, "smoke") == made and compare.here(tmp_path, 2, "smoke") is None

    key = next(iter(made.cases))
    rough = replace(made, cases={key: replace(case, floor=math.log(1.05))})
    outcome = compare.compare(
        "backend:numpy", "backend:numpy", lambda: asked, tmp_path / "comparisons", Collector(),
        Options(memory=False, stages=(5,), calibration=rough),
    )  # fmt: skip
    (row,) = [row for row in outcome.rows if row.metric == "time"]
    assert row.decision.verdict in ("UNDECIDED", "SLOWER", "FASTER"), "a floor of 5 % leaves no room for SAME"
    assert calibration.SUFFIX in path.name and rough.sentence in " ".join(outcome.remarks)
