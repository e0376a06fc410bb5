"""What is advised of a run: only what it measured, right and surely faster; what changes the numbers is told apart."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from analysis.report.load import records_frame, series_frame
from analysis.studies.workloads.advice import Advice, advise
from bench.harness.case import Case
from impls import LSTMSpec
from results.record import Header, Measurement, Record
from results.store import Run
from tests.analysis.synthetic import ENVIRONMENT

CASE = Case(LSTMSpec(8, 16), 10, 2, factors=(("workload", "like-mine"), ("module", "rnn"), ("copies", 1)))
NOISE = 0.002


def other(dtype: str, case: Case = CASE) -> Case:
    own = dataclasses.replace(case.spec, dtype=dtype)
    return dataclasses.replace(case, spec=own, factors=(*case.factors, ("own_dtype", case.spec.dtype)))


def record(
    case: Case, backend: str, seconds: float, replicate: int, error: float | None = 1e-7, noise: float = NOISE
) -> Record:
    random = np.random.default_rng([replicate, len(backend), len(case.key)])
    samples = tuple(seconds * np.exp(random.normal(0, noise)) * random.normal(1, 0.001, 8))
    measured = [Measurement("time", "s", samples, (4, 4))] + [Measurement("error", "1", (error,))] * (error is not None)
    return Record("workloads", case.key, backend, replicate, "ok", case.to_dict(), measurements=tuple(measured))


def advice(
    times: dict[tuple[Case, str], float], replicates: int = 5, more: tuple[Record, ...] = (), **of: float
) -> list[Advice]:
    records = tuple(record(case, backend, seconds, replicate, **of) for replicate in range(replicates)
                    for (case, backend), seconds in times.items())  # fmt: skip
    header = Header("r", "2026-11-20T12:00:00Z", 1, "imaginary", ENVIRONMENT, {})
    run = Run(Path("r"), header, (*records, *more), None)
    return advise(records_frame([run]), series_frame([run]))


def test_the_fastest_that_is_surely_faster_is_advised():
    (found,) = advice({(CASE, "torch"): 1e-3, (CASE, "jax"): 5e-4, (CASE, "numpy"): 2e-3, (CASE, "null"): 1e-7})
    assert found.best and (found.best.backend, found.best.dtype, found.best.launch) == ("jax", "float32", "eager")
    assert found.best.gain and found.best.gain.low is not None and found.best.gain.high is not None
    assert 1.9 < found.best.gain.low < 2.0 < found.best.gain.high < 2.1
    assert found.own and found.own.seconds == pytest.approx(1e-3, rel=0.01) and found.own.gain is None
    assert found.compared == 2 and found.changing == () and found.nearest is None and found.call["module"] == "rnn"


def test_nothing_is_advised_without_proof():
    """Within the noise; from one replicate; without PyTorch's own module; from what only the other replicates have."""
    (found,) = advice({(CASE, "torch"): 1e-3, (CASE, "jax"): 9.7e-4}, noise=0.1)
    assert found.best is None and found.own and found.changing == ()
    (found,) = advice({(CASE, "torch"): 1e-3, (CASE, "jax"): 1e-4}, replicates=1)
    assert found.best is None and found.nearest and found.nearest.backend == "jax"
    (found,) = advice({(CASE, "jax"): 1e-4, (CASE, "numpy"): 1e-3})
    assert (found.own, found.best, found.nearest) == (None, None, None)
    (found,) = advice({(CASE, "torch"): 1e-3}, more=(record(CASE, "jax", 1e-4, 7), record(CASE, "jax", 1e-4, 8)))
    assert found.best is None


def test_a_wrong_answer_is_told_and_not_advised():
    wrong = Record("workloads", CASE.key, "jax", 0, "failed", CASE.to_dict(), reason="off by 0.25", kind="wrong")
    (found,) = advice({(CASE, "torch"): 1e-3}, more=(wrong,))
    assert found.best is None and found.failed == (("jax in float32", "off by 0.25"),)


