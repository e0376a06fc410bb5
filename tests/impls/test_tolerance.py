"""Both margins of the float32 tolerance: a GPU library's approximations are allowed, TF32 is not, array by array.

The library is emulated: NumPy's layers with sigmoids and tanhs that are off by as much as an H100's cuDNN was seen to be, and
with products that add one term after another. That is not the naive implementation of `bench.worker.agreement`: sigmoids and
tanhs are off by the same amount, in every combination of signs, or by random amounts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench.harness.case import Case
from bench.worker import agreement
from impls import GRUSpec, LSTMSpec, LSTMStackSpec, RNNSpec, Spec
from impls.backends import numpy as numpy_backend
from impls.frameworks.numpy import arithmetic
from impls.frameworks.numpy.arithmetic import Off

UNIT = 2.0**-23
SYSTEMATIC, RANDOM = 8.0, 13.0  # units: either gives what was seen
SEEN = Case(LSTMSpec(8, 8), 4, 2)
SEEN_ERROR = 2.79e-6  # of cuDNN's outputs for that case on an H100 (torch 2.11, CUDA 13.0), 2026-11-26
SIGNS = [Off(s * SYSTEMATIC * UNIT, t * SYSTEMATIC * UNIT) for s in (1, -1) for t in (1, -1)]
# What is stated: an allowed error is at least so many times the library's, and TF32's so many times an allowed one.
ABOVE_THE_LIBRARY, BELOW_TF32 = 2.0, 6.0
SIZES = [(8, 4, 2), (8, 12, 32), (64, 12, 8), (512, 4, 3), (2048, 2, 2)]  # H, T, B


class OneAfterAnother(np.ndarray):
    """Float32 whose products add one term after another; stands where the NumPy backend has its TF32."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        plain = [value.view(np.ndarray) if isinstance(value, OneAfterAnother) else value for value in inputs]
        if out is not None:
            options["out"] = tuple(value.view(np.ndarray) for value in out)
        if ufunc is np.matmul and plain[0].ndim == plain[1].ndim == 2:
            found = np.zeros((plain[0].shape[0], plain[1].shape[1]), np.float32)
            for k in range(plain[0].shape[1]):
                found += np.multiply.outer(plain[0][:, k], plain[1][k])
            if out is None:
                return found.view(OneAfterAnother)
            out[0][...] = found
            return out[0]
        found = getattr(ufunc, method)(*plain, **options)
        if out is not None:
            return out[0]
        return found.view(OneAfterAnother) if isinstance(found, np.ndarray) else found


@pytest.fixture
def adding_one_after_another(monkeypatch, fresh_references) -> Iterator[None]:
    monkeypatch.setattr(numpy_backend, "TensorFloat32", OneAfterAnother)
    yield


def answered(case: Case) -> agreement.Answer:
    params, batch = case.data()
    spec = replace(case.spec, dtype="tensorfloat32")  # whose class of arrays the fixture above replaces
    found = agreement.answer(numpy_backend.load(spec, params, batch), case)
    return {name: np.asarray(value, np.float64) for name, value in found.items()}


def of_a_library(case: Case, monkeypatch) -> Iterator[agreement.Answer]:
    """Answers of five libraries: four whose activations are always off, one whose are off at random."""
    for off in SIGNS:
        with arithmetic.off_by(off):
            found = answered(case)
        yield found
    random = np.random.default_rng(0)

    def move(values: np.ndarray) -> None:
        values += (RANDOM * UNIT * random.uniform(-1, 1, values.shape)).astype(np.float32)

    with monkeypatch.context() as patch:
        patch.setattr(arithmetic, "move_sigmoid", move)
        patch.setattr(arithmetic, "move_tanh", move)
        found = answered(case)
    yield found


def allowed(case: Case, oracle: agreement.Answer) -> dict[str, float]:
    naive = agreement.naive_errors(case, oracle)
    return {
        name: agreement.bound(expected, naive[name], "float32", agreement.depth(case, name))
        for name, expected in oracle.items()
    }


