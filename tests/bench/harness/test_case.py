"""Cases: keys that are stable and unique, data that is never zero, and the way back from plain values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.report.load import series_frame
from bench.harness import case as harness_case
from bench.harness import study
from bench.harness.case import RECORD_FIELDS, Case, InvalidCase
from impls import GRUSpec, LSTMSpec

BASE = Case(LSTMSpec(4, 5), 6, 2)


def test_key_is_readable_and_leaves_defaults_out():
    assert BASE.key == "lstm-I4-H5-T6-B2-forward-float32-cpu"
    spec = LSTMSpec(4, 5, num_layers=2, bidirectional=True, bias=False, proj_size=3, dtype="float64")
    full = Case(spec, 6, 2, "forward_backward", ragged=True, initial_state=True, seed=7)
    assert full.key == "lstm-I4-H5-L2-bi-nobias-P3-T6-B2-forward_backward-float64-cpu-ragged-state-seed7"


@pytest.mark.parametrize(
    "other",
    [
        replace(BASE, steps=7),
        replace(BASE, batch=3),
        replace(BASE, phase="step"),
        replace(BASE, ragged=True),
        replace(BASE, initial_state=True),
        replace(BASE, seed=1),
        replace(BASE, launch="graph"),
        replace(BASE, spec=GRUSpec(4, 5)),
        *(replace(BASE, spec=replace(BASE.spec, **change)) for change in (
            {"input_size": 5}, {"hidden_size": 6}, {"num_layers": 2}, {"bias": False}, {"bidirectional": True},
            {"dtype": "float64"}, {"device": "cuda"}, {"proj_size": 2},
        )),
    ],
    ids=lambda case: case.key,
)  # fmt: skip
def test_every_parameter_changes_the_key_and_is_read_back(other: Case):
    assert other.key != BASE.key
    assert Case.from_dict(other.to_dict()) == other


def test_only_a_graph_launch_stands_in_the_key():
    on_cuda = replace(BASE, spec=replace(BASE.spec, device="cuda"), ragged=True)
    graph = replace(on_cuda, launch="graph")
    assert (on_cuda.to_dict()["launch"], graph.to_dict()["launch"]) == ("eager", "graph")
    assert on_cuda.key == "lstm-I4-H5-T6-B2-forward-float32-cuda-ragged"
    assert graph.key == "lstm-I4-H5-T6-B2-forward-float32-cuda-graph-ragged"
    assert harness_case.choose([on_cuda, graph], ["launch=graph"]) == (graph,)
    assert harness_case.choose([on_cuda, graph], ["launch=eager"]) == (on_cuda,)


def test_a_record_from_before_there_were_launch_modes_is_eager():
    case = Case(GRUSpec(4, 5), 6, 2, factors=(("init", "chrono"),))
    before = {name: value for name, value in case.to_dict().items() if name != "launch"}
    assert Case.from_dict(before) == case and Case.from_dict(before).launch == "eager"


def test_keys_are_unique_within_every_study_and_scale():
    for name in study.names():
        for scale, cases in study.get(name).cases.items():
            keys = [case.key for case in cases]
            assert len(set(keys)) == len(keys), f"{name} at {scale}"


def test_data_is_drawn_from_the_seed_and_never_zero():
    case = replace(BASE, phase="forward_backward", initial_state=True)
    params, batch = case.data()
    assert all(np.all(value != 0) for value in params.values())
    for value in (batch.x, batch.h0, batch.c0, batch.grad_y):
        assert value is not None and np.all(value != 0)
    again = case.data()[1]
    assert np.array_equal(batch.x, again.x)
    assert not np.array_equal(batch.x, replace(case, seed=1).data()[1].x)


def test_ragged_lengths_reach_from_one_to_all_steps():
    lengths = replace(BASE, batch=16, ragged=True).data()[1].lengths
    assert lengths is not None and lengths.min() == 1 and lengths.max() == BASE.steps


@pytest.mark.parametrize(("change", "message"), [
    ({"steps": 0}, "steps must be a whole number of at least 1; got 0"),
    ({"batch": "many"}, "batch must be a whole number of at least 1; got 'many'"),
    ({"phase": "backward"}, "phase must be one of forward, forward_backward, step; got 'backward'"),
    ({"launch": "stream"}, "launch must be one of eager, graph; got 'stream'"),
])  # fmt: skip
def test_impossible_cases_are_refused_in_a_sentence(change: dict, message: str):
    with pytest.raises(InvalidCase, match=message):
        replace(BASE, **change)


def test_counts_agree_with_closed_forms():
    spec = LSTMSpec(10, 20, dtype="float64")
    counts = Case(spec, 7, 3, "forward_backward").counts()
    assert counts["parameters"] == 4 * 20 * (10 + 20 + 2)
    assert counts["flops"] == 3 * 2 * 7 * 3 * 4 * 20 * (10 + 20)
    assert counts["state_bytes"] == 2 * 3 * 20 * 8
    assert counts["tokens"] == 21
    assert Case(spec, 7, 3, "step").counts()["tokens"] == 3


@pytest.mark.parametrize("name", RECORD_FIELDS)
def test_a_factor_is_not_hidden_by_a_field_of_records(name: str) -> None:
    with pytest.raises(InvalidCase, match=f"may not be called '{name}': every record has"):
        Case(GRUSpec(4, 5), 6, 2, factors=((name, "chrono"),))


def test_every_column_of_a_record_alone_is_no_factors_name() -> None:
    case = set(Case(GRUSpec(4, 5), 6, 2).to_dict())
    frame = set(series_frame([])) - case
    assert frame <= set(RECORD_FIELDS), "a field of records that a factor could still be named by"
