"""The tolerance policy: what counts as the right answer.

A backend's error against float64 may be at most twice that of a naive implementation in the same dtype, plus a
few units in the last place of the largest reference value (the rule of flash-attention's test suite). It scales with
shape, length and dtype by itself. Every comparison raises; none returns a bool; NaN fails.

The few units are for arrays of few elements, where the naive error may happen to be next to nothing. Over ten networks of
three lengths on a CPU, the most needed beyond twice the naive error was 5.3 units in float64 and 4.6 in float32 (torch,
torch_loop), 2.3 in float16 and 2.7 in bfloat16 (those, jax and flax). 16 units of bfloat16 would let an error of 12 % pass.

Float32
-------
NumPy's float32 is better than naive: its tanh is right to a unit or two, and BLAS adds in blocks. A GPU's library need be
neither, so both are allowed for. Units are of 2^-23, in which float32 is rounded near 1.

Activations. A fast sigmoid is made of `__expf`, off by 2 + 1.173 |x| units, and of a division, off by 2 (CUDA C++ Programming
Guide, "Intrinsic Functions"). Since σ(1 − σ) ≤ 1/4 and σ(1 − σ)|x| ≤ 0.23, it is off by at most 3.3 units. A tanh made of it,
2σ(2x) − 1, is off by twice as much, also where it is small. Others are coarser: on an H100 the outputs of cuDNN's float32 at I
= H = 8, T = 4, B = 2 were off by 2.79e-6, or 23 units. NumPy is off by 2.91e-6 there if every sigmoid is 6 units too high and
every tanh 12, which is twice what the fast functions above are off by; that is taken for naive. How such errors grow through T
steps, through layers and on the way back is not estimated but computed: the naive answer is NumPy's own with these
activations, once with tanh too high and once too low, since errors of one sign may cancel; of each array the larger error
counts.

Sums. Where D terms are added one after another, each addition rounds a partial sum by up to half a unit: with signs at random
sqrt(D/8) units of the sum's usual size. Allowed are sqrt(D) units of the array's largest value. D is I + H for outputs and
states, 4H (the rows of the matrices) for gradients of inputs and states, T·B for those of weights and biases; T too where a
network attends.

Int8
----
A backend that computes a float32 case in int8 is no implementation of float32, and is held to a bound of its own. Naive is
then NumPy in float32 with each matrix of weights rounded to 8 bits, symmetrically and with one scale; the units, of 2^-7, are
for the activations, which such a backend rounds to 7 or 8 bits at every step: allowed are twice that error and 3.1 % of the
largest value.

TF32, whose operands are rounded to 2^-11, stays far outside: tests/impls/test_tolerance.py holds both margins for outputs,
states and every gradient at H = 8, 64, 512 and 2048.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

import impls
from bench.harness.case import Case
from impls import Backend, Loaded, Params, SupportsGraph
from impls.frameworks.numpy import arithmetic
from impls.frameworks.numpy.arithmetic import Off
from impls.specs.recurrent import Recurrent

REFERENCES = "LSTM_BENCH_REFERENCES"  # a run's folder of the reference's answers; its workers share them
NAIVE_FACTOR = 2.0
FLOOR_ULPS = {"float64": 16.0, "float32": 16.0, "float16": 4.0, "bfloat16": 4.0, "tensorfloat32": 4.0, "int8": 4.0}
# What naive activations of float32 are off by, in units of 2^-23: see above.
OFF_ULPS = (Off(sigmoid=6.0, tanh=12.0), Off(sigmoid=6.0, tanh=-12.0))
EPSILON = {
    "float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7, "tensorfloat32": 2.0**-10,
    "int8": 2.0**-7,
}  # fmt: skip
INT8_SCALE = 127.5  # of the largest weight: 255 steps between it and its negative


class Disagreement(AssertionError):
    """A backend gave a wrong answer; the message names the array, the error and the bound."""


Answer = dict[str, np.ndarray]


def call_of(loaded: Loaded, case: Case) -> Callable[[], None]:
    """What makes one call of the case's phase, launched as the case says."""
    if case.launch == "graph":
        return cast(SupportsGraph, loaded).capture(case.phase)
    return getattr(loaded, case.phase)


