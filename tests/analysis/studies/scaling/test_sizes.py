"""Exponents over width, depth and batch, and the share of the machine that is used, come back from times that follow a law."""

from __future__ import annotations

import pytest

from analysis.report import words
from analysis.statistics import quantities
from analysis.statistics.quantities import judge
from analysis.statistics.seeds import NOT_MEASURED
from analysis.studies import scaling as scaling_statistics
from analysis.studies.scaling import crossovers
from analysis.studies.scaling import figures as scaling_figures
from bench.harness.case import Case
from bench.studies import scaling
from tests.analysis.scaling_synthetic import series

CELLS = ("lstm_stack", "transformer", "minlstm", "ssm")


def law(case: Case) -> float:
    """Seconds: width^1.5 · depth · batch^0.5 for the LSTM and batch^0.9 for the rest; straight in T but for attention."""
    batch = case.batch ** (0.5 if case.spec.cell == "lstm_stack" else 0.9)
    square = (case.steps / 1000) ** 2 if case.spec.cell == "transformer" else 0.0
    return 1e-6 * case.spec.hidden_size**1.5 * case.spec.num_layers * batch * (case.steps / 1000 + square)


@pytest.mark.parametrize(("scale", "cell"), [("cpu", cell) for cell in CELLS] + [("gpu", cell) for cell in scaling.COMPARED])
def test_exponents_of_width_depth_and_batch_come_back(scale, cell):
    rows = series(law, scale)
    truths = {"width_exponent": 1.5, "depth_exponent": 1.0, "batch_exponent": 0.5 if cell == "lstm_stack" else 0.9}
    for name, truth in truths.items():
        found = quantities.estimate(name, rows, f"study=scaling,sweep=sizes,cell={cell}")
        assert found.value == pytest.approx(truth, abs=0.03) and found.low is not None and found.high is not None
        assert found.low - 0.02 < truth < found.high + 0.02


def test_their_claims_are_judged_by_them():
    words = {claim.name: judge(claim, series(law)).word for claim in scaling.CLAIMS}
    assert words["e-width"] == words["e-depth"] == words["e-batch"] == "supported"
    assert words["e-linear"] == words["e-quadratic"] == "supported"
    steep = {claim.name: judge(claim, series(lambda case: law(case) ** 2)).word for claim in scaling.CLAIMS}
    assert steep["e-width"] == steep["e-depth"] == steep["e-batch"] == steep["e-linear"] == "refuted"


def test_where_nothing_varies_there_is_no_exponent():
    rows = series(law)
    alone = rows[rows["num_layers"] == 1]
    found = quantities.estimate("depth_exponent", alone, "study=scaling,sweep=sizes,cell=lstm_stack")
    assert found.bounds is None and "too few for a slope" in found.why
    assert quantities.estimate("depth_exponent", rows, "study=scaling,sweep=tokens") == NOT_MEASURED


def test_share_of_peak_is_flops_over_the_best_matrix_product():
    """A case at a quarter of the ceiling by construction; and nothing to draw without a ceiling in its data type."""
    rows = series(lambda case: case.counts()["flops"] / 25e9, ceiling=100e9, noise=0.0)
    found, ceiling = scaling_figures.shares(rows)
    assert ceiling == 100e9 and len(found) and found["share"].to_numpy() == pytest.approx(0.25)
    drawn = scaling_figures.draw_utilisation(rows)
    assert drawn is not None and "100 GFLOP/s" in drawn.caption and "with 25 %" in drawn.caption
    assert [axes.get_xlabel() for axes in drawn.figure.axes] == ["length T", "width of the LSTM", "layers", "batch"]
    assert scaling_figures.draw_utilisation(series(law)) is None
    other = rows.assign(dtype=rows["dtype"].where(rows["backend"] != "machine", "bfloat16"))
    assert scaling_figures.draw_utilisation(other) is None


def test_over_depth_the_share_is_that_of_each_depth():
    """Twice as deep a model that takes as long uses twice as much of the machine."""
    rows = series(lambda case: 1.0, ceiling=1e12, noise=0.0)
    share = scaling_figures.over(scaling_figures.shares(rows)[0], "num_layers", "transformer")
    cases = {
        case.spec.num_layers: case.counts()["flops"] / 1e12
        for case in scaling.CASES["cpu"]
        if case.factor("sweep") == "sizes" and case.spec.cell == "transformer" and case.batch == 4 and case.factor("size") == 96
    }
    assert dict(share) == pytest.approx(cases) and sorted(cases) == [1, 2, 4]


def test_the_exponent_figure_has_panels_and_the_square_share():
    rows = series(law, noise=0.002)
    drawn = scaling_figures.draw_growth(rows)
    assert drawn is not None
    assert [axes.get_xlabel() for axes in drawn.figure.axes] == ["length T", "width", "layers", "batch"]
    share = quantities.estimate("quadratic_share", rows, "study=scaling,phase=forward_backward,batch=1,cell=transformer")
    truth = 4.096 / (1 + 4.096)
    assert share.value == pytest.approx(truth, abs=0.02)
    assert f"the square being {quantities.named('quadratic_share').format(share)} of it at T = 4096" in drawn.caption
    times = scaling_statistics.of_sequence(quantities.select(rows, "phase=forward_backward,batch=1,cell=lstm_stack"))
    assert times is not None
    step = crossovers.fit(times).b.value or 0.0
    assert step == pytest.approx(1e-9 * 96**1.5, rel=0.02) and f"b {words.format_si(step, 's')} [" in drawn.caption
    assert scaling_figures.draw_growth(rows.iloc[:0]) is None
