"""Rounds of Newton's method: what did not converge is a bound, and the caption says what was found and no more."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.report.load import series_frame
from analysis.statistics import quantities
from analysis.statistics.quantities import judge
from analysis.studies.scaling import figures
from bench.studies import scaling
from results.record import Header, Measurement, Record
from results.store import Run

EXPONENTS = {"pytorch": -0.43, "forget:1": -0.18, "forget:3": -0.024, "forget:5": -0.003, "chrono:784": -0.0018}


def series(rounds: dict[str, float], notes: tuple[str, ...] = ()) -> pd.DataFrame:
    made = []
    for init, each in rounds.items():
        parameters = {"cell": "lstm", "sweep": "newton", "steps": 1024, "init": init}
        measured = (
            Measurement("rounds", "1", (each, each + 1, each), (1, 1, 1), notes),
            Measurement("difference", "1", (1e-14, 2e-14, 1e-14), (1, 1, 1)),
            Measurement("lyapunov", "nat/step", (EXPONENTS[init],) * 3, (1, 1, 1)),
        )
        made.append(Record("scaling", f"n-{init}", "reference", 0, "ok", parameters, measurements=measured))
    return series_frame([Run(Path("r.jsonl"), Header("r", "2026-11-20T12:00:00Z", 1, "imaginary", {}, {}), tuple(made), None)])


RISING = dict(zip(EXPONENTS, (4.0, 5.0, 33.0, 89.0, 95.0), strict=True))
CHRONO_IS_FAST = RISING | {"chrono:784": 3.0}


def test_rounds_that_did_not_converge_are_a_bound():
    found = quantities.estimate("newton_rounds", series({"forget:5": 99.0}, ("seed 0 had not converged",)), "sweep=newton")
    assert found.value is None and found.beyond == 100 and found.low == 99


def test_the_rules_hold_only_where_the_rounds_are_so():
    claims = {claim.name: claim for claim in scaling.CLAIMS}
    few, ranked = claims["e-newton"], claims["e-newton-exponent"]
    assert judge(ranked, series(RISING)).word == "supported"
    assert judge(ranked, series(CHRONO_IS_FAST)).word == "inconclusive"
    falling = dict(zip(EXPONENTS, (95.0, 80.0, 33.0, 5.0, 4.0), strict=True))
    assert judge(ranked, series(falling)).word == "refuted"
    assert judge(few, series(RISING)).labels("refuted") == ["init forget:3", "init forget:5", "init chrono:784"]
    assert judge(few, series(dict.fromkeys(EXPONENTS, 4.0))).word == "supported"
    assert judge(few, series(dict.fromkeys(EXPONENTS, 40.0))).word == "refuted"


def test_the_caption_says_what_was_found():
    told = figures.draw_newton(series(CHRONO_IS_FAST))
    assert told is not None
    assert "33.3 at -0.024 (forget:3)" in told.caption and "3.33 at -0.0018 (chrono:784)" in told.caption
    assert "ρ 0 [-0.882, 0.882]" in told.caption and "grow" not in told.caption
    other = figures.draw_newton(series(RISING))
    assert other is not None and "ρ 1.00" in other.caption
    few = figures.draw_newton(series({"pytorch": 4.0}))
    assert few is not None and "too few for a correlation" in few.caption
