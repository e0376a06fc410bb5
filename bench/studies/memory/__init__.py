"""How much memory one call takes as sequences grow, measured beside the analytic model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bench import costs
from bench.harness.case import Case
from bench.harness.study import Scale, Study
from bench.worker import memory
from impls import LSTMSpec


def _over_length(spec: LSTMSpec, batch: int, lengths: tuple[int, ...]) -> Iterator[Case]:
    for steps in lengths:
        yield Case(spec, steps, batch, "forward_backward")
    yield Case(spec, max(lengths), batch, "forward")


BASE = LSTMSpec(256, 256)
CASES: dict[Scale, tuple[Case, ...]] = {
    "smoke": (Case(LSTMSpec(32, 32), 64, 4, "forward_backward"),),
    "quick": tuple(Case(BASE, steps, 32, "forward_backward") for steps in (32, 128)),
    "cpu": tuple(_over_length(BASE, 32, (64, 256, 1024))),
    "gpu": tuple(_over_length(replace(BASE, dtype="float16", device="cuda"), 64, (256, 1024, 4096))),
}


def forecast(case: Case) -> float:
    """Seconds of one case on one backend, in a worker of its own: its start, its data, the reference, and about eight calls.

    CPU: from the runs of suite `quick` in results/runs, 1 to 13 s a case, most of it imports and compiling. CUDA: see
    `bench.costs`.
    """
    if case.spec.device == "cuda":
        return costs.START_SECONDS_H100 + costs.case_seconds(case, calls=8)
    return 4.0 + 8 * (case.counts()["flops"] / 3e10 + case.steps * case.spec.num_layers * 1.5e-5)


STUDY = Study(
    question="How much memory does one call take, and how does it grow with length?",
    claim="Training an LSTM keeps its activations: memory grows linearly in length, while the state it carries does not grow.",
    cases=CASES,
    measure=memory.measure_memory,
    needs_fresh_worker=True,
    forecast=forecast,
)
