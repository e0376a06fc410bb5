"""What networks that descend from the LSTM can and cannot learn: parity, the group S5, associative recall, selective copy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.harness.case import Case
from bench.harness.study import REFERENCE, Scale, Study
from impls import Spec
from impls.specs.residual import Device, LSTMStackSpec, MinLSTMSpec, SSMSpec, TransformerSpec
from results.claims import Claim, Test
from results.record import Measurement

NAMES = {
    "lstm": "LSTM", "slstm": "sLSTM", "mlstm": "mLSTM", "minlstm": "minLSTM", "s4d": "S4D", "mamba": "Mamba",
    "transformer": "Transformer",
}  # fmt: skip
RECURRENT_WEIGHTS = ("lstm", "slstm")  # the others compute their states from inputs alone, all steps at once
STATES = 8  # N of S4D and Mamba; 16 in their papers


def measure(backend: str, case: Case) -> Iterator[Measurement]:
    """The framework is imported in the worker alone."""
    from bench.studies.descendants import learning

    yield from learning.measure(case)


# Of one layer and update: launches of small kernels, and work a token and unit of width, both ways. CPU: rounded from a run on
# one core of an AMD EPYC; CUDA: estimated, no GPU has run it.
UPDATE_SECONDS = {"cpu": 1e-3, "cuda": 3e-3}
VALUE_SECONDS = {"cpu": 5e-8, "cuda": 1e-10}
MAMBA_VALUE_SECONDS = {"cpu": 2e-7, "cuda": 1e-9}  # N states each
STEP_SECONDS = {"cpu": 1e-4, "cuda": 3e-4}  # of an sLSTM, whose steps run one by one in Python


def forecast(case: Case) -> float:
    """Seconds of all trainings of a case."""
    device, name = case.spec.device, str(case.factor("network"))
    trained = len(str(case.factor("rates")).split("/")) + int(case.factor("seeds")) - 1
    a_value = (MAMBA_VALUE_SECONDS if name == "mamba" else VALUE_SECONDS)[device]
    steps = int(case.factor("size")) * (2 if case.factor("task") == "recall" else 1)
    update = UPDATE_SECONDS[device] + a_value * steps * case.batch * case.spec.hidden_size
    update += STEP_SECONDS[device] * steps * (name == "slstm")
    return 0.3 + trained * int(case.factor("updates")) * case.spec.num_layers * update


def select_backends(case: Case, backends: Sequence[str]) -> tuple[str, ...]:
    """Trained by the study's own code, once."""
    return (REFERENCE,)


def _spec(network: str, width: int, layers: int, device: Device) -> Spec:
    """The spec of a network's sizes. sLSTM and mLSTM are no cells of `impls`: their case has an LSTM stack's."""
    if network == "transformer":
        return TransformerSpec(width, width, layers, num_heads=2, device=device)
    if network == "minlstm":
        return MinLSTMSpec(width, width, layers, device=device)
    if network in ("s4d", "mamba"):
        return SSMSpec(width, width, layers, state_size=STATES, device=device)
    return LSTMStackSpec(width, width, layers, device=device)


def _cases(
    task: str, networks: Sequence[str], widths: Sequence[int], size: int, updates: int, *, steps: int = 0, layers: int = 1,
    rates: str = "0.01", seeds: int = 3, batch: int = 32, device: Device = "cpu",
) -> Iterator[Case]:  # fmt: skip
    """size: steps trained on, or pairs to recall. steps: tested on, where they are more."""
    for network in networks:
        for width in widths:
            factors = (
                ("network", network), ("task", task), ("size", size), ("seeds", seeds), ("updates", updates), ("rates", rates),
            )  # fmt: skip
            yield Case(_spec(network, width, layers, device), steps or size, batch, "forward_backward", factors=factors)


EVERY = tuple(NAMES)
COUNTED = ("lstm", "slstm", "minlstm", "s4d", "mamba", "transformer")  # S5
RECALLING = ("lstm", "minlstm", "mlstm", "s4d", "mamba", "transformer")
COPYING = ("lstm", "minlstm", "s4d", "mamba", "transformer")
CASES: dict[Scale, tuple[Case, ...]] = {
    "smoke": (
        *_cases("parity", ("lstm", "mamba"), (8,), 4, 3, steps=8, batch=4),
        *_cases("recall", ("lstm", "mlstm"), (8,), 2, 3, batch=4),
    ),
    "quick": (),
    "cpu": (
        *_cases("parity", EVERY, (32,), 16, 200, steps=64, rates="0.003/0.01"),
        *_cases("s5", COUNTED, (48,), 12, 800, steps=48),
        *_cases("recall", RECALLING, (16, 32, 64), 8, 300),
        *_cases("selective_copy", COPYING, (32,), 16, 300, layers=2, rates="0.003/0.01"),
    ),
    "gpu": (
        *_cases("parity", EVERY, (64,), 40, 400, steps=256, rates="0.003/0.01", seeds=5, batch=256, device="cuda"),
        *_cases("s5", COUNTED, (128,), 24, 1500, steps=96, batch=256, device="cuda"),
        *_cases("recall", RECALLING, (32, 64, 128), 24, 800, batch=256, device="cuda"),
        *_cases("selective_copy", COPYING, (64,), 64, 800, layers=2, rates="0.003/0.01", batch=256, device="cuda"),
    ),
}


