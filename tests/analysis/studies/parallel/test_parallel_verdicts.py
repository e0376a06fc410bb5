"""The quantities of study `parallel` on made records, its rules' bite, and its figures and tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.statistics import quantities
from analysis.studies import parallel
from analysis.studies.parallel import figures
from bench.studies import parallel as study
from bench.studies.parallel import CLAIMS, KINDS

NEAR = np.array([-0.01, 0.0, 0.01])  # three seeds around a value
SLOW = ("seed 0 had not converged after 100 rounds",)


def record(probe: str, kind: str, metrics: dict[str, Any], notes: tuple[str, ...] = (), **more: object) -> list[dict[str, Any]]:
    weights, jacobian = KINDS[kind]
    own = {
        "study": "parallel", "probe": probe, "weights": weights, "jacobian": jacobian, "init": "pytorch", "gain": 1.0,
        "steps": 256, "hidden_size": 16, "phase": "forward", "device": "cpu", "backend": "reference", "launch": "eager", **more,
    }  # fmt: skip
    own["case"] = "-".join(str(value) for value in own.values())
    return [
        own | {"metric": name, "samples": np.atleast_1d(values), "blocks": (1,) * np.atleast_1d(values).size, "notes": notes}
        for name, values in metrics.items()
    ]


def judged(name: str, made: list[dict[str, Any]]) -> dict[str, str]:
    claim = next(claim for claim in CLAIMS if claim.name == name)
    return {finding.label: finding.outcome for finding in quantities.judge(claim, pd.DataFrame(made)).findings}


@pytest.mark.parametrize(("power", "outcome"), [(0.2, "refuted"), (1.0, "supported"), (0.9, "inconclusive")])
def test_the_path_is_judged_by_its_growth(power: float, outcome: str) -> None:
    made = []
    for steps in (64, 256, 1024):
        made += record(
            "rounds", "full", {"rounds": 4 + NEAR, "newton_path": steps**power * np.exp(NEAR * np.log(steps))}, steps=steps
        )
    assert judged("e-newton-path", made)["LSTM, full Jacobian, PyTorch's initialisation"] == outcome


def test_a_path_of_rounds_that_did_not_suffice_is_a_lower_bound() -> None:
    made = record("rounds", "full", {"rounds": 4 + NEAR, "newton_path": 64 + NEAR}, steps=64)
    made += record("rounds", "full", {"rounds": 100 + NEAR, "newton_path": 700 + NEAR}, SLOW, steps=1024)
    found = parallel.path_exponent(pd.DataFrame(made))
    assert found.value is None and found.low == pytest.approx(np.log(700 / 64) / np.log(16), rel=1e-3)
    assert judged("e-newton-path", made)["LSTM, full Jacobian, PyTorch's initialisation"] == "inconclusive"


@pytest.mark.parametrize(
    ("hard", "notes", "outcome"), [(12.0, (), "supported"), (5.0, (), "refuted"), (100.0, SLOW, "supported")]
)
def test_long_memories_are_judged_by_pairs_of_seeds(hard: float, notes: tuple[str, ...], outcome: str) -> None:
    made = record("rounds", "full", {"rounds": hard + NEAR}, notes, init="forget:5", steps=1024)
    made += record("rounds", "full", {"rounds": 4 + NEAR}, steps=1024)
    found = judged("e-newton-long-memory", made)
    assert found["LSTM, full Jacobian, forget bias 5, T = 1024"] == outcome
    assert found["diagonal cell, exact, gain 4, T = 256"] == "not measured"


def test_gains_are_ordered_by_their_size() -> None:
    made = record("rounds", "full", {"rounds": 12 + NEAR}, gain=4.0) + record("rounds", "full", {"rounds": 4 + NEAR})
    assert judged("e-newton-long-memory", made)["LSTM, full Jacobian, gain 4, T = 256"] == "supported"


@pytest.mark.parametrize(("ratio", "outcome"), [(150.0, "supported"), (15.0, "refuted")])
def test_work_is_judged_in_units_of_the_width(ratio: float, outcome: str) -> None:
    made = record("rounds", "full", {"rounds": 4 + NEAR, "work_ratio": ratio + NEAR})
    assert judged("e-newton-work", made)["H = 16"] == outcome


@pytest.mark.parametrize(("ratio", "outcome"), [(15.0, "supported"), (17.0, "refuted")])
def test_work_of_a_diagonal_cell_is_judged_by_the_log(ratio: float, outcome: str) -> None:
    made = record("rounds", "diagonal", {"rounds": 4 + NEAR, "work_ratio": ratio + NEAR})
    assert judged("e-newton-work-diagonal", made)["T = 256"] == outcome


def test_processors_are_judged_by_a_gpus_lanes() -> None:
    made = record("rounds", "full", {"rounds": 4 + NEAR, "processors": 34_000 + NEAR})
    made += record("rounds", "diagonal", {"rounds": 4 + NEAR, "processors": 1200 + NEAR})
    assert judged("e-newton-processors", made)["H = 16"] == "refuted"
    assert judged("e-newton-processors-diagonal", made)["H = 16"] == "supported"


@pytest.mark.parametrize(
    ("states", "gradients", "outcome"), [(1e-15, 1e-14, "supported"), (1e-9, 0.0, "refuted"), (0.0, 1e-9, "refuted")]
)
def test_agreement_is_judged_by_states_and_gradients(states: float, gradients: float, outcome: str) -> None:
    made = record("agreement", "full", {"state_error": [0.0, states], "gradient_error": [0.0, gradients]})
    assert judged("e-newton-states", made)["LSTM, full Jacobian"] == outcome


@pytest.mark.parametrize(("own", "outcome"), [(0.02, "supported"), (0.0005, "refuted")])
def test_seconds_are_judged_where_they_were_measured(own: float, outcome: str) -> None:
    times = {"newton_time": own * np.exp(NEAR), "sequential_time": 0.001 * np.exp(-NEAR), "loop_time": 0.1 * np.exp(NEAR)}
    made = record("time", "diagonal", times)
    assert judged("e-newton-cpu", made)["diagonal cell, exact, T = 256"] == outcome
    assert judged("e-newton-loop", made)["diagonal cell, exact, T = 256"] == "supported"
    assert set(judged("e-newton-gpu", made).values()) == {"not measured"}
    on_gpu = record("time", "diagonal", times, device="cuda")
    opposite = {"supported": "refuted", "refuted": "supported"}[outcome]
    assert judged("e-newton-gpu", on_gpu)["diagonal cell, exact, T = 256"] == opposite


def test_figures_and_tables_say_what_was_measured() -> None:
    made = record(
        "rounds",
        "full",
        {"rounds": 4 + NEAR, "work_ratio": [136.0] * 3, "processors": [34_184.0] * 3, "newton_path": [9.0] * 3},
    )
    made += record("rounds", "diagonal", {"rounds": [100, 100, 60]}, SLOW, init="forget:5", steps=1024)
    made += record("agreement", "full", {"state_error": [1e-16, 2e-16, 3e-16]})
    times = {"newton_time": 0.02 * np.exp(NEAR), "sequential_time": 0.001 * np.exp(NEAR), "loop_time": 0.1 * np.exp(NEAR)}
    series = pd.DataFrame(made + record("time", "diagonal", times))
    rounds, processors, seconds = (
        drawn(series) for drawn in (figures.draw_rounds, figures.draw_processors, figures.draw_times)
    )
    assert rounds is not None and "LSTM, full Jacobian, PyTorch: 256: 4" in rounds.caption and "1024: > 100" in rounds.caption
    assert processors is not None and "LSTM, full Jacobian: 16: 34 184" in processors.caption
    assert seconds is not None and "diagonal cell, exact: 256: 20.0×" in seconds.caption
    tables = {name: table(series) for name, table in parallel.TABLES.items()}
    assert "| diagonal cell, exact, forget bias 5 |  |  | > 100 [above 60] |  |" in tables["rounds"]
    assert "| LSTM, full Jacobian, H = 16 | 4 [3.98, 4.02] | 136 |  |  | 34 184 |" in tables["counts"]
    assert tables["paths"].startswith("| exponent of the path over T | PyTorch |") and "one length alone" in tables["paths"]
    assert "| LSTM, full Jacobian | 3 × 10⁻¹⁶ |  |  |  |" in tables["errors"] and "training" not in tables["times"]
    other = series.assign(study="quality")
    assert figures.draw_rounds(other) is None and figures.draw_processors(other) is None and figures.draw_times(other) is None


def test_kinds_and_lanes_are_those_of_the_study() -> None:
    assert parallel.KIND_NAMES == {KINDS[kind]: name for kind, name in study.KIND_NAMES.items()}
    assert set(figures.LOOKS) == set(parallel.KIND_NAMES) and figures.LANES == study.H100_LANES
