"""An LSTM that streams without end: a million tokens on a GPU, fewer on a CPU, by the same rule."""

from __future__ import annotations

from collections.abc import Sequence

from bench import streaming
from bench.case import Case
from bench.study import Scale, Study
from impls import LSTMSpec, LSTMStackSpec, Spec
from results.claims import Claim, Test


def _case(spec: Spec, tokens: int) -> Case:
    return Case(spec, 64, 1, "step", factors=(("tokens", tokens),))


CASES: dict[Scale, tuple[Case, ...]] = {
    "smoke": (_case(LSTMSpec(8, 16), 200),),
    "quick": (),
    "cpu": (_case(LSTMSpec(32, 64, 2), 20_000), _case(LSTMStackSpec(32, 64, 2), 20_000)),
    "gpu": tuple(_case(kind(64, 1024, 2, device="cuda"), 1_000_000) for kind in (LSTMSpec, LSTMStackSpec)),
}


def measured_on(case: Case, backends: Sequence[str]) -> tuple[str, ...]:
    """PyTorch streams every kind of state; on a GPU through cuDNN."""
    return tuple(name for name in ("torch", "cudnn") if name in backends)


CLAIMS = (
    Claim(
        "f-no-drift",
        "An LSTM streams without end: its rounding errors do not pile up, and its memory does not grow by a mebibyte.",
        (Test("stream_drift", low=0.0, high=2.0), Test("stream_growth", high=float(2**20))),
        (("LSTM", "study=stream,cell=lstm"), ("residual LSTM stack", "study=stream,cell=lstm_stack")),
    ),
)
STUDY = Study(
    question="Does the state of an LSTM drift, or its memory grow, over a very long stream?",
    claim="An LSTM's state neither grows nor drifts, however long the stream.",
    cases=CASES,
    alone=streaming.measure,
    on=measured_on,
    verdicts=CLAIMS,
    seconds={"cpu": 30, "gpu": 300},  # estimated; of a GPU none has run it
)
