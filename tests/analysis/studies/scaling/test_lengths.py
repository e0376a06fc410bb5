"""Verdicts and figures of the study `scaling`, on records whose crossover is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.report import claims
from analysis.report.groups import studied
from analysis.report.load import load, records_frame, series_frame
from analysis.statistics import quantities
from analysis.statistics.quantities import Verdict, judge
from analysis.studies import scaling as scaling_statistics
from bench.studies import scaling
from results.claims import Claim, Test
from results.record import Footer, Header, Measurement, Record
from results.store import Run, Writer, new_path
from tests.analysis.scaling_synthetic import alone

LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096)
WIDTH = 100
RULE = Claim(
    "e-crossover",
    "The LSTM is cheaper from 12 d on.",
    (Test("crossover_time"), Test("crossover_over_12d", low=0.5, high=2.0)),
    (("training", "study=scaling,sweep=tokens,phase=forward_backward"),),
)


def records(exhausted: int = 10**9) -> list[Record]:
    """A Transformer whose attention costs as much as the rest at 12 d; an LSTM of twice its cost at T = 0."""
    random, made = np.random.default_rng(0), []
    for replicate in range(4):
        for cell in ("lstm_stack", "transformer"):
            for steps in LENGTHS:
                seconds = 2.0 if cell == "lstm_stack" else 1 + steps / (12 * WIDTH)
                samples = tuple(seconds * np.exp(0.02 * random.standard_normal(3)))
                parameters = {
                    "cell": cell, "sweep": "tokens", "phase": "forward_backward", "steps": steps, "hidden_size": WIDTH,
                    "batch": 4096 // steps, "dtype": "float32", "device": "cpu", "num_layers": 1,
                }  # fmt: skip
                counts = {"tokens": 4096.0, "flops": 1e9 * (1 + (cell == "transformer") * steps / (12 * WIDTH))}
                beyond = cell == "transformer" and steps >= exhausted
                made.append(
                    Record(
                        "scaling",
                        f"{cell}-{steps}",
                        "torch",
                        replicate,
                        "failed" if beyond else "ok",
                        parameters,
                        reason="predicted: needs 9 bytes, 1 free" if beyond else "",
                        kind="out_of_memory" if beyond else None,
                        measurements=() if beyond else (Measurement("time", "s", samples),),
                        counts=counts,
                    )
                )
    return made


def run(own: list[Record]) -> Run:
    return Run(Path("r.jsonl"), Header("r", "2026-11-20T12:00:00Z", 1, "imaginary", {}, {}, claims=(RULE,)), tuple(own), None)


def test_the_verdict_follows_the_known_crossover(tmp_path):
    header = Header("r", "2026-11-20T12:00:00Z", 1, "imaginary", {}, {"suite": "cpu", "studies": ["scaling"]}, claims=(RULE,))
    writer = Writer(new_path(tmp_path, header))
    writer.append(header, *records(), Footer("2026-11-20T12:00:01Z", True, 1.0, 1.0))
    writer.close()
    (section,) = load(root=tmp_path)
    (verdict,) = claims.verdicts(section)
    steps, relative = verdict.findings[0].estimates
    assert verdict.word == "supported"
    assert steps.low is not None and steps.high is not None and relative.value is not None
    assert 0.7 * 1200 < steps.low < 1200 < steps.high < 1.4 * 1200 and relative.value == pytest.approx(
        (steps.value or 0) / 1200
    )


def test_out_of_memory_leaves_a_bound_and_a_mark_in_the_figure():
    own = run(records(exhausted=1024))
    series, table = series_frame([own]), records_frame([own])
    found = scaling_statistics.crossover_of(series, ["time"])
    assert found.value is None and found.beyond == 512
    figures = {name: figures for name, _, figures in studied(series, table)}["scaling"]
    caption = figures[0][1].caption  # pyright: ignore[reportAttributeAccessIssue]
    assert "T* > 512 steps" in caption and "energy per token: not measured" in caption


def test_the_rate_an_lstm_keeps_and_what_was_not_measured():
    series = series_frame([run(records())])
    kept = quantities.estimate("rate_kept", series, "study=scaling,cell=lstm_stack")
    assert kept.low is not None and kept.high is not None and kept.low < 1.0 < kept.high
    energy = quantities.estimate("crossover_energy", series, "study=scaling")
    assert energy.bounds is None and not energy.measured
    assert studied(series.iloc[:0], series) == []


def judged(name: str, rows: pd.DataFrame) -> Verdict:
    return judge(next(claim for claim in scaling.CLAIMS if claim.name == name), rows)


def test_memory_is_measured_often_enough_for_a_verdict():
    """The study's own cases, as often as it measures them: lighter, then heavier throughout."""
    light = alone(lambda case: case.tokens * (50.0 if case.spec.cell == "lstm_stack" else 75.0), "rss_peak", "B")
    heavy = alone(lambda case: case.tokens * (99.0 if case.spec.cell == "lstm_stack" else 75.0), "rss_peak", "B")
    assert judged("e-memory", light).word == "supported" and judged("e-memory", heavy).word == "refuted"
    once = light[light["replicate"] == 0]
    assert judged("e-memory", once).word == "inconclusive"


def test_energy_is_measured_often_enough_for_a_verdict():
    """Joules of an LSTM that cost as much as a Transformer's at T = 4992 on a GPU, or at no length that was measured."""

    def energy(dear: float) -> pd.DataFrame:
        costs = {"lstm_stack": lambda steps: dear, "transformer": lambda steps: 1 + steps / 4992}
        return alone(
            lambda case: case.tokens * costs.get(case.spec.cell, costs["lstm_stack"])(case.steps), "energy", "J", "gpu"
        )

    found = judged("e-energy", energy(2.0))
    (steps,) = found.findings[0].estimates
    assert found.word == "supported" and steps.low is not None and steps.high is not None
    assert steps.low < 4992 < steps.high <= 32_768
    assert judged("e-energy", energy(99.0)).word == "refuted"
