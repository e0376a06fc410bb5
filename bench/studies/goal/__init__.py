"""The goal of our kernels: faster than every baseline at every point of a grid of sizes, data types and launch modes.

`gpu-check` runs a part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from bench import costs
from bench.harness.case import Case
from bench.harness.study import Study
from impls import Launch, LSTMSpec, Phase
from impls.specs.recurrent import DType

BATCHES = (1, 8, 32, 64, 128, 256)
HIDDEN = (128, 256, 512, 768, 1024, 2048)
DTYPES: tuple[DType, ...] = ("bfloat16", "float16", "tensorfloat32")
PHASES: tuple[Phase, ...] = ("forward", "forward_backward")
LAUNCHES: tuple[Launch, ...] = ("graph", "eager")  # only eager launches compare with JAX, FlashRNN and other baselines
STEPS = 128
# Measured first, for all backends, should time run out: the middle of the grid and one corner.
FIRST_BATCHES, FIRST_HIDDEN = (1, 32, 128), (256, 512, 1024)


def _cases() -> Iterator[Case]:
    """The middle of the grid and its smallest corner, then the rest from small to large."""
    points = sorted(
        product(HIDDEN, BATCHES), key=lambda point: (point[0] not in FIRST_HIDDEN or point[1] not in FIRST_BATCHES, *point)
    )
    for launch, (hidden, batch), dtype, phase in product(LAUNCHES, points, DTYPES, PHASES):
        yield Case(LSTMSpec(hidden, hidden, dtype=dtype, device="cuda"), STEPS, batch, phase, launch=launch)


def _emulated() -> Iterator[Case]:
    for dtype, phase in product(DTYPES[:2], PHASES):
        yield Case(LSTMSpec(16, 16, dtype=dtype), 3, 2, phase)


def forecast(case: Case) -> float | None:
    """As long as cuDNN takes, which is longer than ours; None under the emulation."""
    return costs.case_seconds(case, cudnn=True) if case.spec.device == "cuda" else None


STUDY = Study(
    question="Is our kernel faster than every baseline, at every size and dtype, forward and in training?",
    claim="Cluster-persistent kernels beat cuDNN, FlashRNN, JAX and torch.compile at every point of the grid.",
    cases={"grid": tuple(_cases()), "emulated": tuple(_emulated())},
    forecast=forecast,
)
