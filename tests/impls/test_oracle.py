"""The oracle itself: NumPy in float64 against central finite differences and against PyTorch in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import impls
from bench.harness.case import Case
from bench.worker.agreement import answer
from impls import Batch, GRUSpec, LSTMSpec, Params, RNNSpec, Spec
from impls.batch import filled

STEP = 1e-6


def loss(spec: Spec, params: Params, batch: Batch) -> float:
    """⟨outputs, grad_y⟩ + ⟨h_n, grad_h_n⟩ + ⟨c_n, grad_c_n⟩, whose gradients are what `gradients` returns."""
    loaded = impls.get("numpy").load(spec, params, batch)
    loaded.forward()
    state = loaded.final_state()
    pairs = [(loaded.outputs(), batch.grad_y), (state["h_n"], batch.grad_h_n), (state.get("c_n"), batch.grad_c_n)]
    return sum(float(np.sum(value * cotangent)) for value, cotangent in pairs if value is not None and cotangent is not None)


@pytest.mark.parametrize(
    "spec",
    [
        LSTMSpec(2, 3, num_layers=2, bidirectional=True, dtype="float64"),
        LSTMSpec(2, 3, num_layers=2, bidirectional=True, proj_size=2, dtype="float64"),
        LSTMSpec(2, 3, bias=False, dtype="float64"),
        GRUSpec(2, 3, num_layers=2, bidirectional=True, dtype="float64"),
        RNNSpec(2, 3, num_layers=2, bidirectional=True, dtype="float64"),
    ],
    ids=lambda spec: Case(spec, 4, 3).key,
)
def test_gradients_are_finite_differences(spec: Spec) -> None:
    case = Case(spec, 4, 3, "forward_backward", ragged=True, initial_state=True)
    params, batch = case.data()
    random = np.random.default_rng(3)
    last = {f"grad_{name}": random.standard_normal(value.shape) for name, value in final_state(spec, params, batch).items()}
    batch = replace(filled(spec, batch), **last)
    loaded = impls.get("numpy").load(spec, params, batch)
    loaded.forward_backward()
    for name, gradient in loaded.gradients().items():
        for index in random.permutation(gradient.size)[:6]:
            ahead, behind = (loss(spec, *nudged(params, batch, name, index, by)) for by in (STEP, -STEP))
            assert gradient.flat[index] == pytest.approx((ahead - behind) / (2 * STEP), rel=1e-6, abs=1e-7), name


def final_state(spec: Spec, params: Params, batch: Batch) -> dict[str, np.ndarray]:
    loaded = impls.get("numpy").load(spec, params, batch)
    loaded.forward()
    return loaded.final_state()


def nudged(params: Params, batch: Batch, name: str, index: int, by: float) -> tuple[Params, Batch]:
    changed = (params[name] if name in params else getattr(batch, name)).copy()
    changed.flat[index] += by
    return (dict(params) | {name: changed}, batch) if name in params else (params, replace(batch, **{name: changed}))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    cell = draw(st.sampled_from([LSTMSpec, GRUSpec, RNNSpec]))
    sizes: dict[str, Any] = {"input_size": draw(st.integers(1, 9)), "hidden_size": draw(st.integers(1, 9))}
    if cell is LSTMSpec:
        sizes["proj_size"] = draw(st.integers(0, sizes["hidden_size"] - 1))
    spec = cell(**sizes, num_layers=draw(st.integers(1, 3)), bias=draw(st.booleans()), bidirectional=draw(st.booleans()),
                dtype="float64")  # fmt: skip
    options = {"ragged": draw(st.booleans()), "initial_state": draw(st.booleans()), "seed": draw(st.integers(0, 99))}
    return Case(spec, draw(st.integers(1, 7)), draw(st.integers(1, 5)), "forward_backward", **options)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@settings(max_examples=60, deadline=None, derandomize=True)
@given(cases())
def test_agrees_with_torch_in_float64(case: Case) -> None:
    params, batch = case.data()
    found, expected = (answer(impls.get(name).load(case.spec, params, batch), case) for name in ("numpy", "torch"))
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-11, atol=1e-12, err_msg=f"{case.key}: {name}")
