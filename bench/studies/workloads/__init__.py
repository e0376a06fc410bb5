"""The LSTMs inside systems in use, with the shapes in which those call them (`results/workloads.py`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from bench import costs
from bench.harness.case import Case
from bench.harness.study import Study
from bench.harness.suites import Pace
from impls import LSTMSpec
from impls.specs.residual import DType
from results.workloads import SYSTEMS, Part, Shape

LONGEST = 30.0  # seconds of a case at gpu scale, so that the study fits nine minutes; longer ones are at the scale of grid


def case_of(name: str, part: Part, shape: Shape) -> Case:
    """One call of a system's LSTM, with the system's name as a factor."""
    spec = LSTMSpec(
        *part.sizes,
        bidirectional=part.bidirectional,
        proj_size=part.proj_size,
        dtype=cast(DType, shape.dtype),
        device=shape.device,
    )
    return Case(
        spec, shape.steps, shape.batch, shape.phase, initial_state=shape.initial_state, factors=(("workload", name),),
        launch="graph" if shape.device == "cuda" else "eager",
    )  # fmt: skip


def cases(device: str) -> Iterator[Case]:
    """Every call on a device, in the order of the table."""
    for system in SYSTEMS:
        for part in system.parts:
            yield from (case_of(system.name, part, shape) for shape in part.shapes if shape.device == device)


def forecast(case: Case) -> float | None:
    """Seconds that one case takes on one backend in one replicate; none for a CPU."""
    return None if case.spec.device == "cpu" else costs.case_seconds(case, cudnn=True)


def _compared(case: Case, backends: Sequence[str]) -> tuple[str, ...]:
    """On a GPU our kernels against cuDNN: with every backend the study would take an hour."""
    return tuple(name for name in backends if case.spec.device == "cpu" or name in ("cuda", "cudnn"))


_CPU, _GPU = tuple(cases("cpu")), tuple(cases("cuda"))
STUDY = Study(
    question="Which LSTM is fastest for the kind of model that I run?",
    claim="Which backend is fastest depends on the shape: streams, long batches and policies rank them differently.",
    cases={
        "smoke": tuple(case for case in _CPU if case.factor("workload") in ("vad", "guitar-amp")),
        "cpu": _CPU,
        "gpu": tuple(case for case in _GPU if (forecast(case) or 0) <= LONGEST),
        "grid": tuple(case for case in _GPU if (forecast(case) or 0) > LONGEST),
    },
    forecast=forecast,
    select_backends=_compared,
    repeats={"gpu": (1, Pace(10, 0.02, 0.25)), "grid": (1, Pace(5, 0.02, 0.05))},
)
