"""Ratios of cost, lags of rounding, and the figures beside the curves, from constructed records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.report.load import series_frame
from analysis.statistics import quantities
from analysis.studies import cost as cost_statistics
from analysis.studies import gradients as gradients_statistics
from analysis.studies.cost import figures as cost_figures
from analysis.studies.gradients import curves as gradients_curves
from analysis.studies.gradients import figures as gradients_figures
from analysis.studies.gradients import tables
from bench.harness import study
from bench.studies.gradients import cells
from results.claims import Test
from results.record import Header, Measurement, Record
from results.store import Run

SIZES = {("lstm", 64): 4.0, ("rnn", 64): 2.0, ("gru", 64): 3.0, ("rnn", 128): 8.0}
PARAMETERS = {("lstm", 64): 33280, ("rnn", 64): 8320, ("gru", 64): 24960, ("rnn", 128): 33024}
CURVES = {
    "controls": gradients_curves.draw_controls, "layers": gradients_curves.draw_layers,
    "training": gradients_figures.draw_training, "truncation": gradients_curves.draw_truncation,
}  # fmt: skip


def frame(records: list[Record]) -> pd.DataFrame:
    return series_frame([Run(Path("x"), Header("r", "2026-11-20T12:00:00Z", 1, "imaginary", {}, {}), tuple(records), None)])


def timed(drift: float = 3.0) -> pd.DataFrame:
    """Two cells whose times all drift together from replicate to replicate."""
    return frame(
        [
            Record(
                "cost", f"{cell}-{hidden}", "torch", replicate, "ok",
                {"cell": cell, "hidden_size": hidden, "phase": "forward_backward", "device": "cpu", "steps": 8},
                measurements=(Measurement("time", "s", tuple(seconds * drift**replicate * (1, 1.01, 0.99)[replicate % 3]
                                                              for _ in range(4))),),
                counts={"parameters": PARAMETERS[cell, hidden], "flops": 6 * PARAMETERS[cell, hidden]},
            )
            for (cell, hidden), seconds in SIZES.items()
            for replicate in range(4)
        ]
    )  # fmt: skip


def test_a_drift_that_hits_all_cells_of_a_replicate_cancels():
    rows = timed()
    found = quantities.estimate("time_over_rnn", rows, "study=cost,backend=torch,hidden_size=64")
    assert found.value == pytest.approx(2.0) and found.low == pytest.approx(2.0) and found.seeds == 4
    wide = cost_statistics.ratios(rows, "width", "forward_backward").set_index("cell")["value"]
    large = cost_statistics.ratios(rows, "parameters", "forward_backward").set_index("cell")["value"]
    assert dict(wide) == pytest.approx({"lstm": 2.0, "gru": 1.5}) and dict(large) == pytest.approx({"lstm": 0.5})
    same = "study=cost,count_parameters>=32282,count_parameters<=34278"
    assert quantities.estimate("time_over_rnn", rows, same).value == pytest.approx(0.5)
    assert quantities.estimate("parameters_over_rnn", rows, "hidden_size=64").value == 4.0


def test_nothing_to_compare_is_no_ratio():
    rows = timed()
    for selection, outcome in (("cell=lstm", "not measured"), ("study=cost", "inconclusive")):
        found = quantities.estimate("time_over_rnn", rows, selection)
        assert found.value is None and quantities.outcome(Test("time_over_rnn", low=2.0), found) == outcome
    assert found.why == "more than one network to compare"


def rounded(*lengths: int, notes: tuple[str, ...] = ()) -> pd.DataFrame:
    """Gradients that halve at every step and end, exactly zero, after so many."""
    logs = np.concatenate([-np.log(2.0) * np.arange(length) for length in lengths])
    parameters = {"probe": "precision", "cell": "rnn", "init": "pytorch", "dtype": "float16", "steps": 60, "hidden_size": 8}
    names = ("log_largest", "log_largest_scaled")
    measured = [Measurement("lag", "step", tuple(map(float, range(60))))]
    measured += [Measurement(name, "nat", tuple(logs), lengths, notes) for name in names]
    return frame([Record("gradients", "case", "reference", 0, "ok", parameters, measurements=tuple(measured))])


def test_lags_of_rounding_are_read_where_curves_end():
    found, denormal = (
        quantities.estimate(name, rounded(24, 25, 26), "probe=precision") for name in ("zero_lag", "denormal_lag")
    )
    assert found.value == 25 and denormal.value == 15  # 2^-15 is the first below 2^-14
    never = gradients_statistics.zero_lag(rounded(24, 60, 26))
    assert never.value is None and quantities.named("zero_lag").format(never) == "> 59 steps [above 24]"
    overflown = rounded(24, 25, 26, notes=("log_largest is not finite at lag 24 for seed 0",))
    assert gradients_statistics.zero_lag(overflown).why == "overflows"


def curves(probe: str, names: tuple[str, ...], **more: object) -> Record:
    lags, random = np.arange(60.0), np.random.default_rng(1)
    logs = (-0.2 * lags + 0.01 * random.standard_normal((3, 60))).ravel()
    parameters = {"probe": probe, "cell": "lstm", "init": "pytorch", "hidden_size": 8, "steps": 60, "dtype": "float64"} | more
    measured = [Measurement("lag", "step", tuple(lags)), Measurement("truncation", "step", (1.0, 7.0, 60.0))]
    measured += [Measurement(name, "nat", tuple(logs), (60, 60, 60)) for name in names]
    measured += [Measurement("truncated_cosine", "1", (0.1, 0.5, 1.0) * 3, (3, 3, 3))]
    measured += [Measurement("accuracy", "1", (1.0, 0.9, 0.8), (1, 1, 1))]
    return Record("gradients", f"{probe}-{more}", "reference", 0, "ok", parameters, measurements=tuple(measured))


def test_every_other_figure_is_drawn_with_its_caption():
    found = frame(
        [
            curves("attenuation", ("log_gradient", "log_weight", "log_input")),
            *(curves("controls", ("log_gradient", "log_input"), network=network) for network in ("residual", "transformer")),
            curves("training", ("log_gradient_after_0", "log_gradient_after_9"), lag=20),
            *(curves("inputs", ("log_input",), num_layers=layers, bidirectional=False) for layers in (1, 2)),
        ]
    )
    drawn = {name: draw(found) for name, draw in CURVES.items()}
    drawn |= {"precision": gradients_figures.draw_precision(rounded(24, 25, 26)), "cost": cost_figures.draw(timed())}
    said = {name: drawing.caption for name, drawing in drawn.items() if drawing is not None}
    assert (
        "LSTM PyTorch default 35 steps" in said["training"] and "→ 35 steps" in said["training"] and "90 %" in said["training"]
    )
    assert "After 7 steps" in said["truncation"] and "PyTorch default 0.50" in said["truncation"]
    assert "float16 25 and 25" in said["precision"] and "LSTM: PyTorch default, one layer 35 steps" in said["layers"]
    # ln 35 lies between ln 7 and ln 60, where the cosine goes from 0.5 to 1.
    assert "Dots: the decay length (10⁻³); truncated there, the cosine is 0.87 to 0.87." in said["truncation"]
    assert (
        "at equal width torch 2.0× [2.0, 2.0]; at equal parameters torch 0.50×" in said["cost"]
        and "residual" in said["controls"]
    )


def test_every_network_has_a_line_and_a_legend_entry():
    made = [
        curves("inputs", ("log_input",), cell=cell, init=init, num_layers=gradients_curves, bidirectional=both)
        for cell, init, gradients_curves, both in (
            ("lstm", "pytorch", 1, False), ("lstm", "forget:3", 2, False), ("lstm", "pytorch", 2, True),
            ("gru", "pytorch", 1, True), ("rnn", "pytorch", 3, False),
        )
    ]  # fmt: skip
    drawn = gradients_curves.draw_layers(frame(made))
    assert drawn is not None
    assert [axes.get_title(loc="left") for axes in drawn.figure.axes] == ["LSTM", "GRU", "Vanilla RNN"]
    legends = [legend for axes in drawn.figure.axes if (legend := axes.get_legend()) is not None]
    entries = [[text.get_text() for text in legend.get_texts()] for legend in legends]
    assert entries[0] == ["PyTorch default", "forget bias 3", "one layer", "two layers", "two layers, bidirectional"]
    assert entries[1] == ["PyTorch default", "bidirectional"] and entries[2] == ["PyTorch default", "3 layers"]
    for said in (
        "forget bias 3, two layers 35 steps",
        "GRU: PyTorch default, bidirectional 35",
        "Vanilla RNN: PyTorch default, 3",
    ):
        assert said in drawn.caption


def test_a_gru_has_its_panel_and_a_dead_seed_its_mark():
    lags = np.arange(60)
    own = [-0.2 * lags.astype(float) for _ in range(7)]
    own[2][9:] = -np.inf
    measured = (cells.lags_measured(lags), cells.measurement("log_gradient", "nat", own, lags))
    parameters = {"probe": "attenuation", "cell": "gru", "init": "pytorch", "hidden_size": 8, "steps": 60, "dtype": "float64"}
    drawn = gradients_curves.draw_attenuation(
        frame([Record("gradients", "gru", "reference", 0, "ok", parameters, measurements=measured)])
    )
    assert drawn is not None and "GRU: PyTorch default 35 steps" in drawn.caption
    (axes,) = drawn.figure.axes
    assert axes.get_title(loc="left") == "GRU"
    assert [float(line.get_xdata()[0]) for line in axes.get_lines() if line.get_marker() == "x"] == [9.0]  # pyright: ignore[reportIndexIssue, reportArgumentType]


def test_the_table_of_fading_has_every_network_with_its_law():
    lags, random = np.arange(201), np.random.default_rng(3)

    def record(cell: str, init: str, hidden: int, middle: np.ndarray) -> Record:
        own = [middle + (0.01 * random.standard_normal(201)).cumsum() for _ in range(10)]
        measured = (cells.lags_measured(lags), cells.measurement("log_gradient", "nat", own, lags))
        parameters = {"probe": "attenuation", "cell": cell, "init": init, "hidden_size": hidden, "steps": 201, "seeds": 10}
        return Record("gradients", f"{cell}{hidden}", "reference", 0, "ok", parameters, measurements=measured)

    power, exponential = -3.0 * np.log1p(lags), np.where(lags > 0, 1.0, 0.0) - 0.1 * lags
    table = tables.decay_table(frame([record("lstm", "forget:3", 256, power), record("rnn", "pytorch", 64, exponential)]))
    first, second = ({column.label: cell.text for column, cell in zip(table.columns, row, strict=True)} for row in table.rows)
    assert (first["Network"], first["H"], first["T"], first["Seeds"], first["Law"]) == ("RNN", "64", "201", "10", "exponential")
    assert (second["Network"], second["Initialisation"], second["H"], second["Law"]) == (
        "LSTM",
        "forget bias 3",
        "256",
        "power",
    )
    assert first["Offset"].startswith(("0.9", "1.0", "1.1")) and first["Rate"].startswith(("-0.100", "-0.099", "-0.101"))
    assert first["Notes"] == "" and tables.decay_table(frame([])).rows == ()
    dead = np.where(lags < 9, exponential, -np.inf)
    (row,) = tables.decay_table(frame([record("rnn", "irnn", 64, dead)])).rows
    told = {column.label: cell.text for column, cell in zip(table.columns, row, strict=True)}
    assert told["Rate"] == "–" and told["Decay length (10⁻³)"].startswith("9 [9, 9]")
    assert told["Notes"].startswith("median of seeds: exactly zero in 10 of 10 seeds from lag 9 on; ")


def test_every_initialisation_has_a_rule_and_a_source():
    cases = [case for name in ("gradients", "horizon") for cases in study.get(name).cases.values() for case in cases]
    of_lstm = {str(case.factor("init")) for case in cases if case.spec.cell == "lstm"}
    assert of_lstm and of_lstm <= set(tables.RULES)
    assert all(rule and source for rule, source in tables.RULES.values())


def test_without_their_records_there_are_no_figures():
    empty = frame([])
    for draw in (*CURVES.values(), gradients_figures.draw_precision, cost_figures.draw):
        assert draw(empty) is None
