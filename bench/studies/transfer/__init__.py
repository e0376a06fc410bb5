"""Whether frozen layers of a bidirectional language model help a tagger with few labels, and which layer carries what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.harness.case import Case
from bench.harness.study import REFERENCE, Scale, Study
from impls import LSTMSpec
from impls.specs.residual import Device
from results.claims import Claim, Test
from results.record import Measurement

TAGS = ("class", "topic")  # of bench.studies.transfer.language


def measure(backend: str, case: Case) -> Iterator[Measurement]:
    """The framework is imported in the worker alone."""
    from bench.studies.transfer import learning

    yield from learning.measure(case)


# Of an update: Adam, readout and drawing; of each step of a layer, launches of small kernels both ways; and of each value of
# the gates. CPU: rounded from a run on one core of an AMD EPYC; CUDA: estimated, no GPU has run it.
UPDATE_SECONDS: dict[Device, float] = {"cpu": 4e-3, "cuda": 1e-2}
STEP_SECONDS: dict[Device, float] = {"cpu": 1.2e-4, "cuda": 3e-4}
VALUE_SECONDS: dict[Device, float] = {"cpu": 5e-9, "cuda": 4e-11}
TAGGINGS = 3  # numbers of labels
TAGGERS = 1.5  # in updates of the language model: one reads the frozen layers forwards alone, one has a single layer


def forecast(case: Case) -> float:
    """Seconds of the language model's training and of six taggers'."""
    device, spec = case.spec.device, case.spec
    values = 2 * int(case.factor("seeds")) * case.batch * 4 * spec.hidden_size
    a_step = STEP_SECONDS[device] + VALUE_SECONDS[device] * values
    update = UPDATE_SECONDS[device] + spec.num_layers * case.steps * a_step
    return 1 + update * (int(case.factor("pretraining")) + TAGGINGS * TAGGERS * int(case.factor("updates")))


def select_backends(case: Case, backends: Sequence[str]) -> tuple[str, ...]:
    """Trained by the study's own code, once."""
    return (REFERENCE,)


def _case(
    tag: str, *, hidden: int = 32, steps: int = 24, batch: int = 32, seeds: int = 5, fewest: int = 100, pretraining: int,
    updates: int, rate: float = 0.01, device: Device = "cpu",
) -> Case:  # fmt: skip
    """seed 1: a pilot with seed 0 chose the budgets, and its networks and labels are not those that the rules judge;
    the sentences of the test are the same.

    pretraining: updates of the language model. fewest: labelled sentences of the smallest set; the others have 10 and 100 times
    as many.
    """
    factors = (
        ("tag", tag), ("fewest", fewest), ("seeds", seeds), ("pretraining", pretraining), ("updates", updates), ("rate", rate),
        ("linear_rate", 0.03), ("scratch_layers", 1),
    )  # fmt: skip
    spec = LSTMSpec(hidden, hidden, 2, device=device)
    return Case(spec, steps, batch, "forward_backward", seed=1, factors=factors)


CASES: dict[Scale, tuple[Case, ...]] = {
    "smoke": (_case("topic", hidden=4, steps=5, batch=4, seeds=3, fewest=5, pretraining=3, updates=12),),
    "quick": (),
    "cpu": tuple(_case(tag, pretraining=1500, updates=400) for tag in TAGS),
    "gpu": tuple(
        _case(tag, hidden=256, steps=32, batch=64, pretraining=5000, updates=600, rate=0.003, device="cuda") for tag in TAGS
    ),
}  # fmt: skip

ELMO = "Peters et al. 2018"
SETTINGS = tuple((tag, f"study=transfer,tag={tag}") for tag in TAGS)
CLASS, TOPIC = SETTINGS
CLAIMS = (
    Claim(
        "g-transfer-few",
        "With few labels, 100 sentences, a linear tagger on the frozen layers of a bidirectional language model has a lower "
        "loss than an LSTM in both directions trained from scratch.",
        (Test("transfer_gain_fewest", low=0.0, effect=0.198, spread=0.041, basis="a pilot"),),
        SETTINGS,
        "improvements are largest for smaller training sets",
        f"{ELMO}, section 5.4",
        "transfer",
    ),
    Claim(
        "g-transfer-tenfold",
        "… lower even than from scratch with ten times as many labels.",
        (Test("transfer_gain_tenfold", low=0.0, effect=0.0052, spread=0.013, basis="a pilot"),),
        SETTINGS,
        "1 % of the training set with ELMo about as good as 10 % without",
        f"{ELMO}, section 5.4, semantic roles",
        "transfer",
    ),
    Claim(
        "g-transfer-many",
        "… and with many labels, 10 000 sentences, still.",
        (Test("transfer_gain_most", low=0.0, effect=-0.008, spread=0.013, basis="a pilot"),),
        SETTINGS,
        "all six tasks improve with all of their labels, where an LSTM reads the features",
        f"{ELMO}, table 1",
        "transfer",
    ),
    Claim(
        "g-layer-class",
        "The first layer carries what is local: a linear probe of it tells a word's class with a lower loss than one of the "
        "second layer.",
        (Test("second_less_first_layer", low=0.0, effect=-0.154, spread=0.0078, basis="a pilot"),),
        (CLASS,),
        "parts of speech: first layer 97.3 %, second 96.8 %",
        f"{ELMO}, table 6",
        "probes",
    ),
    Claim(
        "g-layer-topic",
        "The second layer carries what lasts: a linear probe of it tells a word's topic with a lower loss than one of the "
        "first layer.",
        (Test("first_less_second_layer", low=0.0, effect=0.047, spread=0.0154, basis="a pilot"),),
        (TOPIC,),
        "word senses: second layer F1 69.0, first 67.4",
        f"{ELMO}, table 5",
        "probes",
    ),
    Claim(
        "g-mix",
        "A learned mix of all layers tags with a lower loss than the best single layer.",
        (Test("best_layer_less_mix", low=0.0, effect=-0.0041, spread=0.0011, basis="an earlier run"),),
        SETTINGS,
        "SQuAD: all layers with learned weights F1 0.5 above the last alone",
        f"{ELMO}, section 5.1",
        "probes",
    ),
)
STUDY = Study(
    question="How much do frozen features of a language model help a tagger with few labels, and which layer carries what?",
    claim="A bidirectional language model's layers, frozen, are features from which few labels suffice.",
    cases=CASES,
    measure=measure,
    select_backends=select_backends,
    claims=CLAIMS,
    reuse_worker=True,
    forecast=forecast,
)
