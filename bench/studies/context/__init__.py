"""How far back a trained model makes use of what it read: six estimators side by side, on a source whose answer is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench import costs
from bench.harness.case import Case
from bench.harness.study import REFERENCE, Scale, Study
from bench.studies.matching import by_parameters
from impls import Spec
from impls.specs.residual import LSTMStackSpec, TransformerSpec
from results.claims import Claim, Test
from results.record import Measurement


def measure(backend: str, case: Case) -> Iterator[Measurement]:
    """The framework is imported in the worker alone."""
    from bench.studies.context import windows

    yield from (windows.measure_recall if case.factor("probe") == "recall" else windows.measure_windows)(case)


def forecast(case: Case) -> float:
    """Seconds of all trainings of a case and of what their models are then asked; of recall where no lag is learnt early."""
    seeds, updates = int(case.factor("seeds")), int(case.factor("updates"))
    start = costs.START_SECONDS_TRAINING[case.spec.device]
    if case.factor("probe") == "recall":
        lags = [4 << power for power in range(32) if 4 << power < case.steps]
        return start + seeds * updates * sum(costs.update_seconds(case, lag + 1, case.batch) for lag in lags)
    judged = int(case.factor("judged"))
    looks = case.steps.bit_length() + 3  # contexts up to the window add up to two windows; influence at every lag and at none
    training = updates * costs.update_seconds(case, case.steps, case.batch)
    return start + seeds * (training + looks * costs.judging_seconds(case, case.steps, judged))


def select_backends(case: Case, backends: Sequence[str]) -> tuple[str, ...]:
    return (REFERENCE,)


def _specs(width: int, layers: int, heads: int) -> tuple[Spec, Spec]:
    transformer = TransformerSpec(width, width, layers, num_heads=heads)
    return by_parameters(LSTMStackSpec(width, width, layers), transformer).spec, transformer


def _specs_on_gpu(width: int, layers: int) -> tuple[Spec, Spec]:
    """An LSTM of a width that its kernels like, and the Transformer that is matched to it."""
    lstm = LSTMStackSpec(width, width, layers, device="cuda")
    return lstm, by_parameters(TransformerSpec(width, width, layers, device="cuda"), lstm).spec


def _used(spec: Spec, source: str, steps: int, batch: int, updates: int, *, judged: int, rate: float, seeds: int = 3) -> Case:
    factors = (
        ("probe", "context"), ("source", source), ("seeds", seeds), ("updates", updates), ("judged", judged), ("rate", rate),
    )  # fmt: skip
    return Case(spec, steps, batch, "forward_backward", factors=factors)


def _recalls(spec: Spec, steps: int, updates: int, seeds: int = 3) -> Case:
    factors = (("probe", "recall"), ("source", "recall"), ("seeds", seeds), ("updates", updates), ("rate", 3e-3))
    return Case(spec, steps, 32, "forward_backward", factors=factors)


def _cpu() -> Iterator[Case]:
    for spec in _specs(52, 1, 2):
        yield _used(spec, "text", 128, 16, 300, judged=1024, rate=6e-3)
        yield _used(spec, "hmm:100", 128, 16, 200, judged=1024, rate=6e-3)
    for spec in _specs(24, 1, 2):
        yield _recalls(spec, 65, 150)


def _gpu() -> Iterator[Case]:
    """About 10 million parameters, as the models that the published contexts are of; the Transformer's recall does not fit."""
    lstm, transformer = _specs_on_gpu(768, 2)
    for spec in (lstm, transformer):
        yield _used(spec, "text", 1024, 16, 400, judged=512, rate=2e-3)
        yield _used(spec, "hmm:300", 1024, 16, 110, judged=512, rate=2e-3)
    yield _recalls(lstm, 513, 300)


def _at(label: str, cell: str, more: str) -> tuple[str, str]:
    return label, f"probe=context,cell={cell},{more}"


LSTM_TEXT, LSTM_RULER = _at("LSTM on text", "lstm_stack", "source=text"), _at("LSTM on HMM", "lstm_stack", "source!=text")
TRANSFORMER_TEXT = _at("Transformer on text", "transformer", "source=text")
TRANSFORMER_RULER = _at("Transformer on HMM", "transformer", "source!=text")
CLAIMS = (
    Claim(
        "c-truncation",
        "An LSTM's loss is more than 1 % of perplexity worse with fewer than hundreds of tokens of context (100 to 1000).",
        (
            Test(
                "context_within_percent",
                low=100.0,
                high=1000.0,
                effect=150,
                spread=11,
                basis="published",
            ),
        ),
        (LSTM_TEXT,),
        "150 (PTB), 250 (WikiText)",
        "Khandelwal et al. 2018",
        "context",
    ),
    Claim(
        "c-relative",
        "An LSTM's relative effective context length is in the hundreds (100 to 1000).",
        (
            Test(
                "lstm_relative_context",
                low=100.0,
                high=1000.0,
                effect=300,
                spread=141,
                basis="published",
            ),
        ),
        (("LSTM beside a Transformer, on text", "probe=context,source=text"),),
        "400 / 300 / 200 for the hardest tenth, half, all",
        "Dai et al. 2019, table 8",
        "context",
    ),
    Claim(
        "c-plateau",
        "Nine tenths of what an LSTM gains from context it has by the hundredth token.",
        (Test("context_for_nine_tenths", low=0.0, high=100.0, effect=4.2, spread=0.52, basis="an earlier run"),),
        (LSTM_TEXT, LSTM_RULER),
        "plateau before 100 tokens",
        "Kaplan et al. 2020, figure 7",
        "context",
    ),
    Claim(
        "c-ruler",
        "Where the answer is known, the context for nine tenths of the gain is read off within a factor of two.",
        (Test("nine_tenths_over_truth", low=0.5, high=2.0, effect=0.966, spread=0.037, basis="an earlier run"),),
        (LSTM_RULER, TRANSFORMER_RULER),
        figure="context",
    ),
)
CASES: dict[Scale, tuple[Case, ...]] = {
    "smoke": (
        *(_used(spec, "hmm:20", 16, 2, 6, judged=8, rate=6e-3) for spec in _specs(20, 1, 2)),
        _recalls(_specs(20, 1, 2)[0], 17, 5),
    ),
    "quick": (),
    "cpu": tuple(_cpu()),
    "gpu": tuple(_gpu()),
}
STUDY = Study(
    question="How many tokens back does a trained model make use of, and do six ways of asking agree?",
    claim="LSTMs handle contexts in the hundreds of tokens, then attenuate.",
    cases=CASES,
    measure=measure,
    select_backends=select_backends,
    claims=CLAIMS,
    trains=True,
    forecast=forecast,
)