def answer(loaded: Loaded, case: Case, called: Callable[[], None] | None = None) -> Answer:
    """Run the case's phase once and collect outputs, final states and (training) every gradient.

    For `step`, all T steps are streamed; the outputs are stacked to [T, B, R]. Where the state grows with them (a cache), 2T:
    the second T meet it full, its oldest tokens overwritten, as a step is timed.
    called: the call, where it was made once since the network was loaded; that counts as the first one here.
    """
    call = called or call_of(loaded, case)
    if case.phase == "step":
        outputs = []
        for number in range(case.steps * (1 + case.remembers)):
            if number or not called:
                call()
            loaded.wait()
            outputs.append(loaded.outputs())
        return {"outputs": np.concatenate(outputs)} | loaded.final_state()
    if not called:
        call()
    loaded.wait()
    found = {"outputs": loaded.outputs()} | loaded.final_state()
    if case.phase == "forward_backward":
        found |= {f"gradient of {name}": value for name, value in loaded.gradients().items()}
    return found


def check(backend: Backend, case: Case) -> float:
    """Raise `Disagreement` unless `backend` answers `case` as the float64 reference does, within the policy.

    Returns the error of its outputs, relative to the largest of them.
    """
    params, batch = case.data()
    return validate(answer(backend.load(case.spec, params, batch), case), case, getattr(backend, "PRECISION", None))


def validate(found: Answer, case: Case, precision: str | None = None) -> float:
    """As `check_against`; what is within its bound whatever the naive error may be needs no naive answer.

    Returns the error of the outputs, relative to the largest of them.
    """
    exact, held_to = reference(case, "float64"), precision or case.spec.dtype
    if set(found) != set(exact) or not all(
        surely_within(found[name], expected, held_to, depth(case, name)) for name, expected in exact.items()
    ):
        check_against(found, case, precision)
    return relative_error(found["outputs"], exact["outputs"])


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest error over the largest value expected."""
    return float(np.max(np.abs(found.astype(np.float64) - expected)) / np.max(np.abs(expected)))


def surely_within(found: np.ndarray, expected: np.ndarray, dtype: str, depth: int) -> bool:
    """Whether the error is within `bound` even if a naive implementation had none."""
    if found.shape != expected.shape:
        return False
    return bool(np.max(np.abs(found.astype(np.float64) - expected)) <= bound(expected, 0.0, dtype, depth))


def check_against(found: Answer, case: Case, precision: str | None = None) -> float:
    """Raise `Disagreement` unless `found` is the float64 reference's answer to `case` within the policy.

    precision: of the backend, where it is less exact than the case's data type.

    Returns the largest error of any array as a share of what it may be.
    """
    exact, held_to = reference(case, "float64"), precision or case.spec.dtype
    bounds = naive_errors(case, exact, held_to)
    if set(found) != set(exact):
        raise Disagreement(f"{case.key}: expected {sorted(exact)}; got {sorted(found)}")
    return max(
        compare(f"{case.key}: {name}", found[name], expected, bounds[name], held_to, depth(case, name))
        for name, expected in exact.items()
    )


def compare(what: str, found: np.ndarray, expected: np.ndarray, naive_error: float, dtype: str, depth: int = 0) -> float:
    """Raise `Disagreement` unless max |found − expected| is within `bound`.

    Args:
        depth: how many terms the sums have that the array is made of.

    Returns: the error as a share of the bound.
    """
    if found.shape != expected.shape:
        raise Disagreement(f"{what} has shape {found.shape}; expected {expected.shape}")
    error = float(np.max(np.abs(found.astype(np.float64) - expected)))
    allowed = bound(expected, naive_error, dtype, depth)
    if not error <= allowed:  # so written that NaN fails
        where = np.unravel_index(np.argmax(np.nan_to_num(np.abs(found - expected), nan=np.inf)), expected.shape)
        at = tuple(int(index) for index in where)
        raise Disagreement(
            f"{what} is off by {error:.3g}, allowed {allowed:.3g} ({dtype}); worst at {at}: "
            f"got {float(found[at]):.6g}, expected {float(expected[at]):.6g}"
        )
    return error / allowed if allowed else 0.0


def bound(expected: np.ndarray, naive_error: float, dtype: str, depth: int = 0) -> float:
    """What an array may be off by: 2 × naive_error + a few units in the last place of max |expected|.

    `depth` counts in float32 alone: how many terms the sums have that the array is made of.
    """
    units = FLOOR_ULPS[dtype] + (math.sqrt(depth) if dtype == "float32" else 0.0)
    return NAIVE_FACTOR * naive_error + units * EPSILON[dtype] * float(np.max(np.abs(expected)))


def depth(case: Case, name: str) -> int:
    """How many terms the longest sums have that an array of an answer is made of."""
    if name.startswith("gradient of ") and name.removeprefix("gradient of ") in case.spec.parameter_shapes():
        return case.steps * case.batch
    matrices = [shape for shape in case.spec.parameter_shapes().values() if len(shape) == 2]
    if name.startswith("gradient of "):
        return max(rows for rows, _ in matrices)
    columns = max(columns for _, columns in matrices)
    return columns + case.spec.recurrent_size if isinstance(case.spec, Recurrent) else max(columns, case.steps)


def reference(case: Case, dtype: str) -> Answer:
    """The numpy backend's answer, computed in `dtype` on the CPU; in int8 as `computed_in` says."""
    computed, rounded = computed_in(dtype)
    on_cpu = replace(case, spec=replace(case.spec, dtype=computed, device="cpu"), launch="eager")

    def compute() -> Answer:
        params, batch = case.data()
        return answer(impls.get("numpy").load(on_cpu.spec, rounded(params), batch), on_cpu)

    return remembered(on_cpu.key + (f" in {dtype}" if dtype != computed else ""), compute)


