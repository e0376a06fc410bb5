"""The rule by which failures of a reference run are left out: of the process's state, or reversed by today's tolerance."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench import exclusions
from bench.harness.case import Case
from impls.specs.recurrent import LSTMSpec
from results.exclusions import FILE, encode
from results.record import Record
from results.store import REFERENCE

H100 = REFERENCE / "2026-11-26-h100"
CASE = Case(LSTMSpec(8, 8, dtype="float32", device="cuda"), 4, 2)


def failed(reason: str, kind: str = "error", case: str = "a", backend: str = "cuda") -> Record:
    return Record("throughput", case, backend, 0, "failed", CASE.to_dict(), reason=reason, kind=kind)  # pyright: ignore[reportArgumentType]


def left_out(*records: Record) -> list[tuple[str, str]]:
    found = exclusions.of({one.task: one for one in records})
    return [(case, why) for (_, case, _, _), why in found.items()]


@pytest.mark.parametrize(
    "reason",
    [
        "DriverError: cuModuleLoadData failed: CUDA_ERROR_INVALID_CONTEXT",
        "cuLaunchKernelEx failed: CUDA_ERROR_CONTEXT_IS_DESTROYED",
        "XlaRuntimeError: cudaErrorContextIsDestroyed",
    ],
)
def test_errors_of_the_process_state_are_excluded_by_name(reason):
    assert left_out(failed(reason)) == [("a", "invalid_context")]


@pytest.mark.parametrize(
    "reason", ["cuModuleLoadData failed: CUDA_ERROR_INVALID_IMAGE", "the context is invalid", "CUDA_ERROR_INVALID_CONTEXTS"]
)
def test_other_failures_stay(reason):
    assert left_out(failed(reason)) == []


def test_only_cases_after_the_corrupting_one_are_excluded():
    sticky = "DriverError: cuCtxSynchronize failed: CUDA_ERROR_ILLEGAL_INSTRUCTION"
    other = "torch.AcceleratorError: CUDA error: an illegal memory access was encountered"
    records = [failed(sticky, case="culprit"), failed(sticky, case="after"), failed(sticky, case="b", backend="jax")]
    assert left_out(*records) == [("after", "invalid_context")]
    assert left_out(records[0], failed(other, case="another error")) == []
    assert left_out(*(replace(one, kind="crash") for one in records)) == [], "after a crash the worker was replaced"


@pytest.mark.parametrize(
    ("error", "kept"),
    [("2.79e-06", False), ("0.000488", True), ("0.251", True), ("nan", True)],
    ids=["cuDNN's float32 on an H100", "TF32", "jax_cudnn on an H100", "NaN"],
)
def test_rejections_within_todays_tolerance_are_excluded(error, kept):
    said = f"{CASE.key}: outputs is off by {error}, allowed 9.56e-07 (float32); worst at (3, 0, 2)"
    assert left_out(failed(said, "wrong")) == ([] if kept else [("a", "allowed_today")])
    assert left_out(failed(said, "error")) == []


def test_the_reference_runs_leave_out_what_the_rule_says():
    found = exclusions.of_folder(H100)
    assert (H100 / FILE).read_text() == encode(found)
    assert sum(map(len, found.values())) == 16
