"""The tolerance policy bites: a backend that is wrong, slightly wrong, NaN or misshapen is refused in a readable message."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from bench.harness.case import Case
from bench.worker import agreement
from bench.worker.agreement import Disagreement, check, naive_errors, reference
from impls import Batch, GRUSpec, LSTMSpec, Params, Phase, RNNSpec, Spec
from impls.backends import numpy as right
from impls.frameworks.numpy.arithmetic import rounded
from impls.specs.recurrent import DType

CASE = Case(LSTMSpec(5, 7, num_layers=2), 12, 3, "forward_backward", initial_state=True)


class Double:
    """The NumPy backend, with what it is given or what it answers changed."""

    RUNS: tuple[str, ...] = ("numpy",)

    def refuses(self, spec: Spec, phase: Phase, ragged: bool) -> str | None:
        return None

    def load(self, spec: Spec, params: Params, batch: Batch) -> right.Network:
        return right.load(spec, params, batch)


class SwappedGates(Double):
    """Takes i, f, o, g for i, f, g, o."""

    def load(self, spec: Spec, params: Params, batch: Batch) -> right.Network:
        def swapped(value: np.ndarray) -> np.ndarray:
            i, f, g, o = np.split(value, 4)
            return np.concatenate([i, f, o, g])

        return right.load(spec, {name: swapped(value) for name, value in params.items()}, batch)


class SlightlyWrong(Double):
    """One gradient is 0.1 % too large."""

    def load(self, spec: Spec, params: Params, batch: Batch) -> right.Network:
        class Network(right.Network):
            def gradients(self) -> dict[str, np.ndarray]:
                found = super().gradients()
                return found | {"bias_hh_l1": found["bias_hh_l1"] * np.float32(1.001)}

        return Network(spec, params, batch)


class NotANumber(Double):
    """One element of the outputs is NaN."""

    def load(self, spec: Spec, params: Params, batch: Batch) -> right.Network:
        class Network(right.Network):
            def outputs(self) -> np.ndarray:
                found = super().outputs()
                found[-1, 0, 2] = np.nan
                return found

        return Network(spec, params, batch)


class Misshapen(Double):
    """Returns the last step only."""

    def load(self, spec: Spec, params: Params, batch: Batch) -> right.Network:
        class Network(right.Network):
            def outputs(self) -> np.ndarray:
                return super().outputs()[-1]

        return Network(spec, params, batch)


class ForgetsAGradient(Double):
    def load(self, spec: Spec, params: Params, batch: Batch) -> right.Network:
        class Network(right.Network):
            def gradients(self) -> dict[str, np.ndarray]:
                return {name: value for name, value in super().gradients().items() if name != "c0"}

        return Network(spec, params, batch)


class LowPrecision(Double):
    """Computes in float16 where float32 was asked."""

    def load(self, spec: Spec, params: Params, batch: Batch) -> right.Network:
        return right.load(replace(spec, dtype="float16"), params, batch)


def test_the_unchanged_double_passes() -> None:
    check(Double(), CASE)


@pytest.mark.parametrize(
    ("double", "message"),
    [
        (SwappedGates(), r"outputs is off by 0\.\d+, allowed \d.*e-0\d \(float32\); worst at \(\d+, \d, \d\): got"),
        (SlightlyWrong(), "gradient of bias_hh_l1 is off by"),
        (NotANumber(), r"outputs is off by nan.*worst at \(11, 0, 2\): got nan"),
        (Misshapen(), r"outputs has shape \(3, 7\); expected \(12, 3, 7\)"),
        (ForgetsAGradient(), "expected .*gradient of c0.*; got"),
        (LowPrecision(), "is off by"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Double) else "",
)
def test_a_wrong_backend_is_refused(double: Double, message: str) -> None:
    with pytest.raises(Disagreement, match=message):
        check(double, CASE)


@pytest.mark.parametrize("phase", ["forward", "step"])
def test_swapped_gates_are_refused_in_every_phase(phase: Phase) -> None:
    with pytest.raises(Disagreement, match="is off by"):
        check(SwappedGates(), replace(CASE, phase=phase))


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "tensorfloat32"])
def test_a_gradient_wrong_by_a_fifth_is_refused_in_every_dtype(dtype: DType) -> None:
    class Wrong(Double):
        def load(self, spec: Spec, params: Params, batch: Batch) -> right.Network:
            class Network(right.Network):
                def gradients(self) -> dict[str, np.ndarray]:
                    found = super().gradients()
                    return found | {"weight_hh_l0": found["weight_hh_l0"].astype(np.float64) * 1.2}

            return Network(spec, params, batch)

    case = replace(CASE, spec=replace(CASE.spec, dtype=dtype))
    check(Double(), case)
    with pytest.raises(Disagreement, match="gradient of weight_hh_l0"):
        check(Wrong(), case)


def test_each_dtype_has_its_own_naive_error() -> None:
    for spec in (LSTMSpec(5, 7), GRUSpec(5, 7)):
        for dtype in get_args(DType):
            check(Double(), Case(replace(spec, dtype=dtype), 12, 3, "forward_backward"))


@pytest.mark.parametrize("spec", [LSTMSpec(5, 7, bidirectional=True, proj_size=3), GRUSpec(5, 7), RNNSpec(5, 7)])
def test_the_naive_error_of_tf32_is_that_of_its_products(spec: Spec) -> None:
    case = Case(spec, 12, 3, "forward_backward", ragged=True, initial_state=True)
    oracle = reference(case, "float64")
    tf32 = naive_errors(replace(case, spec=replace(spec, dtype="tensorfloat32")), oracle)
    exact = reference(case, "float32")
    for name, expected in oracle.items():
        single = np.abs(exact[name] - expected).max()
        assert "bias" in name or 50 * single < tf32[name] < 2e-2, name


def test_rounds_to_tf32_as_a_gpu_does() -> None:
    given = np.array([1 + 2**-11, 1 + 2**-12, -1 - 2**-11, 3.0, 2.0**-140], np.float32)
    assert rounded(given).tolist() == [1 + 2**-10, 1.0, -1 - 2**-10, 3.0, 2.0**-140 // 2**-136 * 2**-136]


def test_the_workers_of_a_run_compute_the_reference_once(tmp_path, monkeypatch) -> None:
    expected = reference(CASE, "bfloat16")
    monkeypatch.setenv(agreement.REFERENCES, str(tmp_path))
    first = reference(CASE, "bfloat16")
    monkeypatch.setattr(agreement.impls, "get", lambda name: pytest.fail("computed again"))
    for found in (first, reference(CASE, "bfloat16")):
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[name], expected[name].astype(np.float64)) for name in expected)
    assert len(list(tmp_path.iterdir())) == 1


def test_no_naive_answer_is_computed_where_none_is_needed(monkeypatch) -> None:
    right_answer = agreement.reference(CASE, "float64")
    agreement.validate(right_answer, CASE)
    reference = agreement.reference

    def only_float64(case: Case, dtype: str) -> agreement.Answer:
        if dtype != "float64":
            raise RuntimeError(f"a naive answer in {dtype}")
        return reference(case, dtype)

    monkeypatch.setattr(agreement, "reference", only_float64)
    agreement.validate(right_answer, CASE)
    wrong = right_answer | {"outputs": right_answer["outputs"] + 1e-4}
    with pytest.raises(RuntimeError, match="a naive answer in float32"):
        agreement.validate(wrong, CASE)
    monkeypatch.undo()
    with pytest.raises(Disagreement, match=r"outputs is off by 0\.0001"):
        agreement.validate(wrong, CASE)


@pytest.mark.parametrize("changed", ["shape", "nan", "missing"])
def test_what_cannot_be_compared_is_not_surely_within(changed: str) -> None:
    found = dict(agreement.reference(CASE, "float64"))
    if changed == "missing":
        del found["h_n"]
    else:
        found["h_n"] = found["h_n"][..., :1] if changed == "shape" else found["h_n"] * np.nan
    with pytest.raises(Disagreement):
        agreement.validate(found, CASE)