def _at(task: str, network: str) -> tuple[str, str]:
    return NAMES[network], f"study=descendants,task={task},network={network}"


GRAZZI = "Grazzi et al. 2025, figure 1: trained to 40 steps, tested to 256"
MERRILL = "Merrill, Petty & Sabharwal 2024"
CLAIMS = (
    Claim(
        "j-parity",
        "A network with recurrent weights learns parity so that it is right on sequences up to four times as long as those it "
        "was trained on (more than 0.9 of answers beyond them).",
        (Test("accuracy_beyond_training", low=0.9, effect=1.0, spread=0.01, basis="an earlier run"),),
        tuple(_at("parity", name) for name in RECURRENT_WEIGHTS),
        "LSTM 0.9 or more from 40 to 256 steps",
        "Delétang et al. 2023",
        "by_length",
    ),
    Claim(
        "j-parity-parallel",
        "Networks that compute their states from inputs alone, all steps at once, do not: beyond them they guess (below 0.6).",
        (
            Test(
                "accuracy_beyond_training",
                high=0.6,
                effect=0.5,
                spread=0.0024,
                basis="published",
            ),
        ),
        tuple(_at("parity", name) for name in EVERY if name not in RECURRENT_WEIGHTS),
        "random guessing without negative eigenvalues",
        GRAZZI,
        "by_length",
    ),
    Claim(
        "j-group",
        "One layer with recurrent weights multiplies permutations of five points (S5): more than 0.9 right after as many as it "
        "was trained on.",
        (Test("accuracy_at_trained_length", low=0.9, effect=0.947, spread=0.0126, basis="an earlier run"),),
        tuple(_at("s5", name) for name in RECURRENT_WEIGHTS),
        "one layer of an RNN at every length",
        MERRILL,
        "by_length",
    ),
    Claim(
        "j-group-parallel",
        "One layer of a network without recurrent weights does not: less than 0.9.",
        (Test("accuracy_at_trained_length", high=0.9, effect=0.0176, spread=0.008, basis="an earlier run"),),
        tuple(_at("s5", name) for name in COUNTED if name not in RECURRENT_WEIGHTS),
        "S4, Mamba and Transformers need more layers for longer sequences",
        MERRILL,
        "by_length",
    ),
    Claim(
        "j-recall",
        "Over networks and widths, the more bytes of state, the more of the pairs are recalled (rank correlation above 0.5).",
        (Test("recall_rank_correlation", low=0.5, effect=0.77, spread=0.5, basis="an earlier run"),),
        (("every network and width", "study=descendants,task=recall"),),
        "recall grows with the state",
        "Arora et al. 2024 (Zoology), figure 2",
        "recall",
    ),
    Claim(
        "j-recall-width",
        "A network recalls more of the pairs with four times the width.",
        (Test("recall_gain_with_width", low=0.0, effect=0.051, spread=0.0175, basis="an earlier run"),),
        tuple(_at("recall", name) for name in RECALLING if name != "transformer"),
        "recall grows with the state",
        "Arora et al. 2024 (Zoology), figure 2",
        "recall",
    ),
    Claim(
        "j-selection",
        "A network whose steps depend on the input copies the symbols among blanks better than a time-invariant one (S4D).",
        (Test("lead_over_s4d", low=0.0, effect=0.787, spread=0.089, basis="published"),),
        tuple(
            (NAMES[name], f"study=descendants,task=selective_copy,network=s4d|{name}") for name in ("mamba", "minlstm", "lstm")
        ),
        "S6 97.0 %, S4 18.3 %",
        "Gu & Dao 2023, table 1",
        "recall",
    ),
)
STUDY = Study(
    question="What can the networks that descend from the LSTM not learn that it can, and the other way round?",
    claim="State-space models, xLSTM and minLSTM gave up recurrent weights: they recall more and no longer track states.",
    cases=CASES,
    measure=measure,
    select_backends=select_backends,
    claims=CLAIMS,
    reuse_worker=True,
    forecast=forecast,
)
