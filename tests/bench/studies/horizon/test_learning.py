"""What the study measures: successes by lag and network; what cannot be learnt, trained or asked for is said as such."""

from __future__ import annotations

import dataclasses

import pytest

from bench.harness import plan, study
from bench.harness.case import Case, InvalidCase
from bench.studies.horizon import learning, tasks
from impls import LSTMSpec, RNNSpec, UnknownName
from impls.specs.recurrent import InvalidSpec

EASY = {"task": "recall", "init": "orthogonal", "truncation": 0, "seeds": 3, "updates": 60, "rate": 1e-2, "lags": "1/2/3/4"}


def case(cell=RNNSpec, steps=5, inputs=10, **factors) -> Case:
    return Case(cell(inputs, 8), steps, 16, "forward_backward", factors=tuple((EASY | factors).items()))


def measured(of: Case):
    return {each.metric: each for each in learning.measure_learning(of)}


def test_what_is_easy_is_learnt_by_all_and_recorded_by_lag():
    found = measured(case())
    assert found["trained_lag"].samples == (1, 2, 3, 4) and found["learnt"].blocks == (3, 3, 3, 3)
    assert set(found["learnt"].samples) == {1.0} and found["longest_learnt"].samples == (4,)
    assert max(found["updates"].samples) < 60 and not found["learnt"].notes
    assert len(found["log_gradient"].blocks) == 3 and len(found["lag"].samples) == found["log_gradient"].blocks[0]


def test_the_climb_ends_after_a_lag_that_none_learnt():
    found = measured(case(rate=0.0, updates=20))
    assert found["trained_lag"].samples == (1, 2, 3) and set(found["learnt"].samples) == {0.0}
    assert found["longest_learnt"].samples == (0,) and set(found["updates"].samples) == {20.0}


def test_a_seed_determines_the_numbers():
    one, other = case(updates=30), dataclasses.replace(case(updates=30), seed=1)
    updates = measured(one)["updates"]
    assert updates == measured(one)["updates"] != measured(other)["updates"]


def test_a_network_that_diverges_counts_as_not_learnt():
    found = measured(case(init="gaussian:1e39", updates=20))["learnt"]
    assert "the loss or its gradient is not finite at lag 1 for seed 0, update 1" in found.notes
    assert set(found.samples) == {0.0} and len(found.blocks) == 3


@pytest.mark.parametrize(
    ("factors", "error", "message"),
    [
        ({"lags": "2/3/9"}, InvalidCase, "lag 9 of recall needs 10 steps and lies beyond the 5 of rnn-I10"),
        ({"lags": "3/2"}, InvalidCase, "must rise from 1 or more; got 3/2"),
        ({"task": "copy", "lags": "2/3"}, InvalidCase, "lags of copy must rise from 4"),
        ({"lags": "1,2"}, InvalidCase, "whole numbers joined by /"),
        ({"task": "adding"}, InvalidCase, "adding has 2 inputs, the network 10; ask for 2"),
        ({"task": "recal"}, UnknownName, "no task 'recal' .*choose from adding"),
        ({"init": "orthognal"}, UnknownName, "no init 'orthognal'.*choose from"),
        ({"init": "forget:1"}, InvalidSpec, "init forget is defined for an LSTM"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_choices(factors, error, message):
    with pytest.raises(error, match=message):
        list(learning.measure_learning(case(**factors)))


def test_the_study_asks_for_what_can_be_run_at_every_scale():
    chosen = study.get("horizon")
    for scale, cases in chosen.cases.items():
        keys = [each.key for each in cases]
        assert len(set(keys)) == len(keys) and (keys or scale == "quick")
        for each in cases:
            assert learning.ladder(each)[-1] < each.steps
    asked = {name for each in chosen.cases["cpu"] for name in (each.factor("task"), each.spec.cell)}
    assert asked == {*tasks.TASKS, "rnn", "gru", "lstm"}


def test_it_is_measured_once_for_all_backends():
    tasks_of_plan = list(plan.make("horizon", ["torch", "numpy"]).standalone())
    assert {task.backends for task in tasks_of_plan} == {(study.REFERENCE,)}


def test_an_lstm_is_trained_too():
    assert measured(case(LSTMSpec, init="forget:1", updates=150))["longest_learnt"].samples[0] >= 1