def computed_in(dtype: str) -> tuple[Any, Callable[[Params], Params]]:
    """The data type that NumPy computes in for one that a backend may be held to, and what becomes of the weights before."""
    return ("float32", in_int8) if dtype == "int8" else (dtype, lambda params: params)


def in_int8(params: Params) -> Params:
    """The weights with each matrix rounded to 8 bits."""
    return {name: _rounded(value) if value.ndim == 2 else value for name, value in params.items()}


def _rounded(matrix: np.ndarray) -> np.ndarray:
    scale = float(np.max(np.abs(matrix))) / INT8_SCALE or 1.0
    return np.clip(np.round(matrix / scale), -128, 127) * scale


def remembered(name: str, compute: Callable[[], Answer]) -> Answer:
    """What any worker of the run computed under this name, with the same activations (`off_by`). NumPy takes seconds for one
    answer in 16 bits at H = 2048."""
    if not (folder := os.environ.get(REFERENCES)):
        return compute()
    if off := arithmetic.off():
        name += f" with activations off by {off.sigmoid:.9g} and {off.tanh:.9g}"
    path = Path(folder) / (hashlib.sha256(name.encode()).hexdigest()[:32] + ".npz")
    if path.exists():
        with np.load(path) as kept:
            return dict(kept)
    found: dict[str, Any] = {key: np.asarray(value, np.float64) for key, value in compute().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{os.getpid()}-{path.name}")
    np.savez(unfinished, **found)
    os.replace(unfinished, path)  # others see all of it or nothing
    return found


def naive_errors(case: Case, exact: Answer, dtype: str | None = None) -> dict[str, float]:
    """Largest error of a naive implementation in a dtype, the case's by default, by array."""
    return naive_errors_of(dtype or case.spec.dtype, lambda dtype: reference(case, dtype), exact)


def naive_errors_of(dtype: str, answer_in: Callable[[str], Answer], exact: Answer) -> dict[str, float]:
    """Largest error of a naive implementation in `dtype`, by array; `answer_in` computes NumPy's answer in a dtype."""
    stand_in, scale = naive_dtype(dtype)
    unit = EPSILON[dtype]
    chosen = [Off(off.sigmoid * unit, off.tanh * unit) for off in OFF_ULPS] if dtype == "float32" else [None]
    largest = dict.fromkeys(exact, 0.0)
    for off in chosen:
        with arithmetic.off_by(off):
            naive = answer_in(stand_in)
        for name, expected in exact.items():
            error = scale * float(np.max(np.abs(naive[name].astype(np.float64) - expected)))
            largest[name] = float(np.maximum(largest[name], error))  # NaN stays NaN
    return largest


def naive_dtype(dtype: str) -> tuple[str, float]:
    """The dtype to compute naively in, and what its error is to be multiplied by.

    Float64 has nothing wider to be compared with: its error is that of float32 scaled by the ratio of their epsilons.
    """
    stand_in = "float32" if dtype == "float64" else dtype
    return stand_in, EPSILON[dtype] / EPSILON[stand_in]
