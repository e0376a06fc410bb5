"""Whether what descends from the LSTM is one with parts removed: both sides of each identity, run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.harness.case import Case
from bench.harness.study import REFERENCE, Scale, Study
from impls import LSTMSpec
from results.claims import Claim, Test
from results.record import Measurement


def measure(backend: str, case: Case) -> Iterator[Measurement]:
    """Imported in the worker alone: it needs PyTorch."""
    from bench.studies.identities import residuals

    yield from residuals.measure(case)


def select_backends(case: Case, backends: Sequence[str]) -> tuple[str, ...]:
    return (REFERENCE,)


def _case(identity: str, steps: int, seeds: int) -> Case:
    return Case(LSTMSpec(5, 32, dtype="float64"), steps, 3, factors=(("identity", identity), ("seeds", seeds)))


# Of each: what it is, with which parts taken away, and where that is written.
DESCENDANTS = {
    "minlstm": ("A minLSTM", "without recurrent weights, its gates normalised, its candidate linear", "Feng et al. 2024, 3.2"),
    "state_space": (
        "A selective state space of one state",
        "reduced to one gate that forgets and writes",
        "Gu & Dao 2023, theorem 1",
    ),
    "slstm": ("An sLSTM without exponential gate and normaliser", "and nothing more", "Beck et al. 2024, 2.2"),
}
CASES: dict[Scale, tuple[Case, ...]] = {
    "smoke": (_case("minlstm", 20, 1),),
    "quick": (),
    "cpu": tuple(_case(name, 200, 5) for name in DESCENDANTS),
    "gpu": (),
}
CLAIMS = tuple(
    Claim(
        f"j-{name.replace('_', '-')}",
        f"{what} is an LSTM {how}: their states differ by less than a millionth; otherwise by over a hundredth.",
        (
            Test("identity_error", low=0.0, high=1e-6, effect=1e-15, spread=0),
            Test("identity_contrast", low=1e-2, effect=0.26, spread=0),
        ),
        (("float64, five seeds", f"study=identities,identity={name}"),),
        "an identity",
        source,
    )
    for name, (what, how, source) in DESCENDANTS.items()
)
STUDY = Study(
    question="Is what descends from the LSTM an LSTM with parts removed?",
    claim="minLSTM, gated state spaces and sLSTM are LSTMs with parts removed.",
    cases=CASES,
    measure=measure,
    select_backends=select_backends,
    forecast=lambda case: 1.0 + 2e-4 * case.steps * int(case.factor("seeds")),
    claims=CLAIMS,
    reuse_worker=True,
)