def test_another_data_type_is_told_apart_with_its_error():
    half, worse = other("bfloat16"), other("float16")
    times = {(CASE, "torch"): 1e-3, (CASE, "jax"): 5e-4, (half, "torch"): 2e-4, (half, "jax"): 3e-4, (worse, "torch"): 6e-4}
    (found,) = advice(times, error=3e-3)
    assert found.best and found.best.backend == "jax" and found.best.dtype == "float32", (
        "never the one that changes the numbers"
    )
    (changing,) = found.changing
    assert (changing.backend, changing.dtype, changing.error) == ("torch", "bfloat16", 3e-3), (
        "float16 is slower than the advice"
    )
    (found,) = advice(times, error=None)
    assert found.changing[0].error is None


def test_of_equally_fast_ways_that_of_less_change_is_advised():
    (found,) = advice({(CASE, "torch"): 1e-3, (CASE, "jax"): 4e-4, (CASE, "onnxruntime"): 4.001e-4})
    assert found.best and found.best.backend == "onnxruntime" and [way.backend for way in found.tied] == ["jax"]


def test_a_gpu_is_compared_with_cudnn_launched_eagerly():
    on_gpu = dataclasses.replace(CASE, spec=dataclasses.replace(CASE.spec, device="cuda"))
    graph = dataclasses.replace(on_gpu, launch="graph")
    (found,) = advice({(on_gpu, "cudnn"): 1e-3, (graph, "cudnn"): 6e-4, (graph, "cuda"): 3e-4, (on_gpu, "torch"): 5e-3})
    assert found.own and (found.own.backend, found.own.launch) == ("cudnn", "eager")
    assert found.best and (found.best.backend, found.best.launch) == ("cuda", "graph") and found.compared == 3


def test_each_call_has_its_own_advice():
    longer = dataclasses.replace(CASE, steps=20)
    found = advice({(case, name): seconds * (1 + (case is longer) * (name == "jax") * 3) for case in (CASE, longer)
                    for name, seconds in (("torch", 1e-3), ("jax", 5e-4))})  # fmt: skip
    assert [(one.call["steps"], one.best is not None) for one in found] == [(10, True), (20, False)]


def test_proof_gets_harder_with_the_number_of_ways():
    """The fastest of many is chosen by its numbers: an interval that barely excludes 1 alone does not among eight."""
    alone = {(CASE, "torch"): 1e-3, (CASE, "jax"): 9e-4}
    many = alone | {(CASE, f"slow{number}"): 2e-3 for number in range(7)}
    found = [advice(times, noise=0.03)[0].best for times in (alone, many)]
    bounds = [best.gain.low if best and best.gain and best.gain.low else 0.0 for best in found]
    assert bounds[0] > 1 and bounds[1] < bounds[0]


def test_false_advice_is_rare():
    """Eight ways as fast as PyTorch's own, 200 times: one is advised in at most 5 % of the runs."""
    times = {(CASE, "torch"): 1e-3} | {(CASE, "x" * length): 1e-3 for length in range(7, 15)}
    wrong = 0
    for seed in range(200):
        shifted = {(dataclasses.replace(CASE, seed=1), name): seconds for (_, name), seconds in times.items()}
        records = tuple(
            _drawn(case, name, seconds, replicate, seed) for replicate in range(5) for (case, name), seconds in shifted.items()
        )
        run = Run(Path("r"), Header("r", "2026-11-20T12:00:00Z", 1, "imaginary", ENVIRONMENT, {}), records, None)
        (found,) = advise(records_frame([run]), series_frame([run]))
        wrong += found.best is not None
    assert wrong <= 10


def _drawn(case: Case, backend: str, seconds: float, replicate: int, seed: int) -> Record:
    random = np.random.default_rng([seed, replicate, len(backend)])
    samples = tuple(seconds * np.exp(random.normal(0, 0.02)) * random.normal(1, 0.001, 2))
    return Record(
        "workloads", case.key, backend, replicate, "ok", case.to_dict(), measurements=(Measurement("time", "s", samples),)
    )
