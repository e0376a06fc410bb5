"""The one tolerance policy: what counts as the right answer.

A backend's error against float64 may be at most twice that of a naive implementation in the same dtype, plus a
few units in the last place of the largest reference value (the rule of flash-attention's test suite). It scales with
shape, length and dtype by itself. Every comparison raises; none returns a bool; NaN fails.

The few units are for arrays of few elements, where the naive error may happen to be next to nothing. Over ten networks of
three lengths on a CPU, the most needed beyond twice the naive error was 5.3 units in float64 and 4.6 in float32 (torch,
torch_loop), 2.3 in float16 and 2.7 in bfloat16 (those, jax and flax). 16 units of bfloat16 would let an error of 12 % pass.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

import impls
from bench.case import Case
from impls import Backend, Loaded, SupportsGraph

REFERENCES = "LSTM_BENCH_REFERENCES"  # a run's folder of the reference's answers; its workers share them
NAIVE_FACTOR = 2.0
FLOOR_ULPS = {"float64": 16.0, "float32": 16.0, "float16": 4.0, "bfloat16": 4.0, "tensorfloat32": 4.0}
EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7, "tensorfloat32": 2.0**-10}


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


def check(backend: Backend, case: Case) -> None:
    """Raise `Disagreement` unless `backend` answers `case` as the float64 oracle does, within the policy."""
    params, batch = case.data()
    check_against(answer(backend.load(case.spec, params, batch), case), case)


def check_against(found: Answer, case: Case) -> float:
    """Raise `Disagreement` unless `found` is the oracle's answer to `case` within the policy.

    Returns the largest error of any array as a share of what it may be.
    """
    oracle = reference(case, "float64")
    bounds = naive_errors(case, oracle)
    if set(found) != set(oracle):
        raise Disagreement(f"{case.key}: expected {sorted(oracle)}; got {sorted(found)}")
    return max(
        compare(f"{case.key}: {name}", found[name], expected, bounds[name], case.spec.dtype)
        for name, expected in oracle.items()
    )


def compare(what: str, found: np.ndarray, expected: np.ndarray, naive_error: float, dtype: str) -> float:
    """Raise `Disagreement` unless max |found − expected| ≤ 2 × naive_error + a few ulp of max |expected|; their quotient."""
    if found.shape != expected.shape:
        raise Disagreement(f"{what} has shape {found.shape}; expected {expected.shape}")
    error = float(np.max(np.abs(found.astype(np.float64) - expected)))
    bound = NAIVE_FACTOR * naive_error + FLOOR_ULPS[dtype] * EPSILON[dtype] * float(np.max(np.abs(expected)))
    if not error <= bound:  # so written that NaN fails
        where = np.unravel_index(np.argmax(np.nan_to_num(np.abs(found - expected), nan=np.inf)), expected.shape)
        at = tuple(int(index) for index in where)
        raise Disagreement(
            f"{what} is off by {error:.3g}, allowed {bound:.3g} ({dtype}); worst at {at}: "
            f"got {float(found[at]):.6g}, expected {float(expected[at]):.6g}"
        )
    return error / bound if bound else 0.0


def reference(case: Case, dtype: str) -> Answer:
    """The numpy backend's answer, computed in `dtype` on the CPU."""
    on_cpu = replace(case, spec=replace(case.spec, dtype=dtype, device="cpu"), launch="eager")

    def compute() -> Answer:
        params, batch = case.data()
        return answer(impls.get("numpy").load(on_cpu.spec, params, batch), on_cpu)

    return remembered(on_cpu.key, compute)


def remembered(name: str, compute: Callable[[], Answer]) -> Answer:
    """What was computed under this name by any worker of the run; NumPy takes seconds for one answer in 16 bits at H = 2048."""
    if not (folder := os.environ.get(REFERENCES)):
        return compute()
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


def naive_errors(case: Case, oracle: Answer) -> dict[str, float]:
    """Largest error of a naive implementation in the case's dtype, by array."""
    stand_in, scale = naive_dtype(case.spec.dtype)
    naive = reference(case, stand_in)
    return {name: scale * float(np.max(np.abs(naive[name].astype(np.float64) - oracle[name]))) for name in oracle}


def naive_dtype(dtype: str) -> tuple[str, float]:
    """The dtype to compute naively in, and what its error is to be multiplied by.

    Float64 has nothing wider to be compared with: its error is that of float32 scaled by the ratio of their epsilons.
    """
    stand_in = "float32" if dtype == "float64" else dtype
    return stand_in, EPSILON[dtype] / EPSILON[stand_in]