def errors(found: agreement.Answer, oracle: agreement.Answer) -> dict[str, float]:
    return {name: float(np.abs(found[name] - expected).max()) for name, expected in oracle.items()}


def test_the_emulated_library_is_as_far_off_as_what_was_seen(adding_one_after_another, monkeypatch):
    oracle = agreement.reference(SEEN, "float64")
    largest = [errors(found, oracle)["outputs"] for found in of_a_library(SEEN, monkeypatch)]
    assert max(largest) >= SEEN_ERROR and all(error > SEEN_ERROR / 2 for error in largest)
    assert allowed(SEEN, oracle)["outputs"] > 2 * SEEN_ERROR


@pytest.mark.parametrize("hidden, steps, batch", SIZES)
def test_what_is_allowed_lies_between_a_library_and_tf32(hidden, steps, batch, adding_one_after_another, monkeypatch):
    case = Case(LSTMSpec(hidden, hidden), steps, batch, "forward_backward", initial_state=True)
    oracle = agreement.reference(case, "float64")
    bounds = allowed(case, oracle)
    assert len(bounds) == 10  # outputs, two states, four parameters, x and two states
    libraries = of_a_library(case, monkeypatch) if hidden < 2048 else [next(of_a_library(case, monkeypatch))]
    for library in libraries:
        for name, error in errors(library, oracle).items():
            assert ABOVE_THE_LIBRARY * error <= bounds[name], (name, error, bounds[name])
    monkeypatch.undo()
    in_tf32 = answered(case)
    for name, error in errors(in_tf32, oracle).items():
        assert error >= BELOW_TF32 * bounds[name], (name, error, bounds[name])
    with pytest.raises(agreement.Disagreement, match="outputs is off by"):
        agreement.check_against(in_tf32, case)


NETWORKS: list[tuple[Spec, int]] = [
    (LSTMSpec(16, 16, num_layers=4), 12), (LSTMSpec(16, 256), 12), (LSTMSpec(5, 7, bidirectional=True, proj_size=3), 12),
    (LSTMSpec(1, 1), 3), (GRUSpec(16, 16), 12), (RNNSpec(16, 16), 12), (LSTMStackSpec(16, 16, 2), 12), (LSTMSpec(8, 8), 256),
]  # fmt: skip


@pytest.mark.parametrize("spec, steps", NETWORKS, ids=lambda value: getattr(value, "cell", str(value)))
def test_other_networks_lie_within_it_too(spec, steps, adding_one_after_another, monkeypatch):
    monkeypatch.setattr("impls.frameworks.numpy.models.TensorFloat32", OneAfterAnother)
    case = Case(spec, steps, 8, "forward_backward", initial_state=True)
    oracle = agreement.reference(case, "float64")
    bounds = allowed(case, oracle)
    for library in of_a_library(case, monkeypatch):
        for name, error in errors(library, oracle).items():
            assert error <= bounds[name], (name, error, bounds[name])


def test_activations_are_off_inside_alone(fresh_references):
    before = agreement.reference(SEEN, "float32")["outputs"]
    with pytest.raises(KeyError), arithmetic.off_by(SIGNS[0]):
        assert not np.array_equal(agreement.reference(SEEN, "float32")["outputs"], before)
        raise KeyError
    assert arithmetic.off() is None
    np.testing.assert_array_equal(agreement.reference(SEEN, "float32")["outputs"], before)


def test_no_other_dtype_is_judged_by_such_activations(monkeypatch):
    monkeypatch.setattr(agreement, "OFF_ULPS", ())  # float32 would need them
    for dtype in ("float64", "float16", "bfloat16", "tensorfloat32"):
        case = replace(SEEN, spec=replace(SEEN.spec, dtype=dtype))
        assert agreement.naive_errors(case, agreement.reference(case, "float64"))["outputs"] > 0
        expected = np.ones(3)
        assert agreement.bound(expected, 0.0, dtype, depth=10_000) == agreement.bound(expected, 0.0, dtype)
