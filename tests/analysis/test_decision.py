"""The rule against known truth: false alarms on identical builds, power on real slow-downs, and what it says when unsure."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.decision import (
    FIRST_CONFIRMING,
    STAGES,
    Decision,
    Rule,
    bounds,
    decide,
    detectable,
    over_cases,
    pairs_needed,
    unpaired,
)

# Replicate noise of a suite of 200 cases: most are quiet, a few land in a mode 10 % slower one time in five.
SUITE = [(0.003, 0.0)] * 80 + [(0.005, 0.0)] * 70 + [(0.01, 0.0)] * 36 + [(0.02, 0.0)] * 10 + [(0.005, 0.1)] * 4

SUITES = 300
USUAL = Rule()


class Measured(dict[int, float]):
    """Pairs that are drawn when they are first asked for, as an engine would measure them."""

    def __init__(self, random: np.random.Generator, slowdown: float, noise: float, mode: float = 0.0) -> None:
        self.random, self.slowdown, self.noise, self.mode = random, slowdown, noise, mode

    def replicate(self) -> float:
        return self.random.normal(0, self.noise) + self.mode * (self.random.random() < 0.2)

    def decided(self, rule: Rule = USUAL) -> Decision:
        while (decision := decide(self, rule)).next:
            for number in decision.next:
                self[number] = math.log1p(self.slowdown) + self.replicate() - self.replicate()
        return decision


def test_at_most_one_suite_of_200_identical_cases_in_100_raises_an_alarm():
    random = np.random.default_rng(0)
    alarms = [sum(Measured(random, 0, *noise).decided().verdict == "SLOWER" for noise in SUITE) for _ in range(SUITES)]
    assert sum(count > 0 for count in alarms) <= 0.01 * SUITES
    assert sum(alarms) <= 0.001 * 200 * SUITES


@pytest.mark.parametrize(("noise", "slowdown", "power"), [(0.003, 0.03, 0.99), (0.01, 0.03, 0.95), (0.02, 0.05, 0.95)])
def test_a_real_slowdown_is_called_slower(noise: float, slowdown: float, power: float):
    random = np.random.default_rng(1)
    verdicts = [Measured(random, slowdown, noise).decided().verdict for _ in range(600)]
    assert verdicts.count("SLOWER") / 600 >= power
    assert verdicts.count("FASTER") == 0


def test_a_slowdown_too_fine_for_the_machine_is_undecided_and_hardly_ever_the_same():
    random = np.random.default_rng(2)
    verdicts = [Measured(random, 0.03, 0.05).decided().verdict for _ in range(600)]
    assert verdicts.count("UNDECIDED") / 600 > 0.9
    assert verdicts.count("SAME") / 600 < 0.015


def test_three_percent_is_never_called_the_same_where_the_floor_says_it_cannot_be_told():
    """The floor that 20 pairs of a thing with itself certify where replicates scatter by 5 %."""
    random = np.random.default_rng(8)
    _, low, high = bounds(random.normal(0, 0.05, 20) - random.normal(0, 0.05, 20), 0.005)
    rough = Rule(floor=max(-low, high))
    verdicts = [Measured(random, 0.03, 0.05).decided(rough).verdict for _ in range(400)]
    assert verdicts.count("SAME") == verdicts.count("FASTER") == 0 and verdicts.count("UNDECIDED") / 400 > 0.9


def test_a_floor_forbids_finer_verdicts():
    random = np.random.default_rng(3)
    rough = Rule(floor=math.log(1.05))
    for slowdown in (0.0, 0.03, -0.03):
        assert Measured(random, slowdown, 0.003).decided(rough).verdict == "UNDECIDED"
    assert Measured(random, 0.10, 0.003).decided(rough).verdict == "SLOWER"


@given(st.lists(st.floats(-0.2, 0.2), min_size=20, max_size=20))
def test_faster_mirrors_slower_before_confirmation(values: list[float]):
    confirmed = {FIRST_CONFIRMING + number: 1.0 for number in range(10)}
    slower = decide(dict(enumerate(values)) | confirmed)
    mirrored = decide({number: -value for number, value in enumerate(values)} | confirmed)
    mirror = {"SLOWER": "FASTER", "FASTER": "SLOWER"}
    if "disagree" not in slower.reason + mirrored.reason:  # the bootstrap's draws are not symmetric
        assert mirrored.verdict == mirror.get(slower.verdict, slower.verdict)


def test_slower_needs_fresh_pairs_and_is_taken_back_where_they_do_not_find_it():
    first = {number: 0.05 + 0.001 * (-1) ** number for number in range(5)}
    found = decide(first)
    assert (found.verdict, found.next) == ("UNDECIDED", tuple(range(1000, 1010)))
    found = decide(first | {1000 + number: 0.001 * number for number in range(10)})
    assert found.verdict == "UNDECIDED" and not found.next and "10 fresh ones did not" in found.reason
    assert decide(first | {1000 + number: 0.05 for number in range(10)}).verdict == "SLOWER"


def test_stages_are_looked_at_in_order_and_ask_for_what_is_missing():
    wide = {number: 0.02 + 0.05 * (-1) ** number for number in range(20)}
    assert decide({}).next == tuple(range(5))
    assert decide({number: wide[number] for number in range(7)}).next == (7, 8, 9)
    last = decide(wide)
    assert last.pairs == STAGES[-1] and not last.next and "20 pairs leave it open" in last.reason


def test_pairs_needed_is_what_it_takes():
    random = np.random.default_rng(4)
    needed = pairs_needed(math.log(1.03), 0.04)
    assert needed is not None
    lows = [bounds(random.normal(math.log(1.03), 0.04, needed), 0.005)[1] for _ in range(400)]
    assert 0.4 < np.mean([low > math.log(1.01) for low in lows]) < 0.65  # half of the time, by construction
    assert pairs_needed(math.log(1.01), 0.0, Rule(floor=math.log(1.05))) is None


def test_what_is_detectable_is_detected_19_times_in_20():
    random = np.random.default_rng(5)
    change = detectable(0.02, 20)
    found = [bounds(random.normal(change, 0.02, 20), 0.005)[1] > math.log(1.01) for _ in range(2000)]
    assert abs(np.mean(found) - 0.95) < 0.03


def test_runs_that_were_not_paired_are_compared_with_what_they_have():
    random = np.random.default_rng(6)
    base, new = random.normal(0, 0.005, 8), random.normal(0.1, 0.005, 8)
    assert unpaired(base, new).verdict == "SLOWER"
    assert unpaired(new, base).verdict == "FASTER"
    assert unpaired(base, base + 0.001).verdict == "SAME"
    assert unpaired(base, [0.1]).verdict == "UNDECIDED"
    assert "side by side" in unpaired(base, new).reason


def test_equal_times_are_the_same():
    assert decide(dict.fromkeys(range(5), 0.0)).verdict == "SAME"
    assert decide(dict.fromkeys(range(5), -0.2)).verdict == "FASTER"


def test_the_mean_over_cases_is_bounded_over_pairs_that_all_have():
    random = np.random.default_rng(7)
    cases = [{number: math.log(1.05) + random.normal(0, 0.01) for number in range(count)} for count in (5, 10, 20)]
    mean = over_cases(cases)
    assert mean is not None and mean.change == pytest.approx(1.05, abs=0.01) and mean.pairs == 5
    assert over_cases([]) is None and over_cases([{0: 1.0}, {1: 1.0}]) is None
