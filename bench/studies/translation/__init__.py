"""Sequence to sequence: what reversing the source, depth and attention do for a pair of LSTMs, and how long sources may be."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from bench.harness.case import Case, Factor
from bench.harness.study import REFERENCE, Scale, Study
from bench.studies.matching import TOLERANCE, match
from impls import LSTMSpec, Spec
from impls.specs.residual import Device, TransformerSpec
from results.claims import Claim, Test
from results.record import Measurement

NAMES = {"lstm": "LSTM", "attention": "LSTM with attention", "transformer": "Transformer"}
TASKS = ("grammar", "copy", "reverse", "sort")
ORDERS = ("forwards", "backwards")  # in which the source is read
DEPTHS = (1, 2, 3, 4)
MATCHED = {
    "cpu": TOLERANCE["cpu"],
    "cuda": 0.03,
}  # by how much parameters may differ: widths on a GPU are in multiples of 8 or 64


def measure(backend: str, case: Case) -> Iterator[Measurement]:
    """The framework is imported in the worker alone."""
    from bench.studies.translation import learning

    yield from learning.measure(case)


def parameters(network: str, spec: Spec) -> int:
    """Of encoder and decoder, and of the attention between them; without embeddings and readout, which are the task's."""
    width, layers = spec.hidden_size, spec.num_layers
    if isinstance(spec, TransformerSpec):
        attention, norm = 4 * width * (width + 1), 2 * width
        forward = spec.inner_size * (2 * width + 1) + width
        return layers * (3 * attention + 2 * forward + 5 * norm) + 2 * norm
    return 2 * spec.parameter_count() + (3 * width * width if network == "attention" else 0)


# Seconds of a layer's launches in an update, with a share of the test; of Adam and of drawing; of one operation. CPU: rounded
# from trainings on one core of an AMD EPYC; CUDA: estimated, no GPU has run it.
LAYER_SECONDS: dict[Device, dict[str, float]] = {
    "cpu": {"lstm": 5e-4, "attention": 1e-3, "transformer": 5e-3},
    "cuda": {"lstm": 2.5e-3, "attention": 3.5e-3, "transformer": 5e-3},
}
UPDATE_SECONDS: dict[Device, float] = {"cpu": 3e-4, "cuda": 2e-3}
OPERATION_SECONDS: dict[Device, float] = {"cpu": 1.5e-11, "cuda": 1e-13}


def forecast(case: Case) -> float:
    """Seconds of all trainings of a case."""
    device, network, spec = case.spec.device, str(case.factor("network")), case.spec
    operations = 6 * parameters(network, spec) * case.batch * int(case.factor("size"))
    update = UPDATE_SECONDS[device] + spec.num_layers * LAYER_SECONDS[device][network] + operations * OPERATION_SECONDS[device]
    return 0.2 + int(case.factor("seeds")) * int(case.factor("updates")) * update


def select_backends(case: Case, backends: Sequence[str]) -> tuple[str, ...]:
    """Trained by the study's own code, once."""
    return (REFERENCE,)


def matched(network: str, like: LSTMSpec) -> tuple[Spec, tuple[tuple[str, Factor], ...]]:
    """The spec of a network with as many parameters as a pair of LSTMs of one layer has, and what a case says of it."""
    if network == "lstm":
        return like, ()
    spec: Spec = like
    if network == "transformer":
        layers = 1 if like.device == "cpu" else 2
        spec = TransformerSpec(like.input_size, like.hidden_size, layers, num_heads=2, device=like.device)
    found = match(spec, "parameters", lambda of: parameters(network, of), parameters("lstm", like), MATCHED[like.device])
    return found.spec, found.factors


def _case(
    probe: str, task: str, network: str, spec: Spec, more: tuple[tuple[str, Factor], ...] = (), *, order: str = "forwards",
    size: int, steps: int, updates: int, batch: int, seeds: int, rate: float,
) -> Case:  # fmt: skip
    """order: of the source as it is read. size: words trained on at most. steps: words tested on at most."""
    factors = (
        ("probe", probe), ("network", network), ("task", task), ("order", order), ("size", size), ("seeds", seeds),
        ("updates", updates), ("rate", rate), *more,
    )  # fmt: skip
    return Case(spec, steps, batch, "forward_backward", factors=factors)


def _cases(like: LSTMSpec, compared: Sequence[str], updates: tuple[int, int], **settings: Any) -> Iterator[Case]:
    """Every task in both orders; the other networks on the tasks on which they are compared; deeper and narrower LSTMs.

    updates: of these comparisons, and of those of depth.
    """
    for task, order in itertools.product(TASKS, ORDERS):
        yield _case("tasks", task, "lstm", like, order=order, updates=updates[0], **settings)
    for network, task in itertools.product(("attention", "transformer"), compared):
        yield _case("tasks", task, network, *matched(network, like), updates=updates[0], **settings)
    width = like.hidden_size // 2
    for layers in DEPTHS:
        spec = LSTMSpec(width, width, layers, device=like.device)
        yield _case("depth", "grammar", "lstm", spec, order="backwards", updates=updates[1], **settings)


