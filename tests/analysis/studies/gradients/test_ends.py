"""A gradient that is exactly zero has faded; one that is not finite is not known; no seed is left out without a word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.report.findings import find_out
from analysis.report.load import load, records_frame, series_frame
from analysis.report.page import build, notes
from analysis.report.summary import rows as shown
from analysis.statistics import quantities, seeds
from analysis.statistics.seeds import Estimate
from analysis.studies import gradients as gradients_statistics
from analysis.studies import horizon as horizon_statistics
from analysis.studies.horizon import Pair
from bench.studies.gradients import cells
from results.claims import Claim, Test
from results.metrics import Gap
from results.record import Footer, Header, Measurement, Record
from results.store import Run, Writer, new_path

LAGS = np.arange(200)


def fading(
    count: int = 10, dead: dict[int, int] | None = None, bad: float = -np.inf, horizon: float = 69.0
) -> list[np.ndarray]:
    """ln A of seeds that fade to a thousandth at `horizon` or so; dead: seed → lag from which on its gradient is `bad`."""
    random, made = np.random.default_rng(2), []
    for seed in range(count):
        own = np.log(1e-3) / horizon * LAGS + 0.02 * random.standard_normal(len(LAGS)).cumsum()
        if dead and seed in dead:
            own[dead[seed] :] = bad
        made.append(own)
    return made


def record(own: list[np.ndarray], init: str = "irnn", **more: object) -> Record:
    measured = (cells.lags_measured(LAGS), cells.measurement("log_gradient", "nat", own, LAGS))
    parameters = {"probe": "attenuation", "cell": "rnn", "init": init, "hidden_size": 64, "steps": 200, "phase": "forward",
                  "device": "cpu", "dtype": "float64", "batch": 4} | more  # fmt: skip
    return Record("gradients", f"rnn-{init}", "reference", 0, "ok", parameters, measurements=measured)


def series(*records: Record) -> pd.DataFrame:
    return series_frame([run(*records)])


def run(*records: Record) -> Run:
    return Run(Path("x"), Header("r", "2026-11-20T12:00:00Z", 1, "imaginary", {}, {"studies": ["gradients"]}), records, None)


def horizon(*dead: tuple[int, int], count: int = 10, bad: float = -np.inf, fades: float = 69.0) -> Estimate:
    of = gradients_statistics.curve(series(record(fading(count, dict(dead), bad, fades))))
    assert of is not None
    return gradients_statistics.horizon(of)


def test_what_the_study_notes_is_what_is_read():
    own = [np.array([0.0, -1.0]), np.array([0.0, -np.inf]), np.array([np.inf, 0.0])]
    found = gradients_statistics.read_gaps(cells.measurement("log_input", "nat", own, np.array([0, 7])).notes)
    assert found == [Gap("log_input", True, 1, 7), Gap("log_input", False, 2, 0)]
    assert gradients_statistics.format_gaps(found) == "exactly zero at lag 7 for seed 1; not finite at lag 0 for seed 2"
    assert gradients_statistics.read_gaps(cells.measurement("decay", "1", [np.array([-np.inf])]).notes) == [
        Gap("decay", True, 0)
    ]


def test_one_dead_seed_does_not_censor_nine_that_fade():
    whole, one = horizon(), horizon((3, 2))
    assert whole.value is not None and abs(whole.value - 69) <= 3 and not whole.why
    assert one.beyond is None and one.value is not None and abs(one.value - 69) <= 3 and one.seeds == 10
    assert quantities.named("horizon").format(one).endswith("(median of seeds: exactly zero in 1 of 10 seeds from lag 2 on)")


def test_dead_seeds_count_as_faded_and_not_as_survivors():
    assert horizon(*((seed, 5) for seed in range(8))).value == 5
    assert horizon(*((seed, 5) for seed in range(10))).value == 5
    most = horizon(*((seed, 5) for seed in range(4)), fades=1e9)  # six of ten never fade
    assert most.value is None and most.beyond == 199 and most.low == 5


def test_a_death_after_the_mean_has_faded_changes_nothing():
    assert horizon((3, 150)) == horizon()


def test_a_gradient_that_is_not_finite_is_not_taken_for_faded():
    found = horizon((3, 2), bad=np.nan)
    assert found.value is None and found.beyond is None and found.why == "not finite in 1 of 10 seeds before it has faded"


def test_few_seeds_of_which_one_died_have_no_interval():
    assert "5 seeds are too few for an interval of their median" in horizon((3, 2), count=5).why


def test_a_law_needs_lags_that_all_seeds_have():
    of = gradients_statistics.curve(series(record(fading(10, {3: 2}))))
    assert of is not None and of.underflow_lags == [2]
    for law in (gradients_statistics.rate, gradients_statistics.offset, gradients_statistics.bic_for_exponential):
        assert law(of).why.startswith("exactly zero in 1 of 10 seeds from lag 2 on; ")
    late = gradients_statistics.curve(series(record(fading(10, {3: 150}))))
    assert late is not None and gradients_statistics.rate(late).value == pytest.approx(np.log(1e-3) / 69, rel=0.1)


def test_what_passed_over_100_steps_is_zero_only_where_all_are():
    quantity = quantities.named("passed_over_100").estimate
    assert quantity(series(record(fading(4, dict.fromkeys(range(4), 30))))).value == 0.0
    assert quantity(series(record(fading(4, {1: 30})))).why == "exactly zero at lag 100 in 1 of 4 seeds"
    assert quantity(series(record(fading(4)))).value == pytest.approx(1e-3 ** (99 / 69), rel=0.6)


def test_a_seed_without_any_value_is_missed():
    assert seeds.together([np.empty(0), np.arange(2.0)]).size == 0
    assert seeds.mean(np.array([1.0, np.nan, 2.0, 3.0])).why == "1 of 4 seeds without a number"
    measured = Measurement("hop_share_10", "1", (0.5, 0.6, 0.7), (1, 0, 1, 1))
    frame = series(Record("gradients", "c", "reference", 0, "ok", {"probe": "carousel", "steps": 9}, measurements=(measured,)))
    assert quantities.estimate("hop_share_at_10", frame, "probe=carousel").why == "1 of 4 seeds without a number"


def test_what_is_censored_below_a_number_cannot_be_ranked(monkeypatch):
    def pair(place: int, learnt: Estimate) -> Pair:
        return Pair("lstm", f"forget:{place}", Estimate(10.0 * place, 1.0, 99.0), learnt)

    known = [pair(place, Estimate(7.0 * place, 1.0, 99.0)) for place in range(1, 6)]
    for beyond, why in ((20.0, "L50 > 20 cannot be ranked beside 35: look at more steps"), (113.0, "")):
        monkeypatch.setattr(
            horizon_statistics, "pairs", lambda _, b=beyond: [*known, pair(6, Estimate(None, 9.0, None, beyond=b))]
        )
        assert horizon_statistics.rank_correlation(pd.DataFrame()).why == why


def test_the_reader_is_told_of_every_lag_and_seed(tmp_path):
    header = Header("r", "2026-11-20T12:00:00Z", 1, "imaginary", {}, {"suite": "cpu", "studies": ["gradients"]})
    path = new_path(tmp_path, header)
    writer = Writer(path)
    writer.append(header, record(fading(10, {3: 2, 4: 9, 5: 2})), Footer("2026-11-20T12:00:01Z", True, 1.0, 1.0))
    writer.close()
    text = "log_gradient is exactly zero at lag 2 for seeds 3 and 5, at lag 9 for seed 4"
    assert f"rnn-irnn on reference: {text}." in notes(find_out(load([path])[0]))
    assert text in build([path], tmp_path / "out").markdown.read_text()
    assert text in shown([path])[0]["notes"]


def test_untested_backends_of_a_claim_on_all_are_named():
    def through(backend: str, status: str) -> Record:
        measured = (Measurement("log_input", "nat", (0.0, -1.0), (2,)),) if status == "ok" else ()
        reason = "" if status == "ok" else "no"
        kind = "error" if status == "failed" else None
        return Record("gradients", "c", backend, 0, status, {"probe": "inputs", "steps": 2}, reason, kind, measured)  # pyright: ignore[reportArgumentType]

    made = run(*(through(*each) for each in (("reference", "ok"), ("torch", "ok"), ("cudnn", "skipped"), ("jax", "failed"))))
    claim = Claim("agree", "Every backend agrees.", (Test("input_disagreement", 0.0, 1e-3),), (("all", "probe=inputs"),))
    verdict = quantities.judge(claim, series_frame([made]), records_frame([made]))
    assert verdict.word == "supported" and verdict.untested == {"skipped": ("cudnn",), "failed": ("jax",)}
    other = Claim("other", "…", (Test("identity_error", 0.0),), (("all", "probe=inputs"),))
    assert quantities.judge(other, series_frame([made]), records_frame([made])).untested == {}
