"""How many tokens a second each backend processes, and how long one streaming step takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import get_args

from bench import costs
from bench.harness.case import Case
from bench.harness.study import Scale, Study
from impls import GRUSpec, Launch, LSTMSpec, Phase, RNNSpec, Spec

GPU_STEPS = 128


def _grid(
    spec: Spec, steps: int, hidden: tuple[int, ...], batches: tuple[int, ...], phase: Phase, launch: Launch = "eager"
) -> Iterator[Case]:
    for size, batch in product(hidden, batches):
        yield Case(replace(spec, input_size=size, hidden_size=size), steps, batch, phase, launch=launch)


def _streams(spec: Spec, hidden: tuple[int, ...], batches: tuple[int, ...] = (1,), launch: Launch = "eager") -> Iterator[Case]:
    yield from _grid(spec, 16, hidden, batches, "step", launch)


def _smoke() -> Iterator[Case]:
    base = LSTMSpec(32, 32)
    yield Case(base, 8, 4, "forward")
    yield Case(base, 8, 4, "forward_backward")
    yield Case(base, 8, 1, "step")


def _quick() -> Iterator[Case]:
    base = LSTMSpec(256, 256)
    yield from _grid(base, 32, (64, 512), (1, 32), "forward")
    yield Case(base, 32, 32, "forward_backward")
    yield from _streams(base, (256,))


def _cpu() -> Iterator[Case]:
    base = LSTMSpec(256, 256)
    for phase in ("forward", "forward_backward"):
        yield from _grid(base, 128, (64, 128, 256, 512), (1, 8, 32), phase)
        yield from (Case(base, steps, 8, phase) for steps in (32, 512))
        yield from _variants(base, 64, 8, phase)
    yield from _streams(base, (64, 256, 512), (1, 8))


def _many() -> Iterator[Case]:
    """Small and different: 102 of them, so that two backends make a suite of 204 rows."""
    for cell in (LSTMSpec, GRUSpec, RNNSpec):
        base = cell(8, 8)
        for phase in ("forward", "forward_backward"):
            yield from _grid(base, 8, (8, 16, 32, 48, 64), (1, 4, 8), phase)
        yield from _streams(base, (8, 32), (1, 4))


def _gpu() -> Iterator[Case]:
    """Headline cases only, so that three replicates take less than nine minutes on one H100: 128 steps in bfloat16, small to
    large, replayed from a CUDA graph; the middle one also eagerly, in float16 (for which cuDNN has other kernels) and float32.

    The whole grid of sizes is the study `goal`.
    """
    middle = LSTMSpec(512, 512, dtype="bfloat16", device="cuda")
    for phase in ("forward", "forward_backward"):
        yield from _grid(middle, GPU_STEPS, (256, 512, 1024), (32,), phase, "graph")
        yield Case(middle, GPU_STEPS, 32, phase)
    yield Case(middle, GPU_STEPS, 1, "forward", launch="graph")
    yield Case(replace(middle, dtype="float16"), GPU_STEPS, 32, "forward", launch="graph")
    yield Case(replace(middle, dtype="float32"), GPU_STEPS, 32, "forward")
    for launch in get_args(Launch):
        yield from _streams(middle, (512,), launch=launch)


def forecast(case: Case) -> float | None:
    """Seconds that one case takes on one backend in one replicate, from preparing to the last sample; none for a CPU."""
    if case.spec.device == "cpu":
        return None
    return costs.case_seconds(case, cudnn=True)  # the slowest of those that `run gpu` compares


def _variants(base: LSTMSpec, steps: int, batch: int, phase: Phase) -> Iterator[Case]:
    """What users stack on the plain layer: depth, two directions, ragged lengths, and the other cells."""
    sizes = (base.input_size, base.hidden_size)
    yield Case(replace(base, num_layers=2), steps, batch, phase)
    yield Case(replace(base, bidirectional=True), steps, batch, phase)
    yield Case(base, steps, batch, phase, ragged=True)
    yield Case(GRUSpec(*sizes, dtype=base.dtype, device=base.device), steps, batch, phase)
    yield Case(RNNSpec(*sizes, dtype=base.dtype, device=base.device), steps, batch, phase)


CASES: dict[Scale, tuple[Case, ...]] = {
    "smoke": tuple(_smoke()),
    "quick": tuple(_quick()),
    "cpu": tuple(_cpu()),
    "gpu": tuple(_gpu()),
    "many": tuple(_many()),
}
STUDY = Study(
    question="How many tokens a second does each backend process, and how long does one streaming step take?",
    claim="Implementations of the same LSTM differ several times in speed, and which is fastest depends on the sizes.",
    cases=CASES,
    forecast=forecast,
)
