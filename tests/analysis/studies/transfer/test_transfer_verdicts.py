"""The quantities of study `transfer` on made records, its rules' bite, and its figures and tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.statistics import quantities
from analysis.studies import transfer
from analysis.studies.transfer import figures
from bench.studies.transfer import CLAIMS, TAGS

SEEDS = 5
NEAR = np.linspace(-0.005, 0.005, SEEDS)[:, None]  # seeds around a value
LABEL = "topic"


def record(
    scratch: tuple[float, ...] = (1.2, 1.0, 0.7), frozen: tuple[float, ...] = (0.9, 0.8, 0.75),
    layers: tuple[float, ...] = (1.3, 1.0, 0.8), tag: str = "topic",
) -> list[dict[str, object]]:  # fmt: skip
    """Of one tag; the spread of seeds is the same everywhere but in `frozen`, where it is turned round."""
    own = {
        "study": "transfer", "tag": tag, "steps": 24, "backend": "reference", "launch": "eager", "case": tag, "num_layers": 2,
    }  # fmt: skip
    metrics = {
        "transfer_loss": np.array(frozen) - NEAR,
        "scratch_loss": np.array(scratch) + NEAR,
        "layer_loss": np.array(layers) + NEAR * [1, 1, -1],
        "transfer_error": np.array(frozen) / 3 + NEAR,
        "scratch_error": np.array(scratch) / 3 + NEAR,
        "language_model_loss": np.array([3.9, 3.9]) + NEAR,
        "least_loss": np.array([[0.6]]),
        "least_language_model_loss": np.array([[3.8]]),
        "labelled": np.array([[100.0, 1000.0, 10_000.0]]),
    }
    return [
        own | {"metric": name, "samples": values.ravel(), "blocks": (values.shape[1],) * len(values) if len(values) > 1 else ()}
        for name, values in metrics.items()
    ]


def judged(name: str, made: list[dict[str, object]]) -> str:
    claim = next(claim for claim in CLAIMS if claim.name == name)
    found = {finding.label: finding.outcome for finding in quantities.judge(claim, pd.DataFrame(made)).findings}
    outcome = found.pop(str(made[0]["tag"]))
    assert set(found.values()) <= {"not measured"}
    return outcome


@pytest.mark.parametrize(
    ("claim", "made", "outcome"),
    [
        ("g-transfer-few", {}, "supported"), ("g-transfer-few", {"frozen": (1.3, 1.0, 0.9)}, "refuted"),
        ("g-transfer-few", {"frozen": (1.2, 1.0, 0.9)}, "inconclusive"),
        ("g-transfer-many", {}, "refuted"), ("g-transfer-many", {"frozen": (0.9, 0.8, 0.6)}, "supported"),
        ("g-transfer-many", {"frozen": (0.9, 0.8, 0.7)}, "inconclusive"),
        ("g-transfer-tenfold", {}, "supported"), ("g-transfer-tenfold", {"scratch": (1.2, 0.8, 0.7)}, "refuted"),
        ("g-layer-topic", {}, "supported"), ("g-layer-topic", {"layers": (1.3, 0.8, 1.0)}, "refuted"),
        ("g-layer-class", {"tag": "class"}, "refuted"),
        ("g-layer-class", {"tag": "class", "layers": (1.3, 0.8, 1.0)}, "supported"),
        ("g-layer-class", {"tag": "class", "layers": (1.3, 0.8, 0.8)}, "inconclusive"),
        ("g-mix", {}, "supported"), ("g-mix", {"frozen": (0.9, 0.8, 0.9)}, "refuted"),
    ],
)  # fmt: skip
def test_the_rules_bite(claim: str, made: dict[str, object], outcome: str) -> None:
    assert judged(claim, record(**made)) == outcome  # type: ignore[arg-type]


def test_every_claim_has_a_case_above() -> None:
    (marked,) = [mark for mark in test_the_rules_bite.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
    assert {name for name, *_ in marked.args[1]} == {claim.name for claim in CLAIMS}


def test_seeds_are_pairs() -> None:
    found = quantities.named("transfer_gain_fewest").estimate(pd.DataFrame(record()))
    assert found.value == pytest.approx(0.3) and found.low is not None
    assert found.low == pytest.approx(0.3 - 2.776 * np.std(2 * NEAR, ddof=1) / np.sqrt(SEEDS), abs=1e-4)
    assert quantities.named("transfer_gain_tenfold").estimate(pd.DataFrame(record())).value == pytest.approx(0.1)
    assert quantities.named("best_layer_less_mix").estimate(pd.DataFrame(record())).value == pytest.approx(0.05)
    assert not quantities.named("transfer_gain_most").estimate(pd.DataFrame(record()).iloc[:1]).measured


def test_figures_and_tables_say_what_was_measured() -> None:
    series = pd.DataFrame([*record(), *record(tag="class", layers=(1.3, 0.8, 1.0))])
    drawn = {name: draw(series, None) for name, draw in figures.FIGURES.items()}
    assert drawn["transfer"] is not None and f"{LABEL}: 0.300" in drawn["transfer"].caption
    assert drawn["probes"] is not None and f"{LABEL}: −0.200" in drawn["probes"].caption.replace("-", "−")
    assert f"| {LABEL}, 100 | 0.900" in transfer.TABLES["labels"](series)
    assert f"| {LABEL} | 1.3" in transfer.TABLES["layers"](series)
    assert "| 3.9" in transfer.TABLES["model"](series)
    other = series.assign(study="quality")
    assert all(draw(other, None) is None for draw in figures.FIGURES.values())
    assert transfer.TAGS == TAGS and {claim.figure for claim in CLAIMS} == set(figures.FIGURES)
