"""The quantities of study `speech` on made records, its rules' bite, and its figures and tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.statistics import quantities
from analysis.studies import speech
from analysis.studies.speech import figures
from bench.studies.speech import CLAIMS
from bench.studies.speech.sizes import NAMES

NEAR = np.array([-0.01, 0.0, 0.01])  # three seeds around a value


def record(network: str, error: float, delay: float, streaming: float | None = None, seeds: int = 3) -> list[dict[str, object]]:
    own = {
        "study": "speech", "network": network, "case": network, "steps": 40, "backend": "reference", "launch": "eager",
    }  # fmt: skip
    one = (1,) * seeds
    metrics: dict[str, tuple[Any, tuple[int, ...]]] = {
        "phone_error": (error + NEAR[:seeds] / 10, one), "output_delay": (delay + NEAR[:seeds], one),
        "whole_real_time_factor": (np.full(2 * seeds, 0.0003), (2,) * seeds), "network_parameters": ([30744.0], ()),
        "whole_bytes": ([70_000.0, 560_000.0] * seeds, (2,) * seeds),
    }  # fmt: skip
    if streaming is not None:
        metrics["streaming_real_time_factor"] = (np.tile([streaming - 0.001, streaming + 0.001], seeds), (2,) * seeds)
        metrics["slowest_step_seconds"] = (np.tile([0.001, 0.004], seeds), (2,) * seeds)
        metrics["streaming_bytes"] = (np.full(2 * seeds, 138_000.0), (2,) * seeds)
        metrics["state_bytes"] = ([512.0], ())
    return [
        own | {"metric": name, "samples": np.asarray(values, float), "blocks": blocks}
        for name, (values, blocks) in metrics.items()
    ]


def made(errors: tuple[float, float, float, float] = (0.40, 0.37, 0.36, 0.38), earlier: float = 0.33, factor: float = 0.005):
    names = ("bidirectional", "convolution", "transformer")
    rows = record("streaming", errors[0], 0.29 - earlier, factor)
    return rows + [row for name, error in zip(names, errors[1:], strict=True) for row in record(name, error, 0.29)]


def judged(name: str, rows: list[dict[str, object]]) -> dict[str, str]:
    claim = next(claim for claim in CLAIMS if claim.name == name)
    return {finding.label: finding.outcome for finding in quantities.judge(claim, pd.DataFrame(rows)).findings}


@pytest.mark.parametrize(("both", "outcome"), [(0.37, "supported"), (0.42, "refuted"), (0.40, "inconclusive")])
def test_direction_is_judged_by_phone_errors(both: float, outcome: str) -> None:
    rows = made((0.40, both, 0.36, 0.38))
    for row in rows:
        if row["network"] == "streaming" and row["metric"] == "phone_error":
            row["samples"] = 0.40 + np.array([0.002, -0.001, -0.001])  # so that the pairs do not all differ by the same
    assert judged("g-speech-direction", rows) == {"synthesised speech": outcome}


def test_other_networks_are_judged_one_by_one() -> None:
    found = judged("g-speech-networks", made())
    assert found == {"against a convolution": "refuted", "against a Transformer": "supported"}


@pytest.mark.parametrize(("factor", "outcome"), [(0.005, "supported"), (1.4, "refuted")])
def test_real_time_is_judged_by_the_stream(factor: float, outcome: str) -> None:
    assert judged("g-speech-real-time", made(factor=factor)) == {"LSTM, one direction": outcome}


@pytest.mark.parametrize(("earlier", "outcome"), [(0.33, "supported"), (-0.1, "refuted")])
def test_delay_is_judged_against_whole_utterances(earlier: float, outcome: str) -> None:
    rows = made(earlier=earlier)
    for row in rows:
        if row["network"] == "streaming" and row["metric"] == "output_delay":
            row["samples"] = row["samples"][::-1]  # pyright: ignore[reportIndexIssue]
    assert judged("g-speech-delay", rows) == {"synthesised speech": outcome}


def test_two_seeds_and_a_missing_network_decide_nothing() -> None:
    rows = record("streaming", 0.4, 0.0, 0.005, seeds=2) + record("bidirectional", 0.3, 0.3, seeds=2)
    assert judged("g-speech-direction", rows) == {"synthesised speech": "inconclusive"}
    assert judged("g-speech-networks", rows) == {
        "against a convolution": "not measured",
        "against a Transformer": "not measured",
    }


def test_figures_and_tables_say_what_was_measured() -> None:
    series = pd.DataFrame(made())
    error, streaming = figures.draw_phone_error(series), figures.draw_streaming(series)
    assert error is not None and "LSTM, one direction 0.400 [" in error.caption and "Transformer 0.380" in error.caption
    assert streaming is not None and "LSTM, both directions 0.290 s" in streaming.caption
    table = speech.TABLES["errors"](series)
    assert "| convolution | 30,744 | 0.360 [" in table and "70 kB / 560 kB" in table and table.count("\n") == 5
    stepwise = speech.TABLES["streaming"](series)
    assert "| step by step | 0.005" in stepwise and "138 kB / 138 kB | 512 B |" in stepwise
    other = series.assign(study="direction")
    assert figures.draw_phone_error(other) is None and figures.draw_streaming(other) is None


def test_names_are_those_of_the_study() -> None:
    assert speech.NAMES == NAMES and set(figures.LOOKS) == set(NAMES)
