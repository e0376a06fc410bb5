"""The quantities of study `direction` on made records, its rules' bite, and its figures and tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.statistics import quantities
from analysis.studies import direction
from analysis.studies.direction import figures
from bench.studies.direction import CLAIMS, KIND_NAMES

NEAR = np.array([-0.01, 0.0, 0.01])  # three seeds around a value


def record(probe: str, metrics: dict[str, Any], **more: object) -> list[dict[str, object]]:
    own = {
        "study": "direction", "probe": probe, "cell": "lstm", "direction": "one", "read": "all", "num_layers": 1, "steps": 4,
        "backend": "reference", "launch": "eager", "identity": "", **more,
    }  # fmt: skip
    own["case"] = "-".join(str(value) for value in own.values())
    return [
        own | {"metric": name, "samples": np.atleast_1d(values), "blocks": (1,) * np.atleast_1d(values).size}
        for name, values in metrics.items()
    ]


def judged(name: str, made: list[dict[str, object]]) -> dict[str, str]:
    claim = next(claim for claim in CLAIMS if claim.name == name)
    return {finding.label: finding.outcome for finding in quantities.judge(claim, pd.DataFrame(made)).findings}


@pytest.mark.parametrize(("largest", "outcome"), [(0.0, "supported"), (1e-30, "refuted")])
def test_a_causal_network_leaks_nothing_at_all(largest: float, outcome: str) -> None:
    made = record("leakage", {"future_leakage": [0.0, largest, 0.0]}, num_layers=2)
    assert judged("g-causal", made)["LSTM, two layers"] == outcome


@pytest.mark.parametrize(("least", "outcome"), [(0.1, "supported"), (0.0, "refuted")])
def test_both_directions_leak_in_every_seed(least: float, outcome: str) -> None:
    made = record("leakage", {"future_leakage": [0.2, least, 0.2]}, direction="both")
    assert judged("g-mixed", made)["nn.LSTM(bidirectional), one layer"] == outcome


@pytest.mark.parametrize(
    ("error", "contrast", "outcome"), [(1e-8, 0.3, "supported"), (1e-3, 0.3, "refuted"), (0.0, 0.0, "refuted")]
)
def test_elmos_identity_is_judged_by_both(error: float, contrast: float, outcome: str) -> None:
    made = record("identity", {"identity_error": [0.0, error], "identity_contrast": [0.5, contrast]}, identity="two_stacks")
    assert judged("g-elmo", made)["two layers"] == outcome


@pytest.mark.parametrize(
    ("in_view", "alone", "outcome"), [(0.1, 3.0, "supported"), (2.8, 3.0, "refuted"), (0.1, 2.0, "refuted")]
)
def test_generation_is_judged_by_both_losses(in_view: float, alone: float, outcome: str) -> None:
    made = record("generation", {"next_token_loss": 2.7 + NEAR, "prefix_loss": 2.7 + NEAR, "next_token_optimum": 2.6})
    made += record(
        "generation",
        {"next_token_loss": in_view + NEAR, "prefix_loss": alone + NEAR[::-1], "next_token_optimum": 2.6},
        direction="both",
    )
    assert set(judged("g-generation", made).values()) == {outcome}


def tagged(one: float, both: float, deeper: float) -> list[dict[str, object]]:
    """Losses of one direction, of both, and of two layers of both; the causal optimum is 1."""
    best = {"filter_optimum": 1.0, "smoother_optimum": 0.8}
    made = record("tagging", {"tagging_loss": one + NEAR, **best})
    made += record("tagging", {"tagging_loss": both + NEAR[::-1], **best}, direction="both")
    return made + record("tagging", {"tagging_loss": deeper + NEAR, **best}, direction="both", num_layers=2)


def test_tagging_is_judged_by_direction_depth_and_optimum() -> None:
    made = tagged(1.05, 0.85, 0.95)
    assert judged("g-direction", made)["depth 1"] == "supported"
    assert judged("g-beyond-causal", made)["both directions, one layer"] == "supported"
    assert judged("g-depth", made)["both directions"] == "refuted"
    made = tagged(1.05, 1.2, 0.9)
    assert judged("g-direction", made)["depth 1"] == "refuted"
    assert judged("g-beyond-causal", made)["both directions, one layer"] == "refuted"
    assert judged("g-depth", made)["both directions"] == "supported"
    assert judged("g-direction", made)["depth 2"] == "not measured"  # of one direction there is none


def test_figures_and_tables_say_what_was_measured() -> None:
    causal, mixed = np.tril(np.ones((4, 4))), np.full((4, 4), 0.25)
    made = tagged(1.05, 0.85, 0.95)
    made += record("leakage", {"leakage_matrix": causal.ravel()}, num_layers=2)
    made += record("leakage", {"leakage_matrix": mixed.ravel()}, direction="both", read="forward", num_layers=2)
    series = pd.DataFrame([row | ({"blocks": ()} if row["metric"] == "leakage_matrix" else {}) for row in made])
    leakage, tagging = figures.draw_leakage(series), figures.draw_tagging(series)
    beside = figures.draw_tagging(series.assign(num_layers=series["num_layers"].astype(float)))  # networks without layers
    assert tagging is not None and beside is not None and beside.caption == tagging.caption
    assert leakage is not None and "LSTM, 2 layers: 0;" in leakage.caption and "forward half: 0.25" in leakage.caption
    assert tagging is not None and "one direction, depth 1: 1.05 nat" in tagging.caption
    table = direction.TABLES["tagging"](series)
    assert "| both directions | 0.850" in table and "1.0000 from the past alone, 0.8000 from the whole window" in table
    other = series.assign(study="quality")
    assert figures.draw_leakage(other) is None and figures.draw_tagging(other) is None


def test_kinds_are_those_of_the_study() -> None:
    assert direction.KIND_NAMES == KIND_NAMES and set(figures.LOOKS) == set(KIND_NAMES)
