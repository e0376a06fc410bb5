"""What a token costs in an LSTM, a GRU and a vanilla RNN, at equal width and at equal parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import impls
from bench import costs
from bench.harness.case import Case
from bench.harness.study import Scale, Study
from bench.harness.suites import Pace
from impls import GRUSpec, LSTMSpec, Phase, RNNSpec
from results.claims import Claim, Test

COMPARED = ("lstm", "gru", "rnn")


def select_backends(case: Case, backends: Sequence[str]) -> tuple[str, ...]:
    """Cells are compared inside one backend, so one that has only some of them has nothing to tell."""
    return tuple(name for name in backends if set(COMPARED) <= set(impls.facts(name).cells))


def _cases(sizes: tuple[int, ...], steps: int, batch: int, phases: tuple[Phase, ...], **more: str) -> Iterator[Case]:
    """Each network once: an RNN of 256 is as wide as one LSTM and as large as another.

    I = H: an LSTM has 8H² + 8H parameters, an RNN of twice the width 8H² + 4H. A GRU as large as the LSTM is in no claim.
    """
    widths = {
        "lstm": set(sizes),
        "gru": set(sizes),
        "rnn": {*sizes, *(2 * size for size in sizes)},
    }
    kinds = {"lstm": LSTMSpec, "gru": GRUSpec, "rnn": RNNSpec}
    for phase in phases:
        for cell, own in widths.items():
            for width in sorted(own):
                yield Case(kinds[cell](width, width, **more), steps, batch, phase)


def forecast(case: Case) -> float:
    """Seconds of one case on one backend, about ten calls. CPU: 30 GFLOP/s and 15 µs a step, rounded from a run on two cores of
    an AMD EPYC; CUDA: see `bench.costs`."""
    if case.spec.device == "cuda":
        return costs.case_seconds(case, cudnn=True)
    return 0.4 + 10 * (case.counts()["flops"] / 3e10 + case.steps * 1.5e-5)


CASES: dict[Scale, tuple[Case, ...]] = {
    "smoke": tuple(_cases((16,), 8, 2, ("forward_backward",))),
    "quick": (),
    "cpu": tuple(_cases((64, 256), 32, 16, ("forward_backward",))),
    "gpu": tuple(_cases((256, 512, 1024), 128, 32, ("forward", "forward_backward"), device="cuda")),
}
TRAINING = "study=cost,phase=forward_backward"


def _settings(selection: str, backends: Sequence[str], sizes: Sequence[int] = (64, 256)) -> tuple[tuple[str, str], ...]:
    return tuple(
        (f"{name}, H = {size}", f"{TRAINING},backend={name},{selection.format(size=size, **_around(size))}")
        for name in backends
        for size in sizes
    )


def _around(size: int) -> dict[str, int]:
    """Parameters that count as those of an LSTM of this width."""
    count = LSTMSpec(size, size).parameter_count()
    return {"least": round(0.97 * count), "most": round(1.03 * count)}


SAME_WIDTH, SAME_PARAMETERS = "hidden_size={size}", "count_parameters>={least},count_parameters<={most}"
CPU, GPU = ("torch", "jax", "numpy"), ("torch", "cudnn", "jax")
DEEPBENCH = ("2.01× and 2.89× in single, 1.60× and 1.67× in half precision, H = 2048", "DeepBench on a V100, N = 32 and 128")
CLAIMS = (
    Claim(
        "d-size",
        "At equal width an LSTM has four times the parameters and four times the FLOPs of a vanilla RNN.",
        (
            Test("parameters_over_rnn", low=3.99, high=4.01, effect=4.0, spread=0),
            Test("flops_over_rnn", low=3.99, high=4.01, effect=4.0, spread=0),
        ),
        _settings(SAME_WIDTH, ("torch",), (256,)),  # a size of every scale
        "4.00×",
        "Hochreiter & Schmidhuber 1997, with forget gates as in Gers et al. 2000",
        "cost",
    ),
    Claim(
        "d-time",
        "On a CPU at equal width a token costs several times, at least twice, the time in an LSTM that it does in an RNN.",
        (Test("time_over_rnn", low=2.0, effect=2.45, spread=0.57, basis="published"),),
        _settings(SAME_WIDTH + ",device=cpu", CPU),
        *DEEPBENCH,
        "cost",
    ),
    Claim(
        "d-equal-parameters",
        "On a CPU at equal parameters an LSTM takes the time of a vanilla RNN, within a quarter.",
        (Test("time_over_rnn", low=0.8, high=1.25, effect=1.0, spread=0.014, basis="as claimed"),),
        _settings(SAME_PARAMETERS + ",device=cpu", CPU),
        figure="cost",
    ),
    Claim(
        "d-equal-parameters-gpu",
        "On a GPU, too, an LSTM takes the time of a vanilla RNN of as many parameters, within a quarter.",
        (Test("time_over_rnn", low=0.8, high=1.25),),
        _settings(SAME_PARAMETERS + ",device=cuda", GPU, (256, 1024)),
        figure="cost",
    ),
    Claim(
        "d-time-gpu",
        "On a GPU, too, a token costs at least twice the time in an LSTM of equal width.",
        (Test("time_over_rnn", low=2.0),),
        _settings(SAME_WIDTH + ",device=cuda", GPU, (256, 1024)),
        *DEEPBENCH,
        "cost",
    ),
)
STUDY = Study(
    question="What does a token cost in an LSTM, in a GRU and in a vanilla RNN, at equal width and at equal parameters?",
    claim="An LSTM costs several times what a vanilla RNN of the same width does.",
    cases=CASES,
    select_backends=select_backends,
    repeats={"cpu": (3, Pace(4, 0.02, 0.05))},
    claims=CLAIMS,
    forecast=forecast,
)
