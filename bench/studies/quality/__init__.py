"""What a model's size, operations, tokens and time buy in loss, for an LSTM and a Transformer of as many parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench import costs
from bench.harness.case import Case
from bench.harness.study import REFERENCE, Scale, Study
from bench.studies.matching import Match, by_parameters
from impls import Spec
from impls.specs.residual import LSTMStackSpec, TransformerSpec
from results.claims import Claim, Test
from results.record import Measurement


def measure(backend: str, case: Case) -> Iterator[Measurement]:
    """The framework is imported in the worker alone."""
    from bench.studies.quality import losses

    yield from losses.measure(case)


def forecast(case: Case) -> float:
    """Seconds of all trainings of a case, their curves, and the last judging."""
    trained = len(str(case.factor("rates")).split("/")) + int(case.factor("seeds")) - 1
    looks = costs.POINTS * trained + int(case.factor("seeds"))
    seconds = trained * int(case.factor("updates")) * costs.update_seconds(case, case.steps, case.batch)
    seconds += looks * costs.judging_seconds(case, case.steps, int(case.factor("judged")))
    return costs.START_SECONDS_TRAINING[case.spec.device] + seconds


def select_backends(case: Case, backends: Sequence[str]) -> tuple[str, ...]:
    """Trained by the study's own code: no backend's interface has an embedding, a head and an optimiser."""
    return (REFERENCE,)


def _pair(
    size: str, models: tuple[Match, Spec], steps: int, batch: int, updates: int, *, judged: int, rates: str, source: str,
    seeds: int = 3,
) -> Iterator[Case]:  # fmt: skip
    """Both architectures with as many parameters, embedding and head not counted; everything else alike.

    size: small, middle or large at the case's scale: what a rule may name whatever the scale.
    models: one of them, matched to the other.
    """
    match, like = models
    factors = (
        ("probe", "quality"), ("source", source), ("size", size), ("seeds", seeds), ("updates", updates),
        ("judged", judged), ("rates", rates),
    )  # fmt: skip
    for spec in sorted((like, match.spec), key=lambda spec: spec.cell, reverse=True):
        yield Case(spec, steps, batch, "forward_backward", factors=(*factors, *match.factors))


def _by_transformer(width: int, layers: int, heads: int) -> tuple[Match, Spec]:
    """A Transformer of this width, and the LSTM that is matched to it."""
    transformer = TransformerSpec(width, width, layers, num_heads=heads)
    return by_parameters(LSTMStackSpec(width, width, layers), transformer), transformer


def _by_lstm(width: int, layers: int) -> tuple[Match, Spec]:
    """On a GPU: an LSTM of a width that its kernels like, and the Transformer that is matched to it."""
    lstm = LSTMStackSpec(width, width, layers, device="cuda")
    return by_parameters(TransformerSpec(width, width, layers, device="cuda"), lstm), lstm


def _cpu() -> Iterator[Case]:
    rates = "0.006/0.012/0.024"
    for size, width, layers, heads in (("large", 64, 2, 4), ("middle", 52, 1, 2), ("small", 20, 2, 2)):
        yield from _pair(size, _by_transformer(width, layers, heads), 128, 16, 200, judged=256, rates=rates, source="text")
    for source in ("copy:32", "hmm:100"):
        yield from _pair("middle", _by_transformer(28, 2, 2), 128, 16, 150, judged=256, rates="0.006", source=source)


def _gpu() -> Iterator[Case]:
    rates = "0.001/0.002/0.004"
    for size, width in (("large", 768), ("middle", 256), ("small", 64)):
        yield from _pair(size, _by_lstm(width, 2), 512, 64, 220, judged=512, rates=rates, source="text")
    for source in ("copy:256", "hmm:100"):
        yield from _pair("middle", _by_lstm(256, 2), 512, 64, 220, judged=512, rates="0.002", source=source)


KAPLAN = "Kaplan et al. 2020, section 3.2.1 and figure 7"
SETTINGS = tuple((f"{size} on text", f"probe=quality,source=text,size={size}") for size in ("small", "middle", "large"))
CLAIMS = (
    Claim(
        "i-parameters",
        "A Transformer reaches a lower loss on text than an LSTM of as many parameters after as many tokens.",
        (Test("loss_gap", low=0.0, effect=-0.153, spread=0.023, basis="an earlier run"),),
        SETTINGS,
        "Transformers asymptotically outperform LSTMs",
        KAPLAN,
        "quality",
    ),
    Claim(
        "i-late-tokens",
        "Early in a window an LSTM does as well (within 0.05 nat); what it is worse by, it is worse by later.",
        (
            Test("early_gap", high=0.05, effect=0.0, spread=0.031, basis="published"),
            Test("late_gap", low=0.0, effect=-0.16, spread=0.022, basis="an earlier run"),
        ),
        SETTINGS,
        "as good early, worse from 100 tokens on; seeds differ by 0.05 nat",
        KAPLAN,
        "by_index",
    ),
    Claim(
        "i-time",
        "After as many seconds of training a Transformer's loss is lower than an LSTM's of as many parameters.",
        (Test("loss_gap_at_equal_time", low=0.0, effect=-0.4, spread=0.027, basis="an earlier run"),),
        SETTINGS,
        "28.4 against 26.3 BLEU at an eighth of the operations",
        "Vaswani et al. 2017, table 2",
        "quality",
    ),
    Claim(
        "i-copies",
        "Where a lag must be found out and copied from, a Transformer comes closer to the optimum than an LSTM.",
        (Test("loss_gap", low=0.0, effect=0.815, spread=0.054, basis="an earlier run"),),
        (("copy mixture", "probe=quality,source!=text,source!=hmm:100"),),
        figure="by_index",
    ),
)
CASES: dict[Scale, tuple[Case, ...]] = {
    "smoke": tuple(_pair("small", _by_transformer(20, 1, 2), 16, 2, 6, judged=8, rates="0.003/0.01", source="copy:8")),
    "quick": (),
    "cpu": tuple(_cpu()),
    "gpu": tuple(_gpu()),
}
STUDY = Study(
    question="What do parameters, operations, tokens and seconds buy in loss, and where in a window does the difference lie?",
    claim="Transformers displaced LSTMs because they train in parallel and make more of a long context.",
    cases=CASES,
    measure=measure,
    select_backends=select_backends,
    claims=CLAIMS,
    trains=True,
    forecast=forecast,
)
