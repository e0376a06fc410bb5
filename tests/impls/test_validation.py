"""What is not a spec, parameters or a batch is refused in a message that says what was asked and what is allowed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import impls
from bench.harness.case import Case
from impls import Batch, GRUSpec, LSTMSpec, RNNSpec
from impls.batch import InvalidBatch
from impls.params import InvalidParams
from impls.specs.recurrent import InvalidSpec, spec_from_dict, spec_to_dict

CASE = Case(LSTMSpec(3, 4), 5, 2, "forward_backward")
PARAMS, BATCH = CASE.data()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"hidden_size": 0}, "hidden_size must be at least 1; got 0"),
        ({"input_size": -3}, "input_size must be at least 1; got -3"),
        ({"num_layers": 0}, "num_layers must be at least 1; got 0"),
        ({"hidden_size": "abc"}, "hidden_size must be a whole number; got 'abc'"),
        ({"hidden_size": 4.0}, "hidden_size must be a whole number; got 4.0"),
        ({"hidden_size": True}, "hidden_size must be a whole number; got True"),
        ({"dtype": "float8"}, "dtype must be one of float32, float64, bfloat16, float16, tensorfloat32; got 'float8'"),
        ({"device": "tpu"}, "device must be one of cpu, cuda; got 'tpu'"),
        ({"proj_size": 4}, "proj_size must be smaller than hidden_size 4; got 4"),
        ({"proj_size": -1}, "proj_size must be at least 0; got -1"),
    ],
)
def test_a_size_that_cannot_be(sizes: dict[str, Any], message: str) -> None:
    asked: dict[str, Any] = {"input_size": 3, "hidden_size": 4} | sizes
    with pytest.raises(InvalidSpec, match=message):
        LSTMSpec(**asked)


def test_an_unknown_cell() -> None:
    with pytest.raises(InvalidSpec, match="no cell 'mamba'; choose from lstm, gru, rnn, transformer, lstm_stack, minlstm, ssm"):
        spec_from_dict({"cell": "mamba", "input_size": 3, "hidden_size": 4})


@pytest.mark.parametrize("spec", [LSTMSpec(3, 4, proj_size=2), GRUSpec(3, 4, bidirectional=True), RNNSpec(3, 4, bias=False)])
def test_a_spec_survives_a_record(spec: impls.Spec) -> None:
    assert spec_from_dict(spec_to_dict(spec)) == spec


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weight_ih_l0": None}, r"missing \['weight_ih_l0'\], unknown none"),
        ({"weight_ih_l7": np.zeros(1)}, r"missing none, unknown \['weight_ih_l7'\]"),
        ({"weight_hh_l0": np.zeros((16, 5))}, r"weight_hh_l0 must have shape \(16, 4\); got \(16, 5\)"),
        ({"bias_ih_l0": np.full(16, np.nan)}, "bias_ih_l0 holds 16 values that are NaN or infinite"),
    ],
)
@pytest.mark.parametrize("name", ["numpy", "torch", "jax", "null"])
def test_parameters_that_do_not_fit(name: str, changed: dict, message: str) -> None:
    params = {key: value for key, value in (dict(PARAMS) | changed).items() if value is not None}
    with pytest.raises(InvalidParams, match=message):
        impls.get(name).load(CASE.spec, params, BATCH)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": np.zeros((5, 2))}, r"x must be \[T, B, I\] with no empty axis; got shape \(5, 2\)"),
        ({"x": np.zeros((5, 0, 3))}, "no empty axis"),
        ({"x": np.zeros((5, 2, 4))}, r"x must have shape \(5, 2, 3\); got \(5, 2, 4\)"),
        ({"x": np.full((5, 2, 3), np.inf)}, "x holds NaN or infinite values"),
        ({"h0": np.zeros((1, 3, 4))}, r"h0 must have shape \(1, 2, 4\); got \(1, 3, 4\)"),
        ({"lengths": np.array([6, 1])}, "lengths must lie in 1…5"),
        ({"lengths": np.array([0, 1])}, "lengths must lie in 1…5"),
        ({"lengths": np.array([5, -1])}, "lengths must lie in 1…5"),
        ({"lengths": np.array([5])}, "lengths must be 2 whole numbers"),
        ({"lengths": np.array([1.0, 2.0])}, "lengths must be 2 whole numbers"),
    ],
)
@pytest.mark.parametrize("name", ["numpy", "torch", "jax", "null"])
def test_a_batch_that_does_not_fit(name: str, changed: dict, message: str) -> None:
    with pytest.raises(InvalidBatch, match=message):
        impls.get(name).load(CASE.spec, PARAMS, replace(BATCH, **changed))


def test_a_gru_has_no_cell_state() -> None:
    spec = GRUSpec(3, 4)
    params, _ = Case(spec, 5, 2).data()
    with pytest.raises(InvalidBatch, match="a gru has no cell state; leave c0 and grad_c_n out"):
        impls.get("numpy").load(spec, params, Batch(x=np.zeros((5, 2, 3)), c0=np.zeros((1, 2, 4))))
