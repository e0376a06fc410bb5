"""Study cost: what is compared is alike, only backends with every cell are asked, and alone it keeps its own pace."""

from __future__ import annotations

import pytest

from bench.harness import plan, study
from bench.harness.plan import SUITES
from bench.studies import cost


@pytest.mark.parametrize("scale", ["cpu", "gpu"])
def test_every_lstm_has_its_rnns_and_its_gru(scale):
    cases = study.get("cost").cases[scale]
    for of in (case for case in cases if case.spec.cell == "lstm"):
        alike = [case for case in cases if case.phase == of.phase]
        for cell in ("rnn", "gru"):
            assert [case for case in alike if case.spec.cell == cell and case.spec.hidden_size == of.spec.hidden_size]
            parameters = of.spec.parameter_count()
            large = [
                case for case in alike if abs(case.spec.parameter_count() / parameters - 1) < 0.03 and case.spec.cell == cell
            ]
            assert len(large) == (1 if cell == "rnn" else 0)


def test_an_rnn_has_a_quarter_of_parameters_and_flops():
    cases = {(case.spec.cell, case.spec.hidden_size): case.counts() for case in study.get("cost").cases["cpu"]}
    for name in ("parameters", "flops"):
        assert cases["lstm", 256][name] == 4 * cases["rnn", 256][name]


def test_only_backends_with_every_cell_are_timed():
    made = plan.make("cost", ["torch", "flax", "torch_loop", "numpy"])
    assert {frozenset(task.backends) for task in made.replicate(0)} == {frozenset(("torch", "numpy"))}


def test_asked_for_alone_it_keeps_its_own_pace():
    alone = plan.make("cost", scale="cpu")
    assert (alone.replicates, alone.pace) == cost.STUDY.repeats["cpu"]
    assert plan.make("cost", replicates=7).replicates == 7
    assert plan.make("cpu").pace == SUITES["cpu"].pace and plan.make("cpu").replicates == 5
    assert plan.Plan.from_dict(alone.to_dict()).pace == alone.pace
