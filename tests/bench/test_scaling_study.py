"""The study's rules name quantities that exist, and what takes turns does not go alone."""

from __future__ import annotations

from analysis import lengths, quantities
from bench import plan
from bench.studies import scaling


def test_every_rule_names_a_quantity_that_exists():
    named = {test.quantity for claim in scaling.CLAIMS for test in claim.tests}
    assert named <= quantities.QUANTITIES.keys() | lengths.QUANTITIES.keys()


def test_times_are_taken_in_turns_and_memory_alone():
    chosen = plan.make("scaling", ["torch"], scale="cpu")
    turns = {task.case.factor("sweep") for task in chosen.replicate(0)}
    alone = {(task.case.factor("sweep"), task.backends) for task in chosen.alone()}
    assert turns == {"tokens", "single", "width", "depth", "batch"}
    assert alone == {("memory", ("torch",)), ("newton", ("reference",))}
    numbers = {
        sweep: {task.replicate for task in chosen.alone() if task.case.factor("sweep") == sweep}
        for sweep in ("memory", "newton")
    }
    assert numbers == {"memory": {0, 1, 2}, "newton": {0}}  # seeds are the replicates of Newton's method
    assert chosen.dtypes() == ["float32"]


def test_an_lstm_on_a_gpu_is_cudnns():
    cases = [case for case in scaling.CASES["gpu"] if case.factor("sweep") == "tokens"]
    for case in cases:
        best = ("cudnn",) if case.spec.cell == "lstm_stack" else ("torch",)
        assert scaling.measured_on(case, ("torch", "cudnn", "numpy")) == best
