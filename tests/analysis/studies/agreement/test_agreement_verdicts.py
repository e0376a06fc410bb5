"""The quantities of study `agreement` on made records, its rules' bite, and its figures and tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.statistics import quantities, seeds
from analysis.studies import agreement
from analysis.studies.agreement import figures
from bench.studies import agreement as study
from bench.studies.agreement import CLAIMS, learning

SEEDS, UNITS, STEPS = 10, 6, 11
NEAR = np.linspace(-0.002, 0.002, SEEDS)  # seeds around a value
GRID = [(1, 0), (7, 0), (7, 3), (10, 0), (10, 3)]
LABEL = "gender, language model"


def record(
    below: float = 0.0, cost: float = 0.1, far: float = 0.6, near: float = 0.0, alone: float = 0.5, contrast: float = 0.5,
    kept: float = 0.99, language: str = "gender",
) -> list[dict[str, object]]:  # fmt: skip
    """Of one setting: `cost` of attractors halfway and none at the end; unit 2 is chosen with attractors, 4 without them, and
    judged with these losses; the null allows 0.05."""
    own = {
        "study": "agreement", "language": language, "objective": "next_token", "steps": STEPS, "backend": "reference",
        "launch": "eager", "case": language,
    }  # fmt: skip
    ones = np.ones((SEEDS, len(GRID)))
    halfway = ones - NEAR[:, None] - np.array([cost * (count > 0) - 2 * NEAR * (count > 0) for _, count in GRID]).T
    lost = {name: np.full((SEEDS, UNITS), 0.01) for name in learning.CONDITIONS}
    for name, unit, value in (
        ("choosing", 2, 0.9), ("far", 2, far), ("near", 2, near), ("choosing_alone", 4, 0.9), ("far_alone", 4, alone),
    ):  # fmt: skip
        lost[name][:, unit] = value + NEAR
    lost["far"][:, 5] = 1.0  # loses more where it is judged, and was not chosen
    metrics = {
        "accuracy": 0.92 - below + NEAR[:, None],
        "accuracy_by_distance_halfway": halfway,
        "accuracy_by_distance": ones,
        **{f"unit_loss_{name}": values for name, values in lost.items()},
        **{f"null_loss_{name}": np.full((SEEDS, 1), 0.05) for name in learning.JUDGED},
        "write_at_subject": contrast + 0.1 + NEAR[:, None],
        "write_at_attractor": np.full((SEEDS, 1), 0.1),
        "kept_between": kept + NEAR[:, None],
        "trace": np.tile(np.linspace(0, 1, 4 * STEPS), (2, 1)),
        "best_accuracy": np.array([[0.92]]),
        "tested_distance": np.array([[distance for distance, _ in GRID]], float),
        "tested_attractors": np.array([[count for _, count in GRID]], float),
        "trace_word": np.array([[0, 3, 1, 2, 0, 1, 2, 0, 1, 2, 0]], float),
        "trace_seed_unit": np.array([[7, 4]], float),
    }
    return [
        own | {"metric": name, "samples": values.ravel(), "blocks": (values.shape[1],) * len(values) if len(values) > 1 else ()}
        for name, values in metrics.items()
    ]


def judged(name: str, made: list[dict[str, object]]) -> str:
    claim = next(claim for claim in CLAIMS if claim.name == name)
    found = {finding.label: finding.outcome for finding in quantities.judge(claim, pd.DataFrame(made)).findings}
    outcome = found.pop(LABEL)
    assert set(found.values()) == {"not measured"}
    return outcome


@pytest.mark.parametrize(
    ("claim", "made", "outcome"),
    [
        ("h-agreement", {"below": 0.001}, "supported"), ("h-agreement", {"below": 0.03}, "refuted"),
        ("h-agreement", {"below": 0.01}, "inconclusive"),
        ("h-attractors", {"cost": 0.1}, "supported"), ("h-attractors", {"cost": -0.1}, "refuted"),
        ("h-unit", {"far": 0.6}, "supported"), ("h-unit", {"far": 0.05}, "refuted"), ("h-unit", {"far": 0.06}, "inconclusive"),
        ("h-unit-distance", {"near": 0.0}, "supported"), ("h-unit-distance", {"near": 0.3}, "refuted"),
        ("h-unit-distance", {"far": 0.02}, "refuted"), ("h-unit-distance", {"near": 0.05}, "inconclusive"),
        ("h-unit-share", {"far": 0.6}, "supported"), ("h-unit-share", {"far": 0.0}, "refuted"),
        ("h-unit-share", {"far": 0.05}, "inconclusive"),
        ("h-store", {"alone": 0.5}, "supported"), ("h-store", {"alone": 0.0}, "refuted"),
        ("h-gates", {}, "supported"), ("h-gates", {"contrast": -0.2}, "refuted"), ("h-gates", {"kept": 0.6}, "refuted"),
        ("h-gates", {"alone": 0.0}, "inconclusive"),
    ],
)  # fmt: skip
def test_the_rules_bite(claim: str, made: dict[str, float], outcome: str) -> None:
    assert judged(claim, record(**made)) == outcome


def test_no_loss_at_all_supports_no_unit_and_no_cost() -> None:
    made = pd.DataFrame(record(far=0.0, alone=0.0, cost=0.0))
    flat = made["metric"].str.startswith(("unit_loss", "null_loss", "accuracy_by"))
    made.loc[flat, "samples"] = made.loc[flat, "samples"].map(np.zeros_like)
    for name in ("h-attractors", "h-unit", "h-unit-share", "h-store"):
        assert judged(name, made.to_dict("records")) == "refuted", name


def test_a_unit_is_judged_on_other_sentences_than_chose_it() -> None:
    made = pd.DataFrame(record(far=0.6, alone=0.4))
    assert agreement.of_chosen(made, "far").mean() == pytest.approx(0.6)
    assert agreement.of_chosen(made, "far_alone").mean() == pytest.approx(0.4)
    assert {name: each.chosen_by for name, each in learning.CONDITIONS.items() if each.chosen_by} == agreement.CHOSEN_BY


def test_gates_are_of_networks_with_a_unit_that_stores() -> None:
    made = pd.DataFrame(record())
    (alone,) = made.loc[made["metric"] == "unit_loss_far_alone", "samples"]
    (kept,) = made.loc[made["metric"] == "kept_between", "samples"]
    alone.reshape(SEEDS, UNITS)[4:] = 0.0
    kept[4:] = 0.0
    assert quantities.named("forget_gate_between").estimate(made).value == pytest.approx(0.99, abs=0.002)
    assert quantities.named("networks_with_store").estimate(made).value == pytest.approx(0.4)
    assert quantities.named("costly_units").estimate(made).value == pytest.approx(0.4)


def test_shares_have_wilsons_interval() -> None:
    found = seeds.share(np.arange(10) < 9)
    assert found.low == pytest.approx(0.5958, abs=1e-4) and found.high == pytest.approx(0.9821, abs=1e-4)
    assert seeds.share(np.ones(2, bool)).bounds is None


def test_figures_and_tables_say_what_was_measured() -> None:
    series = pd.DataFrame([*record(far=0.6), *record(far=0.3, language="number")])
    drawn = {name: draw(series, None) for name, draw in figures.FIGURES.items()}
    assert drawn["agreement"] is not None and f"{LABEL}: 0.92" in drawn["agreement"].caption
    assert drawn["units"] is not None and f"{LABEL}: far 0.6" in drawn["units"].caption
    assert drawn["gates"] is not None and f"Unit 5 of network 8, the one that stores most ({LABEL})" in drawn["gates"].caption
    alone = figures.draw_gates(series[series["language"] == "number"])
    assert alone is not None and "(number, language model)" in alone.caption
    assert f"| {LABEL} | 0.92" in agreement.TABLES["accuracy"](series)
    assert f"| {LABEL} | 0.600" in agreement.TABLES["units"](series)
    assert f"| {LABEL} | 0.500" in agreement.TABLES["stores"](series)
    other = series.assign(study="quality")
    assert all(draw(other, None) is None for draw in figures.FIGURES.values())


def test_settings_are_those_of_the_study() -> None:
    assert [(label, selection) for claim in CLAIMS for label, selection in claim.settings] == [
        (label, f"study=agreement,language={language},objective={objective}")
        for (language, objective), label in agreement.SETTINGS.items()
    ] * len(CLAIMS)
    assert agreement.OBJECTIVES == study.OBJECTIVES
