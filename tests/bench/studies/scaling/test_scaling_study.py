"""The study's rules name quantities that exist, and what takes turns does not go alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.statistics import quantities, seeds
from bench.harness import plan, study
from bench.harness.study import Scale
from bench.studies import scaling
from impls import Spec, TransformerSpec
from results.claims import INFINITE


def test_every_rule_names_a_quantity_that_exists():
    named = {test.quantity for claim in scaling.CLAIMS for test in claim.tests}
    assert named <= quantities.quantities().keys()


def test_every_rule_has_a_bound_that_an_interval_can_miss():
    tests = [test for name in study.names() for claim in study.get(name).claims for test in claim.tests]
    assert tests and all(test.low > -INFINITE or test.high < INFINITE for test in tests)


def test_times_are_taken_in_turns_and_memory_alone():
    chosen = plan.make("scaling", ["torch"], scale="cpu")
    turns = {task.case.factor("sweep") for task in chosen.replicate(0)}
    alone = {(task.case.factor("sweep"), task.backends) for task in chosen.standalone()}
    assert turns == {"tokens", "single", "sizes"}
    assert alone == {("memory", ("torch",)), ("newton", ("reference",)), ("matched", ("torch",))}
    numbers = {
        sweep: {task.replicate for task in chosen.standalone() if task.case.factor("sweep") == sweep}
        for sweep in ("memory", "newton")
    }
    assert numbers == {"memory": {0, 1}, "newton": {0}}  # seeds are the replicates of Newton's method
    assert chosen.peak_dtypes() == ["float32"]


def test_an_lstm_on_a_gpu_is_ours_or_else_cudnns():
    for case in scaling.CASES["gpu"]:
        if case.factor("sweep") == "newton":
            continue
        for asked, ours in ((("torch", "cudnn", "cuda", "numpy"), "cuda"), (("torch", "cudnn"), "cudnn")):
            best = (ours,) if case.spec.cell == "lstm_stack" else ("torch",)
            assert scaling.select_backends(case, asked) == best, "one backend an architecture: verdicts pool over no two"
        assert scaling.select_backends(case, ("numpy",)) == ()


def test_width_depth_and_batch_vary_about_one_middle():
    for scale in ("cpu", "gpu"):
        cases = [case for case in scaling.CASES[scale] if case.factor("sweep") == "sizes"]
        for cell in scaling.ALL if scale == "cpu" else scaling.COMPARED:  # on a GPU there is no time for the scans' sizes
            sizes = {(int(case.factor("size")), case.spec.num_layers, case.batch) for case in cases if case.spec.cell == cell}
            middles = [each for each in sizes if all(_alike(sizes, each, place) == 3 for place in range(3))]
            assert len(sizes) == 7 and len(middles) == 1


def _alike(sizes: set[tuple[int, int, int]], middle: tuple[int, int, int], place: int) -> int:
    """How many differ from the middle, itself included, in one place alone."""
    return sum(
        all(one == other for k, (one, other) in enumerate(zip(each, middle, strict=True)) if k != place) for each in sizes
    )


def test_on_a_cpu_lengths_are_a_factor_of_two_apart():
    cases = [case for case in scaling.CASES["cpu"] if case.factor("sweep") == "tokens" and case.spec.cell == "lstm_stack"]
    for phase in scaling.PHASES:
        assert [case.steps for case in cases if case.phase == phase] == [2**power for power in range(6, 13)]


def test_every_interval_over_replicates_has_the_three_it_needs():
    assert all(plan.make("scaling", scale=scale).replicates >= seeds.FEWEST_SEEDS for scale in ("cpu", "gpu"))


def _written() -> dict[str, list[str]]:
    """The rows of the table of closed forms in docs/studies/scaling.md, by their first column."""
    text = (Path(__file__).parents[4] / "docs/studies/scaling.md").read_text()
    table = text[text.index("| | cpu: d ") :].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {row[0]: row[1:3] for row in rows}


@pytest.mark.parametrize(("place", "scale"), [(0, "cpu"), (1, "gpu")])
def test_the_closed_forms_in_the_docs_are_those_of_the_matches(place: int, scale: Scale) -> None:
    specs: dict[str, Spec] = {}
    for case in scaling.CASES[scale]:
        if case.factor("sweep") == "tokens":
            specs.setdefault(case.spec.cell, case.spec)
    of, hidden = specs["transformer"], specs["lstm_stack"].hidden_size
    assert isinstance(of, TransformerSpec)
    width, inner = of.hidden_size, of.inner_size
    training, decode = 4 * width + 2 * inner + of.input_size + 1, (4 * width + 2 * inner + of.input_size) // 2
    weights = of.parameter_count() / (2 * of.num_layers * width)
    assert {name: cells[place] for name, cells in _written().items() if not name.startswith("-")} == {
        "": f"{scale}: d {width}, F {inner}, H {hidden}",
        "attention equals the rest, training": f"T = {training} = {training / 12 / width:.2f} × 12 d",
        "attention equals the rest, decode": f"T = {decode}",
        "keys and values equal the weights": f"T·B = {weights:.0f} = {weights / 6 / width:.2f} × 6 d",
        "they pass the LSTM's state": f"{hidden / width:.2f} tokens",
    }
    counted = of.context_flops(of.contexts(training)) / (2 * of.product_weights() * training)
    assert counted == pytest.approx(1, rel=2e-3), "where attention costs as much as the rest, by the counts themselves"
