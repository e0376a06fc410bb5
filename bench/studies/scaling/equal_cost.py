"""An LSTM that costs what a Transformer costs, by each of the three contracts, and both timed in turns in one worker.

What a match by time is depends on the machine, so it is made where the case is measured and stands in the record. On a GPU the
LSTM runs on our own kernels, in the Transformer's process: both are PyTorch's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bench.harness.case import Case
from bench.studies import matching
from bench.studies.matching import Match
from bench.worker import prepare
from impls import LSTMStackSpec, Spec, UnknownName
from results.record import Measurement

SAMPLES = 21
LSTM_ON_GPU = "cuda"


def measure(backend: str, case: Case) -> Iterator[Measurement]:
    """The case is the Transformer's; its factor `matched` says by what. Of the LSTM that is matched to it:

    matched_time, its_time           seconds a call of the LSTM and of the Transformer, samples in turns
    matched_size                     the LSTM's width; noted is the backend that ran it
    matched_parameters, matched_flops, matched_seconds    the LSTM's over the Transformer's; one of them is the match

    Raises `prepare.Skip` where no LSTM takes as long (where the shortest takes longer, none ever does), or where the LSTM's
    backend refuses.
    """
    its_backend = lstm_backend(backend, case)
    if its_backend != backend:
        prepare.admit(replace(case, spec=_lstm(case.spec)), its_backend)
    try:
        found = match(backend, case)
    except matching.Unmatched as error:
        raise prepare.Skip(str(error)) from error
    lstm = replace(case, spec=found.spec)
    own, its = matching.in_turns([prepare.prepare(lstm, its_backend), prepare.prepare(case, backend)], SAMPLES)
    yield Measurement("matched_time", "s", tuple(own))
    yield Measurement("its_time", "s", tuple(its))
    yield Measurement("matched_size", "1", (float(found.spec.hidden_size),), notes=(f"LSTM by {its_backend}",))
    counted, of = lstm.counts(), case.counts()
    ratios = {name: counted[name] / of[name] for name in ("parameters", "flops")}
    for name, ratio in (ratios | {"seconds": matching.ratio(own, its)}).items():
        yield Measurement(f"matched_{name}", "1", (ratio,))


def lstm_backend(backend: str, case: Case) -> str:
    """What runs the LSTM beside a Transformer by `backend`."""
    return LSTM_ON_GPU if case.spec.device == "cuda" else backend


def _lstm(spec: Spec) -> LSTMStackSpec:
    """As deep as the Transformer, of its dtype and on its device; narrow."""
    return LSTMStackSpec(spec.input_size, 8, spec.num_layers, dtype=spec.dtype, device=spec.device)


def match(backend: str, case: Case) -> Match:
    """By the case's factor `matched`. Raises `matching.Unmatched`, or `UnknownName` with the contracts there are."""
    by, spec = case.factor("matched"), case.spec
    lstm = _lstm(spec)
    if by == "parameters":
        return matching.by_parameters(lstm, spec)
    if by == "flops":
        return matching.by_flops(lstm, spec, context=max(1, case.steps // 2))  # the mean of causal training
    if by == "time":
        return matching.by_time(case, lstm, backend, beside=lstm_backend(backend, case))
    raise UnknownName("contract", str(by), ("parameters", "flops", "time"))
