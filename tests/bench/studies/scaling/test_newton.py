"""What the study `scaling` records of Newton's method; the method itself: tests/bench/studies/parallel."""

from __future__ import annotations

from bench.studies import scaling
from bench.studies.scaling import newton


def test_rounds_residual_times_and_exponent_are_recorded():
    (case,) = scaling._newton((16,), 3, ("pytorch",))
    found = {each.metric: each for each in newton.measure(case)}
    assert set(found) == {"rounds", "residual", "difference", "newton_time", "sequential_time", "lyapunov"}
    assert all(len(each.samples) == 3 for each in found.values()) and max(found["difference"].samples) < 1e-10
    assert max(found["lyapunov"].samples) < 0
