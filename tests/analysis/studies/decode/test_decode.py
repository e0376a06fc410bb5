"""What the decode chart and its claims say of constructed streams: one that slows down, one that does not, one too few."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.statistics import quantities
from analysis.studies import decode as decode_statistics
from analysis.studies.decode import figures as decode_figures
from bench.studies.decode import CLAIMS
from bench.studies.stream import STUDY as STREAM

CONTEXTS = (64, 512, 4096)


def rows(replicates: int = 3) -> pd.DataFrame:
    """Attention: 1 ms and 1 µs a token of context; LSTM: 2 ms whatever; jax is twice as slow as torch."""
    made = []
    for model in ("attention", "lstm"):
        for context in CONTEXTS:
            for backend, slow in (("torch", 1.0), ("jax", 2.0)):
                for replicate in range(replicates):
                    seconds = (1e-3 + 1e-6 * context if model == "attention" else 2e-3) * slow * (1 + 1e-3 * replicate)
                    bytes_ = 1000 * context if model == "attention" else 5000
                    made.append({
                        "study": "decode", "metric": "time", "model": model, "steps": context, "batch": 1, "backend": backend,
                        "launch": "eager",
                        "replicate_key": f"r{replicate}", "samples": np.full(5, seconds), "count_state_bytes": bytes_,
                        "count_least_bytes": 10**6 + bytes_, "count_parameter_bytes": 10**6,
                    })  # fmt: skip
    return pd.DataFrame(made)


def test_the_fastest_backend_is_taken_and_its_growth_estimated() -> None:
    attention, lstm = decode_statistics.streams(rows())
    assert attention.backend == lstm.backend == "torch"
    assert attention.time_over_context().value == pytest.approx(5.096e-3 / 1.064e-3)
    assert lstm.time_over_context().value == pytest.approx(1.0)
    assert (attention.state_exponent().value, lstm.state_exponent().value) == (pytest.approx(1.0), 0.0)
    assert list(attention.streams(1e9 + 1e6)) == [15625, 1953, 244]
    assert list(attention.streams(0.9e6)) == [0, 0, 0]  # not even the weights
    assert attention.fitting(512, 1e9 + 1e6) == 1953 and attention.fitting(100, 1e9) is None


def test_verdicts_follow_the_rules_written_down() -> None:
    words = {claim.name: quantities.judge(claim, rows()) for claim in CLAIMS}
    assert words["f-state-fixed"].word == words["f-token-constant"].word == "supported"
    assert [finding.outcome for finding in words["f-token-slower"].findings] == ["supported", "not measured", "not measured"]
    assert [finding.outcome for finding in words["f-cache-grows"].findings] == ["supported", "not measured", "not measured"]


def test_a_stream_that_slows_down_is_not_constant() -> None:
    slowed = rows()
    slowed["model"] = slowed["model"].replace({"attention": "lstm", "lstm": "attention"})
    claims = {claim.name: quantities.judge(claim, slowed).word for claim in CLAIMS}
    assert claims["f-token-constant"] == claims["f-state-fixed"] == "refuted"


def test_two_replicates_decide_nothing() -> None:
    assert {quantities.judge(claim, rows(2)).word for claim in CLAIMS if "token" in claim.name} == {"inconclusive"}


def test_figures_are_drawn_of_it_alone() -> None:
    for draw in (decode_figures.draw_decode, decode_figures.draw_streams):
        drawn = draw(rows())
        assert drawn is not None and "Attention" in drawn.caption
        assert draw(rows().assign(study="throughput")) is None


@pytest.mark.parametrize(("late", "grown", "word"), [(1e-6, 0, "supported"), (1e-5, 0, "refuted"), (1e-6, 2**21, "refuted")])
def test_drift_and_growth_are_judged(late: float, grown: int, word: str) -> None:
    own = {"study": "stream", "cell": "lstm", "steps": 61, "piece": 1, "blocks": ()}
    made = pd.DataFrame([
        own | {"metric": "state_error", "samples": np.array([1e-6] * 5 + [late] * 5)},
        own | {"metric": "resident", "samples": np.linspace(1e8, 1e8 + grown, 10)},
    ])  # fmt: skip
    assert quantities.judge(STREAM.claims[0], made).findings[0].outcome == word
    assert quantities.estimate("stream_growth", made, "study=stream").value == grown
    on_device = made.assign(metric=made["metric"].replace({"resident": "device_used"}))
    assert quantities.estimate("stream_growth", pd.concat([made, on_device]), "study=stream").value == grown
    assert quantities.estimate("stream_growth", on_device, "study=stream").value == grown


def beside(metric: str, value: float, context: int = 512, replicate: int = 0) -> dict[str, object]:
    own = {
        "study": "decode",
        "model": "attention",
        "backend": "torch",
        "launch": "graph",
        "steps": context,
        "batch": 1,
        "case": f"T{context}",
    }
    return own | {"metric": metric, "samples": np.array([value]), "replicate_key": f"r{replicate}"}


def test_energy_is_shown_where_it_was_measured() -> None:
    drawn = decode_figures.draw_decode(rows())
    assert drawn is not None and drawn.caption.endswith("Energy per token: not measured.") and len(drawn.figure.axes) == 3
    measured = [
        beside("energy", 1e-3 * context * (1 + number), context, number) for context in (64, 4096) for number in range(3)
    ]
    drawn = decode_figures.draw_decode(pd.concat([rows(), pd.DataFrame(measured)]))
    assert drawn is not None and len(drawn.figure.axes) == 4
    # 64 mJ and 4.096 J by the cube root of 1·2·3, the geometric mean over replicates.
    assert "by torch (CUDA graph). For a context of 64 → 4096 tokens: Attention 116 mJ → 7.44 J" in drawn.caption


def test_a_measured_count_stands_beside_the_closed_form() -> None:
    drawn = decode_figures.draw_streams(rows())
    assert drawn is not None and "In 1.00 GB, less the weights" in drawn.caption and "on a GPU: not measured" in drawn.caption
    counted = [beside("streams", 18000.0), beside("free_bytes", 10e9 + 1e6)]
    drawn = decode_figures.draw_streams(pd.concat([rows(), pd.DataFrame(counted)]))
    assert drawn is not None and "In 10.0 GB" in drawn.caption
    assert "Attention 18 000 of 19 531 after 512 tokens" in drawn.caption
