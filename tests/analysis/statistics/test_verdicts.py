"""Each of the four verdicts is reached on constructed data; nothing censored, missing or too short becomes a number."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import AnalysisError
from analysis.report import claims
from analysis.report.groups import studied
from analysis.report.load import load, series_frame
from analysis.report.page import build
from analysis.statistics import quantities, seeds
from analysis.statistics.seeds import Estimate
from analysis.studies import gradients as gradients_statistics
from analysis.studies.gradients import Curve, tables
from results.claims import Claim, Test, claim_from_dict
from results.record import Footer, Header, Measurement, Record
from results.store import Run, Writer, new_path

LAGS = np.arange(200)
RULE = Claim(
    "x-ten",
    "It is gone after ten steps.",
    (Test("horizon", low=5.0, high=20.0),),
    (("A", "init=a"), ("B", "init=b")),
    figure="attenuation",
)


def curve(rate: float, noise: float = 0.05, count: int = 8, lags: np.ndarray = LAGS) -> Curve:
    """Decay at `rate` nats a step with a random stretch at every step."""
    random = np.random.default_rng(7)
    steps = rate * np.diff(lags, prepend=0) + noise * random.standard_normal((count, len(lags))) * (lags > 0)
    return Curve(lags, steps.cumsum(1), int(lags[-1]) + 1)


def rows(**rates: float) -> list[Record]:
    """A record per init whose seeds decay at the given rate."""
    made = []
    for init, rate in rates.items():
        found = curve(rate)
        parameters = {"probe": "attenuation", "init": init, "cell": "rnn", "hidden_size": 64, "steps": 200, "phase": "forward"}
        measured = (
            Measurement("lag", "step", tuple(map(float, LAGS))),
            Measurement("log_gradient", "nat", tuple(found.logs.ravel()), (len(LAGS),) * len(found.logs)),
        )
        made.append(Record("gradients", f"case-{init}", "reference", 0, "ok", parameters, measurements=measured))
    return made


def run_file(root: Path, **rates: float) -> Path:
    header = Header("r", "2026-11-20T12:00:00Z", 1, "imaginary", {}, {"suite": "cpu", "studies": ["gradients"]}, claims=(RULE,))
    path = new_path(root, header)
    writer = Writer(path)
    writer.append(header, *rows(**rates), Footer("2026-11-20T12:00:01Z", True, 1.0, 1.0))
    writer.close()
    return path


@pytest.mark.parametrize(
    ("rates", "word"),
    [
        ({"a": -0.6, "b": -0.5}, "supported"),
        ({"a": -0.6, "b": -0.05}, "mixed"),
        ({"a": -0.05, "b": -0.001}, "refuted"),
        ({"a": -0.6}, "inconclusive"),
        ({"a": -0.345, "b": -0.345}, "inconclusive"),  # straddles 20 steps
    ],
)
def test_each_of_the_four_verdicts_is_reached(tmp_path, rates, word):
    (verdict,) = claims.verdicts(load([run_file(tmp_path, **rates)])[0])
    assert verdict.word == word, verdict.findings
    if word == "mixed":
        assert claims.explanation(verdict) == "Supported for A; refuted for B."


def test_what_was_not_measured_is_not_called_undecided(tmp_path):
    (verdict,) = claims.verdicts(load([run_file(tmp_path, a=-0.6)])[0])
    assert claims.explanation(verdict) == "Supported for A; not measured for B."
    (verdict,) = claims.verdicts(load([run_file(tmp_path / "open", a=-0.6, b=-0.345)])[0])
    assert claims.explanation(verdict) == "Supported for A; inconclusive for B."


def test_a_claim_survives_the_file(tmp_path):
    assert claim_from_dict(dataclasses.asdict(RULE)) == RULE
    assert load([run_file(tmp_path, a=-0.6)])[0].runs[0].header.claims == (RULE,)


def test_every_test_of_a_setting_must_hold():
    inside, outside, across = Estimate(1.0, 0.9, 1.1), Estimate(9.0, 8.0, 10.0), Estimate(2.0, 1.0, 3.0)
    test = Test("horizon", low=0.0, high=2.0)
    assert [quantities.outcome(test, each) for each in (inside, outside, across)] == ["supported", "refuted", "inconclusive"]
    assert quantities.outcome(test, seeds.missing("nothing")) == "inconclusive"
    assert quantities.outcome(Test("horizon", low=100.0), Estimate(None, 150.0, None, beyond=199.0)) == "supported"
    assert quantities.outcome(Test("horizon", high=20.0), Estimate(None, 150.0, None, beyond=199.0)) == "refuted"


def test_a_gain_of_exactly_nothing_decides_nothing():
    none = seeds.mean(np.zeros(5))
    assert (none.low, none.high) == (0.0, 0.0)
    assert quantities.outcome(Test("gain", low=0.0), none) == "inconclusive"
    assert quantities.outcome(Test("loss", high=0.0), none) == "inconclusive"
    assert quantities.outcome(Test("leakage", low=0.0, high=0.0), none) == "supported", "two bounds ask for the value itself"
    assert quantities.outcome(Test("gain", low=0.0), seeds.exact(1e-9)) == "supported"


@pytest.mark.parametrize("rate", [-0.6, -0.2, -0.05])
def test_rate_horizon_and_half_life_of_a_known_decay(rate):
    of = curve(rate, noise=0.01)
    horizon, found, half = gradients_statistics.horizon(of), gradients_statistics.rate(of), gradients_statistics.half_life(of)
    assert horizon.value == pytest.approx(np.ceil(np.log(1e-3) / rate), abs=2) and horizon.beyond is None
    assert found.low is not None and found.high is not None and found.low <= rate <= found.high
    assert half.value == pytest.approx(np.log(0.5) / rate, rel=0.05)


def test_a_horizon_never_reached_is_censored_and_shown_as_such():
    found = gradients_statistics.horizon(curve(-0.001))
    assert found.value is None and found.beyond == 199
    assert quantities.named("horizon").format(found) == "> 199 steps"
    grows = gradients_statistics.half_life(curve(0.01))
    assert grows.value is None and quantities.named("half_life").format(grows) == "does not fall"


def test_a_horizon_between_thinned_lags_is_interpolated():
    of = curve(-0.1, noise=1e-6, lags=np.array([0, 1, 2, 4, 8, 16, 32, 64, 128]))
    assert gradients_statistics.horizon(of).value == 70


def test_an_exponential_and_a_power_law_are_told_apart():
    random = np.random.default_rng(3)
    noise = (0.01 * random.standard_normal((10, len(LAGS)))).cumsum(1)
    exponential = gradients_statistics.bic_for_exponential(Curve(LAGS, -0.1 * LAGS + noise, 200))
    power = gradients_statistics.bic_for_exponential(Curve(LAGS, -3.0 * np.log1p(LAGS) + noise, 200))
    assert exponential.low is not None and exponential.low > 10
    assert power.high is not None and power.high < -10


def test_noise_that_piles_up_does_not_pass_for_evidence():
    """A random walk without drift follows neither law: its interval must not be decisive in either direction."""
    random = np.random.default_rng(5)
    found = gradients_statistics.bic_for_exponential(
        Curve(LAGS, (0.1 * random.standard_normal((20, len(LAGS)))).cumsum(1), 200)
    )
    assert found.low is not None and found.low < 10 and found.high is not None and found.high > -10


@pytest.mark.parametrize("quantity", [gradients_statistics.rate, gradients_statistics.bic_for_exponential])
def test_too_few_points_are_no_number(quantity):
    found = quantity(curve(-0.6, lags=np.arange(6)))
    assert found.value is None and "too few" in found.why
    assert quantities.outcome(Test("rate", high=0.0), found) == "inconclusive"


def test_too_few_seeds_are_no_number():
    assert gradients_statistics.horizon(curve(-0.6, count=2)).why == "2 seeds: too few for an interval"
    assert seeds.mean(np.array([1.0, np.nan, 2.0])).value is None


def test_the_interval_of_a_decay_length_covers_as_stated():
    truth, covered = np.ceil(np.log(1e-3) / -0.2), 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        rates = -0.2 + 0.02 * random.standard_normal((8, 1))
        found = gradients_statistics.horizon(Curve(LAGS, rates * LAGS, 200))
        assert found.low is not None and found.high is not None
        covered += found.low <= truth <= found.high
    assert covered >= 185


def test_seeds_cut_short_are_read_as_far_as_all_go():
    assert seeds.together(seeds.by_seed(np.arange(5.0), (3, 2))).tolist() == [[0, 1], [3, 4]]


def test_selections_and_quantities_that_cannot_be_read_say_so():
    frame = pd.DataFrame({"init": ["a"], "steps": [5]})
    assert len(quantities.select(frame, "init=a,steps<=5")) == 1 and quantities.select(frame, "nothing=1").empty
    with pytest.raises(AnalysisError, match="cannot read 'init'"):
        quantities.select(frame, "init")
    with pytest.raises(AnalysisError, match="no quantity 'horizn'; choose from"):
        quantities.estimate("horizn", frame, "init=a")


def test_claims_of_the_report_link_to_their_figures(tmp_path):
    report = build([run_file(tmp_path, a=-0.6, b=-0.05)], tmp_path / "out")
    page, twin = report.html.read_text(), report.markdown.read_text()
    assert 'href="#figure-attenuation"' in page and 'id="figure-attenuation"' in page
    card = page[page.index('<ul class="board">') : page.index("Show all claims")]
    assert ">Mixed (1 of 2 settings)</p>" in card and "<p>Supported for A; refuted for B.</p>" in card
    assert "Mixed (1 of 2 settings). Supported for A; refuted for B." in twin and "## Claims" in twin


def test_the_initialisation_table_censors_what_never_decays(tmp_path):
    records = [dataclasses.replace(each, parameters=each.parameters | {"cell": "lstm", "init": init})
               for each, init in zip(rows(a=-0.6, b=-0.001), ("pytorch", "forget:3"), strict=True)]  # fmt: skip
    header = Header("r", "2026-11-20T12:00:00Z", 1, "imaginary", {}, {})
    series = series_frame([Run(Path("x"), header, tuple(records), None)])
    texts = [[cell.text for cell in row] for row in tables.audit_table(series).rows]
    assert texts[0][0] == "PyTorch default" and texts[0][3].startswith("12 [12, 1")
    assert texts[1][3] == "> 199" and texts[1][4] == texts[1][6] == "not measured"


@pytest.mark.parametrize(("theirs", "text"), [((0.0, -1.0001), "1 × 10⁻⁴"), ((0.0,), "exactly zero or not finite")])
def test_backends_that_disagree_are_found_out(theirs, text):
    frame = pd.DataFrame(
        {
            "probe": "inputs", "metric": "log_input", "backend": ["reference", "torch"], "steps": 2,
            "samples": [np.array([0.0, -1.0]), np.array(theirs)],
        }
    )  # fmt: skip
    found = quantities.estimate("input_disagreement", frame, "probe=inputs")
    assert text in quantities.named("input_disagreement").format(found)


def test_a_run_without_claims_has_no_board(report):
    assert "Claims</h2>" not in report.html.read_text() and studied(series_frame([]), pd.DataFrame()) == []


def test_an_interval_that_ends_at_zero_is_drawn_to_there():
    assert Estimate(0.5, 0.0, 0.75).reach == (0.5, 0.25)
    assert Estimate(0.5).reach == (0.0, 0.0) and Estimate(0.5, 0.25).reach == (0.25, 0.0)
