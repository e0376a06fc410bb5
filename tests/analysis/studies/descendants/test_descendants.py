"""The quantities of study `descendants` on made records, its rules' bite, and its figures and tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.statistics import quantities
from analysis.studies import descendants
from analysis.studies.descendants import figures
from bench.studies.descendants import CLAIMS, NAMES

SIZE, STEPS = 4, 8


def rows(task: str, network: str, by_seed: list[list[float]], width: int = 8, state: float = 64.0) -> list[dict[str, object]]:
    own = {
        "study": "descendants", "task": task, "network": network, "size": SIZE, "steps": STEPS, "hidden_size": width,
        "case": f"{task}-{network}-{width}", "backend": "reference", "launch": "eager",
    }  # fmt: skip
    means = np.array([np.mean(values[:SIZE]) for values in by_seed])
    flat, blocks = np.concatenate([np.array(values) for values in by_seed]), tuple(len(values) for values in by_seed)
    return [
        own | {"metric": "accuracy", "samples": means, "blocks": (1,) * len(by_seed)},
        own | {"metric": "accuracy_by_step", "samples": flat, "blocks": blocks},
        own | {"metric": "network_state_bytes", "samples": np.array([state]), "blocks": ()},
    ]


def curve(within: float, beyond: float) -> list[list[float]]:
    """Three seeds around these accuracies."""
    return [[1.0] * (SIZE - 1) + [within + more] + [beyond + more] * (STEPS - SIZE) for more in (-0.01, 0.0, 0.01)]


def judged(name: str, made: list[dict[str, object]]) -> dict[str, str]:
    claim = next(claim for claim in CLAIMS if claim.name == name)
    return {finding.label: finding.outcome for finding in quantities.judge(claim, pd.DataFrame(made)).findings}


def test_beyond_begins_after_the_trained_length() -> None:
    made = pd.DataFrame(rows("parity", "lstm", curve(0.8, 0.5)))
    assert descendants.beyond_training(made).value == pytest.approx(0.5)
    assert descendants.at_trained_length(made).value == pytest.approx(0.8)
    short = pd.DataFrame(rows("parity", "lstm", [values[:SIZE] for values in curve(0.8, 0.5)]))
    assert descendants.beyond_training(short).value is None and descendants.beyond_training(short).measured


@pytest.mark.parametrize(
    ("name", "network", "accuracy", "outcome"),
    [
        ("j-parity", "lstm", 0.97, "supported"), ("j-parity", "lstm", 0.5, "refuted"),
        ("j-parity", "slstm", 0.9, "inconclusive"),
        ("j-parity-parallel", "mamba", 0.5, "supported"), ("j-parity-parallel", "mamba", 0.97, "refuted"),
    ],
)  # fmt: skip
def test_the_rules_on_parity_bite(name: str, network: str, accuracy: float, outcome: str) -> None:
    found = judged(name, rows("parity", network, curve(1.0, accuracy)))
    assert found.pop(NAMES[network]) == outcome and set(found.values()) == {"not measured"}


@pytest.mark.parametrize(
    ("name", "network", "accuracy", "outcome"),
    [
        ("j-group", "lstm", 0.97, "supported"), ("j-group", "lstm", 0.7, "refuted"),
        ("j-group-parallel", "s4d", 0.1, "supported"), ("j-group-parallel", "s4d", 0.97, "refuted"),
    ],
)  # fmt: skip
def test_the_rules_on_s5_bite(name: str, network: str, accuracy: float, outcome: str) -> None:
    assert judged(name, rows("s5", network, curve(accuracy, 0.0)))[NAMES[network]] == outcome


def test_recall_is_ranked_by_state() -> None:
    def made(recalls: list[float]) -> list[dict[str, object]]:
        every = [
            rows("recall", "lstm", curve(value, value), 8 * place, 64.0 * place) for place, value in enumerate(recalls, start=1)
        ]
        return [row for each in every for row in each]

    growing = list(np.linspace(0.2, 0.9, 12))
    assert set(judged("j-recall", made(growing)).values()) == {"supported"}
    assert set(judged("j-recall", made(growing[::-1])).values()) == {"refuted"}
    assert set(judged("j-recall", made(growing[:4])).values()) == {"inconclusive"}  # too few for a correlation
    assert judged("j-recall-width", made(growing))["LSTM"] == "supported"
    assert judged("j-recall-width", made(growing[::-1]))["LSTM"] == "refuted"


@pytest.mark.parametrize(
    ("mamba", "s4d", "outcome"), [(0.9, 0.5, "supported"), (0.5, 0.9, "refuted"), (0.9, None, "not measured")]
)
def test_selection_is_judged_against_s4d(mamba: float, s4d: float | None, outcome: str) -> None:
    made = rows("selective_copy", "mamba", curve(mamba, mamba))
    made += rows("selective_copy", "s4d", curve(s4d, s4d)) if s4d is not None else []
    assert judged("j-selection", made)["Mamba"] == outcome


def test_names_are_those_of_the_study() -> None:
    assert descendants.NAMES == NAMES and set(figures.LOOKS) == set(NAMES)


def test_figures_and_tables_say_what_was_measured() -> None:
    made = [*rows("parity", "lstm", curve(1.0, 0.97)), *rows("s5", "mamba", curve(0.2, 0.0))]
    made += [*rows("recall", "lstm", curve(0.3, 0.3)), *rows("selective_copy", "s4d", curve(0.5, 0.5))]
    series = pd.DataFrame(made)
    lengths, recall = figures.draw_by_length(series), figures.draw_recall(series)
    assert lengths is not None and "LSTM 1" in lengths.caption and "beyond 0.970" in lengths.caption
    assert recall is not None and "S4D 0.875" in recall.caption
    assert "| LSTM | 1" in descendants.TABLES["tracking"](series)
    assert "| S4D |" in descendants.TABLES["memory"](series)
    other = series.assign(study="horizon")
    assert figures.draw_by_length(other) is None and figures.draw_recall(other) is None
