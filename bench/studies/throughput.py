"""How many tokens a second each backend processes, and how long one streaming step takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from bench.case import Case
from bench.study import Scale, Study
from impls import GRUSpec, LSTMSpec, Phase, RNNSpec, Spec


def _grid(spec: Spec, steps: int, hidden: tuple[int, ...], batches: tuple[int, ...], phase: Phase) -> Iterator[Case]:
    for size, batch in product(hidden, batches):
        yield Case(replace(spec, input_size=size, hidden_size=size), steps, batch, phase)


def _streams(spec: Spec, hidden: tuple[int, ...], batches: tuple[int, ...] = (1,)) -> Iterator[Case]:
    yield from _grid(spec, 16, hidden, batches, "step")


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
    for phase in ("forward", "forward_backward"):
        for dtype in ("float16", "bfloat16", "float32"):
            base = LSTMSpec(768, 768, dtype=dtype, device="cuda")
            yield from _grid(base, 256, (256, 768, 1024), (1, 16, 128), phase)
        half = LSTMSpec(768, 768, dtype="float16", device="cuda")
        yield from (Case(half, steps, 16, phase) for steps in (64, 1024))
        yield from _variants(half, 256, 16, phase)
    yield from _streams(LSTMSpec(768, 768, dtype="float16", device="cuda"), (256, 1024), (1, 16))


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
)
