"""The quantities of study `translation` on made records, its rules' bite, and its figures and tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.statistics import quantities
from analysis.studies import translation
from analysis.studies.translation import figures
from bench.studies.translation import CLAIMS, DEPTHS, NAMES, ORDERS, TASKS

SIZE, STEPS = 6, 9  # trained on lengths 4, 5 and 6, tested to 9
NEAR = (-0.001, 0.0, 0.001)  # three seeds around a value
Rows = list[dict[str, object]]


def record(
    task: str = "grammar", network: str = "lstm", order: str = "forwards", loss: float = 0.1,
    exact: tuple[float, ...] = (0.9, 0.9, 0.9, 0.1, 0.1, 0.1), layers: int = 1, probe: str = "tasks",
) -> Rows:  # fmt: skip
    own = {
        "study": "translation", "probe": probe, "task": task, "network": network, "order": order, "size": SIZE, "steps": STEPS,
        "num_layers": layers, "case": f"{probe}-{task}-{network}-{order}-{layers}", "backend": "reference", "launch": "eager",
    }  # fmt: skip
    curves = np.array([[value + more for value in exact] for more in NEAR])
    return [
        own | {"metric": "translation_loss", "samples": np.array([loss + more for more in NEAR]), "blocks": (1, 1, 1)},
        own | {"metric": "exact_match", "samples": curves[:, : SIZE - 3].mean(1), "blocks": (1, 1, 1)},
        own | {"metric": "exact_by_length", "samples": curves.ravel(), "blocks": (len(exact),) * 3},
    ]


def judged(name: str, made: Rows) -> dict[str, str]:
    claim = next(claim for claim in CLAIMS if claim.name == name)
    return {finding.label: finding.outcome for finding in quantities.judge(claim, pd.DataFrame(made)).findings}


@pytest.mark.parametrize(
    ("name", "task", "forwards", "backwards", "outcome"),
    [
        ("g-reversed", "grammar", 0.2, 0.1, "supported"), ("g-reversed", "copy", 0.1, 0.2, "refuted"),
        ("g-reversed", "copy", 0.1, 0.1, "inconclusive"), ("g-reversed-mirror", "reverse", 0.1, 0.2, "supported"),
        ("g-reversed-mirror", "reverse", 0.2, 0.1, "refuted"), ("g-reversed-control", "sort", 0.1, 0.1, "supported"),
        ("g-reversed-control", "sort", 0.2, 0.1, "refuted"), ("g-reversed-control", "sort", 0.1, 0.2, "refuted"),
    ],
)  # fmt: skip
def test_the_order_of_the_source_is_judged(name: str, task: str, forwards: float, backwards: float, outcome: str) -> None:
    made = record(task, order="forwards", loss=forwards)
    made += [
        row | ({"samples": row["samples"][[1, 0, 2]]} if row["metric"] == "translation_loss" else {})  # pyright: ignore[reportIndexIssue]
        for row in record(task, order="backwards", loss=backwards)
    ]
    assert judged(name, made)[task] == outcome


def test_depths_are_judged_in_pairs() -> None:
    made = [
        row
        for depth, loss in zip(DEPTHS, (0.3, 0.2, 0.25, 0.25), strict=True)
        for row in record(order="backwards", loss=loss, layers=depth, probe="depth")
    ]
    found = judged("g-layers", made)
    assert found["2 layers against 1"] == "supported" and found["3 layers against 2"] == "refuted"
    assert judged("g-layers", made[:6]) == {
        "2 layers against 1": "supported", "3 layers against 2": "inconclusive", "4 layers against 3": "not measured",
    }  # fmt: skip
    alone = quantities.estimate("layer_gain", pd.DataFrame(made), "probe=depth,num_layers=2")
    assert alone.value is None and alone.measured and "one depth alone" in alone.why


@pytest.mark.parametrize(
    ("with_it", "without", "outcome"),
    [
        ((0.9, 0.9, 0.8), (0.9, 0.6, 0.3), "supported"),  # at 6 words, and the more so the longer
        ((0.9, 0.9, 0.8), (0.4, 0.3, 0.4), "refuted"),  # less on the longest
        ((0.9, 0.5, 0.3), (0.9, 0.9, 0.8), "refuted"),
    ],
)
def test_attention_is_judged_by_the_longest(with_it: tuple[float, ...], without: tuple[float, ...], outcome: str) -> None:
    rest = (0.1,) * 3
    made = record(network="attention", exact=with_it + rest) + record(order="backwards", exact=without + rest)
    made += record(order="forwards", exact=(0.0,) * 6)  # not what attention is compared with
    assert judged("c-bottleneck", made)["grammar"] == outcome
    assert judged("c-bottleneck", made)["copy"] == "not measured"


@pytest.mark.parametrize(
    ("within", "beyond", "outcome"),
    [(0.9, 0.1, "supported"), (0.9, 0.8, "refuted"), (0.8, 0.4, "inconclusive"), (0.05, 0.01, "inconclusive")],
)
def test_what_is_kept_beyond_training_is_judged(within: float, beyond: float, outcome: str) -> None:
    made = record(order="backwards", exact=(within,) * 3 + (beyond,) * 3)
    assert judged("c-beyond", made)["grammar"] == outcome
    made = record(network="transformer", exact=(within,) * 3 + (beyond,) * 3)
    assert judged("c-beyond-attention", made)["Transformer, grammar"] == outcome


def test_beyond_begins_after_the_lengths_trained_on() -> None:
    rows = pd.DataFrame(record(exact=(1.0, 0.8, 0.6, 0.3, 0.2, 0.1)))
    lengths, _, trained = translation.by_length(rows)
    assert lengths.tolist() == [4, 5, 6, 7, 8, 9] and trained == 3
    assert translation.exact_match(rows).value == pytest.approx(0.8)
    assert translation.exact_beyond(rows).value == pytest.approx(0.2)
    assert translation.kept_beyond(rows).value == pytest.approx(0.25, abs=1e-4)
    short = pd.DataFrame(record(exact=(1.0, 0.8, 0.6))).assign(steps=SIZE)
    for found in (translation.exact_beyond(short), translation.kept_beyond(short)):
        assert found.value is None and found.measured and "not tested beyond" in found.why
    unlearnt = translation.kept_beyond(pd.DataFrame(record(exact=(0.05,) * 6)))
    assert unlearnt.value is None and "3 of 3 seeds have not learnt" in unlearnt.why


@pytest.mark.parametrize(("loss", "outcome"), [(0.05, "supported"), (0.2, "refuted")])
def test_a_transformer_is_judged_beside_attention(loss: float, outcome: str) -> None:
    made = record("sort", "attention", loss=0.1) + record("sort", "transformer", loss=loss)
    assert judged("i-translation", made)["sort"] == outcome


def test_names_are_those_of_the_study() -> None:
    assert translation.TASKS == TASKS and translation.DEPTHS == DEPTHS
    assert {network for _, network, _ in translation.NETWORKS} == set(NAMES)
    assert {order for _, _, order in translation.NETWORKS} == set(ORDERS)
    assert set(figures.LOOKS) == {(network, order) for _, network, order in translation.NETWORKS}


def test_figures_and_tables_say_what_was_measured() -> None:
    made = record(order="forwards", loss=0.25) + record(order="backwards", loss=0.125) + record("copy", "transformer")
    made += record(order="backwards", layers=1, probe="depth", loss=0.5) + record(order="backwards", layers=2, probe="depth")
    series = pd.DataFrame(made)
    lengths, depth = figures.draw_by_length(series), figures.draw_depth(series)
    beside = figures.draw_depth(series.assign(num_layers=series["num_layers"].astype(float)))  # networks without layers
    assert lengths is not None and "LSTM, source from its end 0.9" in lengths.caption and "Copy: Transformer" in lengths.caption
    assert depth is not None and beside is not None and beside.caption == depth.caption and "1: 0.5" in depth.caption
    assert "| LSTM, source forwards | 0.250" in translation.TABLES["loss"](series)
    assert "| Transformer |  |  | 0.900" in translation.TABLES["exact"](series)
    assert "| loss, nat a word | 0.500" in translation.TABLES["depth"](series)
    other = series.assign(study="horizon")
    assert figures.draw_by_length(other) is None and figures.draw_depth(other) is None