_SMOKE: dict[str, Any] = {"size": 5, "steps": 6, "updates": 3, "batch": 4, "seeds": 3, "rate": 0.01}
COMPARED = ("grammar", "copy", "sort")
CASES: dict[Scale, tuple[Case, ...]] = {
    "smoke": (
        _case("tasks", "grammar", "lstm", LSTMSpec(8, 8), order="backwards", **_SMOKE),
        _case("tasks", "copy", "attention", *matched("attention", LSTMSpec(64, 64)), **_SMOKE),
        _case("tasks", "sort", "transformer", *matched("transformer", LSTMSpec(64, 64)), **_SMOKE),
    ),
    "quick": (),
    "cpu": tuple(_cases(LSTMSpec(64, 64), COMPARED, (400, 800), size=10, steps=20, batch=32, seeds=5, rate=0.01)),
    "gpu": tuple(
        _cases(LSTMSpec(256, 256, device="cuda"), TASKS, (900, 1200), size=24, steps=48, batch=128, seeds=3, rate=0.003)
    ),
}


def _at(task: str, network: str, order: str = "") -> str:
    return f"study=translation,probe=tasks,task={task},network={network}" + f",order={order}" * bool(order)


def _depths(low: int, high: int) -> str:
    return f"study=translation,probe=depth,num_layers>={low},num_layers<={high}"


SUTSKEVER = "Sutskever, Vinyals & Le 2014, section 3"
BAHDANAU = "Bahdanau, Cho & Bengio 2015, table 1: sentences of up to 50 words"
CLAIMS = (
    Claim(
        "g-reversed",
        "An LSTM without attention translates with a lower loss when it reads the source from its end.",
        (Test("reversal_gain", low=0.0, effect=0.21, spread=0.0105, basis="published"),),
        tuple((task, _at(task, "lstm")) for task in ("grammar", "copy")),
        "perplexity 5.8 to 4.7, which is 0.21 nat a word; BLEU 25.9 to 30.6",
        f"{SUTSKEVER}.3",
        "translation_length",
    ),
    Claim(
        "g-reversed-mirror",
        "Where the target begins with the source's last word, reading the source from its end raises the loss.",
        (Test("reversal_gain", high=0.0, effect=-0.112, spread=0.0115, basis="a pilot"),),
        (("reverse", _at("reverse", "lstm")),),
        figure="translation_length",
    ),
    Claim(
        "g-reversed-control",
        "Where the order of the source means nothing (sort), the order in which it is read changes the loss by less than 0.01 "
        "nat a word.",
        (Test("reversal_gain", low=-0.01, high=0.01, effect=0.0, spread=0.0003, basis="a pilot"),),
        (("sort", _at("sort", "lstm")),),
        figure="translation_length",
    ),
    Claim(
        "g-layers",
        "Each further layer of the same width, in encoder and decoder, lowers the loss.",
        (Test("layer_gain", low=0.0, effect=0.1, spread=0.0091, basis="published"),),
        tuple((f"{depth} layers against {depth - 1}", _depths(depth - 1, depth)) for depth in DEPTHS[1:]),
        "each layer lowered perplexity by nearly 10 %, which is 0.1 nat a word",
        f"{SUTSKEVER}.4",
        "translation_depth",
    ),
    Claim(
        "c-bottleneck",
        "Without attention the source's length is what limits an LSTM: at equal parameters attention translates more of the "
        "longest sources it was trained on, and gains more there than on the shortest.",
        (
            Test("attention_gain_longest", low=0.0, effect=0.264, spread=0.016, basis="a pilot"),
            Test("attention_gain_with_length", low=0.0, effect=0.264, spread=0.016, basis="a pilot"),
        ),
        tuple((task, _at(task, "lstm|attention")) for task in ("grammar", "copy")),
        "BLEU 17.82 without, 26.75 with attention",
        BAHDANAU,
        "translation_length",
    ),
    Claim(
        "c-beyond",
        "An LSTM without attention does not translate sources longer than those it was trained on: up to twice as long, less "
        "than half as many are right.",
        (Test("kept_beyond_training", high=0.5, effect=0.139, spread=0.021, basis="published"),),
        tuple((task, _at(task, "lstm", "backwards")) for task in COMPARED),
        "13.8 % right on longer targets, more than 99 % on those of trained length",
        "Lake & Baroni 2018, experiments 1 and 2 (SCAN), the best network over all experiments",
        "translation_length",
    ),
    Claim(
        "c-beyond-attention",
        "Nor do an LSTM with attention and a Transformer translate sources longer than those they were trained on: up to twice "
        "as long, less than half as many are right.",
        (Test("kept_beyond_training", high=0.5, effect=0.131, spread=0.021, basis="a pilot"),),
        tuple(
            (f"{NAMES[network]}, {task}", _at(task, network)) for network in ("attention", "transformer") for task in COMPARED
        ),
        figure="translation_length",
    ),
    Claim(
        "i-translation",
        "With as many parameters and updates a Transformer translates with a lower loss than an LSTM with attention.",
        (Test("transformer_gain", low=0.0, effect=0.006, spread=0.0046, basis="a pilot"),),
        tuple((task, _at(task, "attention|transformer")) for task in COMPARED),
        "BLEU 28.4 against 24.6, English to German, at different sizes",
        "Vaswani et al. 2017, table 2: Transformer (big), GNMT + RL",
        "translation_length",
    ),
)
STUDY = Study(
    question="What do reversing the source, depth and attention do for LSTMs that translate, and how long may a source be?",
    claim="A pair of LSTMs translates sequences; reversing the source, depth and attention make it translate better.",
    cases=CASES,
    measure=measure,
    select_backends=select_backends,
    claims=CLAIMS,
    reuse_worker=True,
    forecast=forecast,
)
