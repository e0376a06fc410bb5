"""Plans: names and filters that do not exist are answered with the choices; orders are shuffled but repeatable."""

from __future__ import annotations

import os

import pytest

import impls
from bench.harness import plan, study
from bench.harness.case import InvalidFilter
from impls import UnknownName


@pytest.mark.parametrize(("asked", "message"), [
    (
        {"what": "quik"},
        r"no suite or study 'quik' \(did you mean 'quick'\?\); choose from .*cpu, .*gpu, .*memory, .*quick, .*smoke",
    ),
    ({"backends": ["trch"]}, r"no backend 'trch' \(did you mean 'torch'\?\); choose from "),
    ({"where": ["hiden_size=3"]}, r"no parameter 'hiden_size' \(did you mean 'hidden_size'\?\)"),
    ({"what": "throughput", "scale": "medium"}, "no suite 'medium'"),
])  # fmt: skip
def test_unknown_names_are_answered_with_the_choices(asked: dict, message: str):
    with pytest.raises(UnknownName, match=message):
        plan.make(**({"what": "quick"} | asked))


def test_suite_many_has_200_rows_of_two_backends():
    cases = plan.make("many", ["numpy", "torch"]).cases(study.get("throughput"))
    assert 2 * len(cases) >= 200 and len({case.key for case in cases}) == len(cases)
    assert [plan.suite_of(*asked) for asked in (("many",), ("throughput",), ("throughput", "cpu"))] == ["many", "quick", "cpu"]


@pytest.mark.parametrize(("text", "message"), [
    ("hidden_size", "cannot read the filter 'hidden_size'; write a parameter, one of = != < <= > >=, and a value"),
    ("hidden_size=wide", "hidden_size is a number, and 'wide' is not; write it as hidden_size="),
    ("bias=maybe", "bias is true or false, and 'maybe' is not; write it as bias=true"),
    ("hidden_size=7", r"no case of quick passes hidden_size=7 \(hidden_size is one of [\d, ]+\); see them"),
    ("phase=stepp", r"passes phase=stepp \(phase is one of forward, forward_backward, step\); see"),
    ("hidden_size>99999", "no case of quick passes hidden_size>99999; see them with: lstm-bench list quick"),
])  # fmt: skip
def test_filters_that_cannot_work_say_why(text: str, message: str):
    with pytest.raises(InvalidFilter, match=message):
        plan.make("quick", where=[text])


def test_a_value_no_case_has_is_answered_with_those_they_have():
    with pytest.raises(
        InvalidFilter, match=r"init=crono and cell=lstm \(init is one of chrono:784, flax, forget:0, .*tensorflow1\); see"
    ):
        plan.make("gradients", where=["init=crono", "cell=lstm"])


@pytest.mark.parametrize("text", ["hidden_size=256", "batch<=8", "batch>8", "phase!=step", "dtype=float32", "bias=true"])
def test_filters_keep_what_passes(text: str):
    everything = plan.make("quick").cases(study.get("throughput"))
    chosen = plan.make("quick", where=[text]).cases(study.get("throughput"))
    assert 0 < len(chosen) <= len(everything)
    assert set(chosen) <= set(everything)


def test_a_plan_survives_the_way_through_a_run_header():
    made = plan.make("quick", ["numpy", "torch"], ["batch=1"], threads=1, time_budget=60.0, seed=3)
    assert plan.Plan.from_dict(made.to_dict()) == made


def test_replicates_are_shuffled_differently_but_repeatably():
    made = plan.make("quick")
    orders = [[task.case.key for task in made.replicate(number)] for number in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_every_backend_but_null_and_those_on_request_is_compared():
    on_request = {name for name in impls.names() if impls.facts(name).on_request}
    assert on_request and set(plan.make("quick").compared()) == set(impls.names()) - {"null"} - on_request


def test_threads_never_exceed_the_processors_there_are():
    assert plan.make("quick", threads=4096).threads <= (os.cpu_count() or 1)


def test_a_key_chooses_a_single_case():
    for wanted in plan.make("throughput").cases(study.get("throughput")):
        assert plan.make("throughput", where=[f"case={wanted.key}"]).cases(study.get("throughput")) == (wanted,)
