"""The rules of study `depth` bite on made records; its figure and tables say what was measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.statistics import quantities
from analysis.studies import depth
from analysis.studies.depth import figures
from bench.studies.depth import CLAIMS, NETWORKS, TASKS

NEAR = np.array([-0.01, 0.0, 0.01])  # three seeds around a value


def record(task: str, kind: str, layers: int, by: str, loss: float, **more: Any) -> list[dict[str, object]]:
    own: dict[str, object] = {
        "study": "depth", "task": task, "direction": kind, "num_layers": layers, "matched": by, "cell": "lstm", "steps": 4,
        "backend": "reference", "launch": "eager",
    }  # fmt: skip
    own["case"] = "-".join(map(str, own.values()))
    metrics = {"tagging_loss": loss + NEAR * (1 if kind == "one" else -1), **more}
    return [
        own | {"metric": name, "samples": np.atleast_1d(values), "blocks": (1,) * np.atleast_1d(values).size}
        for name, values in metrics.items()
    ]


def made(task: str, by: str, one: float, both: float, deeper: float) -> list[dict[str, object]]:
    """Losses of one layer in one direction and in both, and of two layers in both directions."""
    best = {"filter_optimum": 0.4, "smoother_optimum": 0.3} if task != "text" else {}
    timed = {"updates": 100.0, "update_time_ratio": [1.5, 2.0, 9.0]} if by == "time" else {"updates": 200.0}
    rows = record(task, "one", 1, "like", one, updates=200.0, **best)
    rows += record(task, "both", 1, by, both, **timed, **best)
    return rows + record(task, "both", 2, by, deeper, **timed, **best)


def judged(name: str, rows: list[dict[str, object]]) -> dict[str, str]:
    claim = next(claim for claim in CLAIMS if claim.name == name)
    found = quantities.judge(claim, pd.DataFrame(rows)).findings
    return {finding.label: finding.outcome for finding in found if finding.outcome != "not measured"}


@pytest.mark.parametrize(("both", "outcome"), [(0.5, "supported"), (0.9, "refuted"), (0.7, "inconclusive")])
def test_both_directions_must_be_better(both: float, outcome: str) -> None:
    for name, task, by in (
        ("g-direction-text", "text", "parameters"), ("g-direction-frames", "frames", "parameters"),
        ("g-direction-time", "tokens", "time"),
    ):  # fmt: skip
        label = "one layer" if by == "parameters" else f"{task}, one layer"
        assert judged(name, made(task, by, 0.7, both, 0.6)) == {label: outcome}


def test_a_budget_is_judged_by_its_own_records() -> None:
    rows = made("text", "parameters", 0.7, 0.5, 0.4)
    assert not judged("g-direction-time", rows)
    assert judged("g-depth-time", rows) == {"text, one direction": "inconclusive"}  # one depth alone was measured
    rows += made("text", "time", 0.7, 0.9, 1.2)
    assert judged("g-direction-text", rows) == {"one layer": "supported"}
    assert judged("g-direction-time", rows) == {"text, one layer": "refuted"}
    assert judged("g-depth-parameters", rows)["text, both directions"] == "supported"
    assert judged("g-depth-time", rows)["text, both directions"] == "refuted"


def test_the_figure_and_tables_say_both_budgets() -> None:
    rows = [row for task in TASKS for by in ("parameters", "time") for row in made(task, by, 0.7, 0.5, 0.6)]
    series = pd.DataFrame(rows)
    drawing = figures.draw_losses(series)
    assert drawing is not None
    assert "tokens, equal parameters and updates, one direction 0.700; " in drawing.caption
    assert "text, equal time, both directions 0.500 and 0.600." in drawing.caption
    losses, times = (depth.TABLES[name](series) for name in ("losses", "times"))
    assert "| text, equal time | 0.700" in losses and "frames 0.4000 from the past alone, 0.3000" in losses
    assert "text 0." not in losses.split("Least possible")[1]
    assert "| text, time of an update |  | not measured | 2 | 2 |" in times and "| text, updates | 200 |" in times
    assert figures.draw_losses(series.assign(study="direction")) is None


def test_names_are_those_of_the_study() -> None:
    assert depth.TASKS == TASKS and tuple(depth.NETWORKS.values()) == NETWORKS
