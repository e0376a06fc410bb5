"""An LSTM that streams without end, a token at a time and a million tokens in pieces, by the same rule."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from bench import costs
from bench.harness.case import Case
from bench.harness.study import Scale, Study
from bench.worker import memory, prepare
from impls import Launch, LSTMSpec, LSTMStackSpec, Spec, SupportsMultiStep
from results.claims import Claim, Test
from results.record import Measurement

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


def select_backends(case: Case, backends: Sequence[str]) -> tuple[str, ...]:
    """PyTorch streams every kind of state; on a GPU our own kernels, or cuDNN where those are not asked for."""
    best = ("cuda", "cudnn") if case.spec.device == "cuda" else ("torch",)
    return tuple(name for name in best if name in backends)[:1]


def forecast(case: Case) -> float:
    """Seconds of one case: calls by the overhead of one, tokens by that of a layer, both twice, for the counterpart in float64.

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


LOOKS = 10  # evenly over the stream
UNITS = {"state_error": "1", "state_size": "1", "resident": "B", "device_used": "B"}


def measure(backend: str, case: Case) -> Iterator[Measurement]:
    """Streams the case's factor `tokens` through it and through its float64 counterpart, in step, and looks ten times.

    Factor `piece` says how many tokens a call takes: 1 for phase `step`.

    state_error    largest |state − float64 state| over the largest |float64 state|
    state_size     largest |state|; raises `prepare.Rejected` where it is not finite
    resident       bytes of the process, Linux only
    device_used    bytes in use on the whole device, on CUDA only
    """
    own = prepare.load(case, backend)
    exact = prepare.load(replace(case, spec=replace(case.spec, dtype="float64")), backend)
    tokens, piece = int(case.factor("tokens")), int(case.factor("piece"))
    if tokens % (LOOKS * piece):
        raise ValueError(f"tokens must be a multiple of {LOOKS} looks of whole pieces of {piece} tokens; got {tokens}")
    streams = [(prepared, _call(prepared, piece)) for prepared in (own, exact)]
    found: dict[str, list[float]] = {}
    for look in range(1, LOOKS + 1):
        for prepared, call in streams:
            for _ in range(tokens // LOOKS // piece):
                call()
            prepared.wait()
        state, right = _state(own), _state(exact)
        if not np.isfinite(state).all():
            raise prepare.Rejected(f"{backend}: the state is no number after {look * tokens // LOOKS} tokens")
        looked = {"state_error": np.abs(state - right).max() / np.abs(right).max(), "state_size": np.abs(state).max()}
        for name, value in (looked | _bytes_used(case)).items():
            found.setdefault(name, []).append(float(value))
    for name, values in found.items():
        yield Measurement(name, UNITS[name], tuple(values))


def _call(prepared: prepare.Prepared, piece: int) -> Callable[[], None]:
    if prepared.case.phase == "step":
        return prepared.call
    advance = cast(SupportsMultiStep, prepared.loaded).advance
    return lambda: advance(piece)


def _state(prepared: prepare.Prepared) -> np.ndarray:
    return np.concatenate([value.ravel().astype(np.float64) for value in prepared.loaded.final_state().values()])


def _bytes_used(case: Case) -> dict[str, float]:
    gc.collect()
    used = {"resident": _resident_bytes()}
    return used | ({"device_used": memory.device_bytes()} if case.spec.device == "cuda" else {})


def _resident_bytes() -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        raise prepare.Skip("the memory of a process is read from /proc, which is Linux's; run there")
    line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmRSS"))
    return 1024.0 * int(line.split()[1])


CLAIMS = (
    Claim(
        "f-no-drift",
        "An LSTM streams without end: its rounding errors do not pile up, and its memory does not grow by a mebibyte.",
        (
            Test("stream_drift", low=0.0, high=2.0, effect=1.0, spread=0),
            Test("stream_growth", high=float(2**20), effect=0.0, spread=0),
        ),
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
    measure=measure,
    select_backends=select_backends,
    claims=CLAIMS,
    forecast=forecast,
)
