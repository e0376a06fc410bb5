"""Whether single units of an LSTM carry agreement over a distance: generated languages, ablation, and the unit's gates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.harness.case import Case
from bench.harness.study import REFERENCE, Scale, Study
from impls import LSTMSpec
from impls.specs.residual import Device
from results.claims import Claim, Test
from results.record import Measurement

VOCABULARY = 32  # of bench.studies.agreement.languages, which imports more than a list of cases should
OBJECTIVES = {"form": "asked for the verb's form", "next_token": "language model"}


def measure(backend: str, case: Case) -> Iterator[Measurement]:
    """The framework is imported in the worker alone."""
    from bench.studies.agreement import learning

    yield from learning.measure(case)


# Of an update and step, launches of small kernels both ways, and of each value of the gates; a language model also predicts at
# every step. CPU: rounded from a run on one core of an AMD EPYC; CUDA: estimated, no GPU has run it.
STEP_SECONDS = {"cpu": 1.2e-4, "cuda": 3e-4}
VALUE_SECONDS = {"cpu": 7e-9, "cuda": 4e-11}
UPDATE_SECONDS = {"cpu": 5e-4, "cuda": 5e-3}  # the sentences are drawn on the CPU in any case
TESTED_SENTENCES = 1000  # of the ablation
SHUFFLING_SECONDS = 2.5e-2  # of the null of random units, a seed and unit


def forecast(case: Case) -> float:
    """Seconds of training, and of reading the sentences once for each unit."""
    device, seeds, units = case.spec.device, int(case.factor("seeds")), case.spec.hidden_size
    values = seeds * case.batch * 4 * units
    a_step = STEP_SECONDS[device] + VALUE_SECONDS[device] * values * (2 if case.factor("objective") == "next_token" else 1)
    training = int(case.factor("updates")) * (UPDATE_SECONDS[device] + case.steps * a_step)
    once = case.steps * (STEP_SECONDS[device] + VALUE_SECONDS[device] * seeds * TESTED_SENTENCES * 4 * units / 3)
    return 1 + training + units * once + SHUFFLING_SECONDS * seeds * units / 10


def select_backends(case: Case, backends: Sequence[str]) -> tuple[str, ...]:
    """Trained by the study's own code, once."""
    return (REFERENCE,)


def _case(
    language: str, objective: str, *, hidden: int = 32, steps: int = 21, batch: int = 32, seeds: int = 10, updates: int,
    rate: float, device: Device = "cpu",
) -> Case:  # fmt: skip
    """seed 1: a pilot with seed 0 chose the budgets, and its networks and sentences are not those that the rules judge."""
    factors = (
        ("language", language), ("objective", objective), ("init", "forget:1"), ("seeds", seeds), ("updates", updates),
        ("rate", rate),
    )  # fmt: skip
    spec = LSTMSpec(VOCABULARY, hidden, device=device)
    return Case(spec, steps, batch, "forward_backward", seed=1, factors=factors)


LANGUAGES = ("number", "gender")
CASES: dict[Scale, tuple[Case, ...]] = {
    "smoke": (
        _case("gender", "form", hidden=4, steps=11, batch=4, seeds=3, updates=3, rate=0.01),
        _case("number", "next_token", hidden=4, steps=11, batch=4, seeds=3, updates=3, rate=0.02),
    ),
    "quick": (),
    "cpu": (
        *(_case(language, "next_token", updates=3000, rate=0.02) for language in LANGUAGES),
        *(_case(language, "form", updates=400, rate=0.01) for language in LANGUAGES),
    ),
    "gpu": tuple(
        _case(language, objective, hidden=256, steps=41, batch=64, updates=updates, rate=0.005, device="cuda")
        for objective, updates in (("next_token", 6000), ("form", 2000))
        for language in LANGUAGES
    ),
}  # fmt: skip


def _settings() -> tuple[tuple[str, str], ...]:
    return tuple(
        (f"{language}, {label}", f"study=agreement,language={language},objective={objective}")
        for objective, label in reversed(OBJECTIVES.items())
        for language in LANGUAGES
    )


LAKRETZ = "Lakretz et al. 2019"
LINZEN = "Linzen, Dupoux & Goldberg 2016"
CLAIMS = (
    Claim(
        "h-agreement",
        "An LSTM learns agreement over 1 to 20 words and up to three attractors to within a hundredth of the best accuracy "
        "that the language allows.",
        (Test("accuracy_below_best", high=0.01, effect=0.0005, spread=0.00092, basis="a pilot"),),
        _settings(),
        "less than 1 % errors where the number is asked for",
        LINZEN,
        "agreement",
    ),
    Claim(
        "h-attractors",
        "Attractors cost accuracy while agreement is learnt: after half of the updates, over the same distances, it is lower "
        "by more than 0.001 with three nouns of the other feature between subject and verb than with none.",
        (Test("attractor_cost_halfway", low=0.001, effect=0.236, spread=0.243, basis="a pilot"),),
        _settings(),
        "errors increase when sequential and structural information conflict",
        LINZEN,
        "agreement",
    ),
    Claim(
        "h-unit",
        "Agreement depends on one unit: without it accuracy over a long distance with attractors falls by 0.01 more than "
        "without any unit, were units interchangeable (the 5 % point of the maximum over all units).",
        (Test("unit_loss_beyond_null", low=0.01, effect=0.271, spread=0.293, basis="a pilot"),),
        _settings(),
        "two number units, in a network of 2 × 650",
        LAKRETZ,
        "units",
    ),
    Claim(
        "h-unit-distance",
        "… over long distances alone: the same unit costs 0.01 more than the null allows there, and less than 0.05 at a "
        "distance of one or two.",
        (
            Test("unit_loss_beyond_null", low=0.01, effect=0.271, spread=0.293, basis="a pilot"),
            Test("unit_loss_near", high=0.05, effect=0.013, spread=0.041, basis="a pilot"),
        ),
        _settings(),
        "a distributed mechanism where subject and verb are close",
        LAKRETZ,
        "units",
    ),
    Claim(
        "h-unit-share",
        "Such a unit is found in more than half of the networks.",
        (Test("networks_with_unit", low=0.5, effect=0.9, spread=0.316, basis="a pilot"),),
        _settings(),
        "one plural unit in an LSTM trained on Dutch, too",
        "Wong, bachelor's thesis, University of Amsterdam",
        "units",
    ),
    Claim(
        "h-store",
        "One unit stores the feature: without it accuracy over a long distance falls by 0.01 more than the null allows also "
        "where there is no attractor.",
        (Test("store_loss_beyond_null", low=0.01, effect=0.5, spread=0.169, basis="published"),),
        _settings(),
        "two number units, in a network of 2 × 650",
        LAKRETZ,
        "units",
    ),
    Claim(
        "h-gates",
        "Where there is a unit that stores, its gates select: its input gate opens more at the subject than at attractors, and "
        "its forget gate stays above 0.95 in between.",
        (
            Test("input_gate_contrast", low=0.0, effect=0.34, spread=0.272, basis="a pilot"),
            Test("forget_gate_between", low=0.95, effect=0.98, spread=0.017, basis="an earlier run"),
        ),
        _settings(),
        "number units are partly controlled by units that track syntax",
        LAKRETZ,
        "gates",
    ),
)
STUDY = Study(
    question="Do single units of an LSTM carry a word's number or gender to the verb that must agree with it?",
    claim="Gates are capacity, not instruction: a cell's dimension comes to store grammatical gender.",
    cases=CASES,
    measure=measure,
    select_backends=select_backends,
    claims=CLAIMS,
    reuse_worker=True,
    forecast=forecast,
)
