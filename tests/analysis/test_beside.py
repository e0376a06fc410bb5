"""Ratios of cost, lags of rounding, and the figures beside the curves, from constructed records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import cost, precision, quantities, verdicts
from analysis.figures import controls, layers, training, truncation
from analysis.figures import cost as cost_figure
from analysis.figures import precision as precision_figure
from analysis.load import series_frame
from results.claims import Test
from results.record import Header, Measurement, Record
from results.store import Run

SIZES = {("lstm", 64): 4.0, ("rnn", 64): 2.0, ("gru", 64): 3.0, ("rnn", 128): 8.0}
PARAMETERS = {("lstm", 64): 33280, ("rnn", 64): 8320, ("gru", 64): 24960, ("rnn", 128): 33024}


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
    wide = cost.ratios(rows, "width", "forward_backward").set_index("cell")["value"]
    large = cost.ratios(rows, "parameters", "forward_backward").set_index("cell")["value"]
    assert dict(wide) == pytest.approx({"lstm": 2.0, "gru": 1.5}) and dict(large) == pytest.approx({"lstm": 0.5})
    same = "study=cost,count_parameters>=32282,count_parameters<=34278"
    assert quantities.estimate("time_over_rnn", rows, same).value == pytest.approx(0.5)
    assert quantities.estimate("parameters_over_rnn", rows, "hidden_size=64").value == 4.0


def test_nothing_to_compare_is_no_ratio():
    rows = timed()
    for selection, why in (("cell=lstm", "not measured"), ("study=cost", "more than one network to compare")):
        found = quantities.estimate("time_over_rnn", rows, selection)
        assert found.why == why and verdicts.outcome(Test("time_over_rnn", low=2.0), found) == "open"


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
    never = precision.zero_lag(rounded(24, 60, 26))
    assert never.value is None and verdicts.spoken("zero_lag", never) == "> 59 steps [above 24]"
    overflown = rounded(24, 25, 26, notes=("log_largest is not finite at lag 24 for seed 0",))
    assert precision.zero_lag(overflown).why == "overflows"


def curves(probe: str, names: tuple[str, ...], **more: object) -> Record:
    lags, random = np.arange(60.0), np.random.default_rng(1)
    logs = (-0.2 * lags + 0.01 * random.standard_normal((3, 60))).ravel()
    parameters = {"probe": probe, "cell": "lstm", "init": "pytorch", "hidden_size": 8, "steps": 60, "dtype": "float64"} | more
    measured = [Measurement("lag", "step", tuple(lags)), Measurement("truncation", "step", (1.0, 7.0, 60.0))]
    measured += [Measurement(name, "nat", tuple(logs), (60, 60, 60)) for name in names]
    measured += [Measurement("truncated_cosine", "1", (0.1, 0.5, 1.0) * 3, (3, 3, 3))]
    measured += [Measurement("accuracy", "1", (1.0, 0.9, 0.8), (1, 1, 1))]
    return Record("gradients", f"{probe}-{more}", "reference", 0, "ok", parameters, measurements=tuple(measured))


def test_every_figure_beside_the_curves_is_drawn_and_speaks_of_what_it_shows():
    found = frame(
        [
            curves("attenuation", ("log_gradient", "log_weight", "log_input")),
            *(curves("controls", ("log_gradient", "log_input"), network=network) for network in ("residual", "transformer")),
            curves("training", ("log_gradient_after_0", "log_gradient_after_9"), lag=20),
            *(curves("inputs", ("log_input",), num_layers=layers, bidirectional=False) for layers in (1, 2)),
        ]
    )
    drawn = {module.__name__.rpartition(".")[2]: module.draw(found) for module in (controls, layers, training, truncation)}
    drawn |= {"precision": precision_figure.draw(rounded(24, 25, 26)), "cost": cost_figure.draw(timed())}
    said = {name: drawing.caption for name, drawing in drawn.items() if drawing is not None}
    assert (
        "LSTM PyTorch default 35 steps" in said["training"] and "→ 35 steps" in said["training"] and "90 %" in said["training"]
    )
    assert "After 7 steps" in said["truncation"] and "PyTorch default 0.50" in said["truncation"]
    assert "float16 25 and 25" in said["precision"] and "one layer 35 steps" in said["layers"]
    assert (
        "at equal width torch 2.0× [2.0, 2.0]; at equal parameters torch 0.50×" in said["cost"]
        and "residual" in said["controls"]
    )


def test_without_their_records_there_are_no_figures():
    empty = frame([])
    for module in (controls, layers, training, truncation, precision_figure, cost_figure):
        assert module.draw(empty) is None
