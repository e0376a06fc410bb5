"""An LSTM that streams without end, a token at a time and a million tokens in pieces, by the same rule."""

from __future__ import annotations

from collections.abc import Sequence

from bench import costs
from bench.harness.case import Case
from bench.harness.study import Scale, Study
from bench.studies.stream import streaming
from impls import Launch, LSTMSpec, LSTMStackSpec, Spec
from results.claims import Claim, Test

MILLION = 1_000_000
# Tokens after which the inputs begin again: none of ten looks at a stream then comes after the same token as another.
RING = 61
PIECE, PIECES = 200, 11


def _by_token(spec: Spec, tokens: int, launch: Launch = "eager") -> Case:
    return Case(spec, RING, 1, "step", factors=(("tokens", tokens), ("piece", 1)), launch=launch)


def _in_pieces(spec: Spec, tokens: int) -> Case:
    """A call takes `PIECE` tokens, so that a CPU gets through a million of them."""
    return Case(spec, PIECE * PIECES, 1, "forward", factors=(("tokens", tokens), ("piece", PIECE)))


CASES: dict[Scale, tuple[Case, ...]] = {
    "smoke": (_by_token(LSTMSpec(8, 16), 200), _in_pieces(LSTMSpec(8, 16), 20 * PIECE)),
    "quick": (),
    "cpu": (
        # The longest first: two run side by side.
        _in_pieces(LSTMStackSpec(16, 16, 2), MILLION),
        _in_pieces(LSTMSpec(16, 16, 2), MILLION),
        _by_token(LSTMStackSpec(32, 64, 2), 10_000),
        _by_token(LSTMSpec(32, 64, 2), 10_000),
    ),
    "gpu": tuple(
        case
        for kind in (LSTMSpec, LSTMStackSpec)
        for case in (
            _in_pieces(kind(64, 1024, 2, device="cuda"), MILLION),
            _by_token(kind(64, 1024, 2, device="cuda"), MILLION // 10, "graph"),  # ten times as many would take the whole time
        )
    ),
}


def measured_on(case: Case, backends: Sequence[str]) -> tuple[str, ...]:
    """PyTorch streams every kind of state; on a GPU our own kernels, or cuDNN where those are not asked for."""
    best = ("cuda", "cudnn") if case.spec.device == "cuda" else ("torch",)
    return tuple(name for name in best if name in backends)[:1]


def forecast(case: Case) -> float:
    """Seconds of one case: calls by the overhead of one, tokens by that of a layer, both twice, for the twin in float64.

    CPU: rounded from runs on two cores of an AMD EPYC. CUDA: the start is an H100's (see `bench.costs`), calls and tokens
    are estimated: no GPU has run it, and there are no costs of 32 and 64 bits.
    """
    tokens, piece, layers = int(case.factor("tokens")), int(case.factor("piece")), case.spec.num_layers
    start, call, token = 5.0, 1.5e-4, 6e-6
    if case.spec.device == "cuda":
        start, call, token = costs.START_SECONDS_H100 + 2 * costs.CASE_SECONDS, 1.5e-4, 1.5e-5
    if case.spec.cell == "lstm_stack":
        call *= 2.0  # norms and sums are calls of their own
    return start + 2 * tokens * (call / piece + layers * token)


CLAIMS = (
    Claim(
        "f-no-drift",
        "An LSTM streams without end: its rounding errors do not pile up, and its memory does not grow by a mebibyte.",
        (Test("stream_drift", low=0.0, high=2.0), Test("stream_growth", high=float(2**20))),
        tuple(
            (f"{name}, {how}", f"study=stream,cell={cell},piece{pieces}")
            for name, cell in (("LSTM", "lstm"), ("residual LSTM stack", "lstm_stack"))
            for how, pieces in (("a token at a time", "=1"), ("in pieces of 200 tokens", ">1"))
        ),
    ),
)
STUDY = Study(
    question="Does the state of an LSTM drift, or its memory grow, over a very long stream?",
    claim="An LSTM's state neither grows nor drifts, however long the stream.",
    cases=CASES,
    alone=streaming.measure,
    on=measured_on,
    verdicts=CLAIMS,
    forecast=forecast,
)
