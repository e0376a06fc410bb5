"""How long a lag each cell can learn to bridge, by initialisation and task, and whether its decay length predicts it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from bench.harness.case import Case
from bench.harness.study import REFERENCE, Scale, Study
from bench.studies.horizon import tasks
from impls import GRUSpec, LSTMSpec, RNNSpec, Spec
from results.claims import Claim, Test
from results.record import Measurement

RNN_INITS = ("pytorch", "orthogonal", "gaussian:0.5", "gaussian:1.5", "irnn")
GRU_INITS = ("pytorch", "orthogonal")
LSTM_INITS = ("pytorch", "forget:1", "forget:3", "chrono:784")
FRAMEWORKS = ("keras", "flax", "tensorflow1", "jozefowicz")
TRUNCATIONS = (5, 10)
LONGEST_OF_OTHERS = 20  # tasks
LADDER = (5, 7, 10, 14, 20, 28, 40, 57, 80, 113)  # half an octave apart
# Updates and learning rate. Recall has the pilot's; adding and copy are not learnt at any lag with those.
BUDGETS = {"recall": (400, 3e-3), "temporal_order": (400, 3e-3), "adding": (800, 1e-2), "copy": (800, 1e-2)}
PHASE = "forward_backward"


def measure(backend: str, case: Case) -> Iterator[Measurement]:
    """The frameworks are imported in the worker alone."""
    from bench.studies.horizon import learning

    yield from learning.measure_learning(case)


CLIMBED = 0.6  # of all steps of all updates of a ladder: most climbs end before its top, and networks that have learnt leave
SECONDS_A_STEP = {"cpu": {"rnn": 4e-5, "gru": 1e-4, "lstm": 1.2e-4}, "cuda": {"rnn": 1.2e-4, "gru": 2e-4, "lstm": 2e-4}}


def forecast(case: Case) -> float:
    """Seconds of one case: the steps of its updates, both ways, all networks at once. CPU: rounded from a run on two cores of
    an AMD EPYC; CUDA: estimated, no GPU has run it."""
    task, longest = tasks.get(str(case.factor("task"))), int(case.factor("truncation")) or case.steps
    lags = [int(text) for text in str(case.factor("lags")).split("/")]
    steps = int(case.factor("updates")) * sum(min(task.steps(lag), longest) for lag in lags)
    return 0.5 + CLIMBED * steps * SECONDS_A_STEP[case.spec.device][case.spec.cell]


def select_backends(case: Case, backends: Sequence[str]) -> tuple[str, ...]:
    """Many networks are trained as one batch, which no backend's interface can: by the study's own code, once."""
    return (REFERENCE,)


def _case(spec: Spec, init: str, task: str, lags: Sequence[int], seeds: int, truncation: int = 0) -> Case:
    updates, rate = BUDGETS[task]
    factors = (
        ("probe", "learning"), ("task", task), ("init", init), ("truncation", truncation), ("seeds", seeds),
        ("updates", updates), ("rate", rate), ("lags", "/".join(map(str, lags))),
    )  # fmt: skip
    return Case(replace(spec, input_size=tasks.get(task).inputs), tasks.get(task).steps(lags[-1]), 32, PHASE, factors=factors)


def _smoke() -> Iterator[Case]:
    for spec, init in ((RNNSpec(1, 8), "orthogonal"), (LSTMSpec(1, 8), "forget:1")):
        yield replace(_case(spec, init, "recall", (2, 3, 4), 3), batch=8)


def _cases(hidden: int, seeds: int, device: str = "cpu") -> Iterator[Case]:
    """Recall for every initialisation and with truncation; the other tasks for a few."""
    rnn, gru, lstm = (kind(1, hidden, device=device) for kind in (RNNSpec, GRUSpec, LSTMSpec))  # pyright: ignore[reportArgumentType]
    every = [(rnn, init) for init in RNN_INITS] + [(gru, init) for init in GRU_INITS]
    every += [(lstm, init) for init in (*LSTM_INITS, *FRAMEWORKS)]
    for spec, init in every:
        yield _case(spec, init, "recall", LADDER, seeds)
    for truncation in TRUNCATIONS:
        for spec, init in ((rnn, "pytorch"), (lstm, "forget:3")):
            yield _case(spec, init, "recall", LADDER, seeds, truncation)
    fewer = [lag for lag in LADDER if lag <= LONGEST_OF_OTHERS]
    few = ((rnn, "pytorch"), (rnn, "orthogonal"), (lstm, "pytorch"), (lstm, "forget:1"))
    for task in ("adding", "copy", "temporal_order"):
        for spec, init in few:
            yield _case(spec, init, task, fewer, seeds)


def _at(label: str, cell: str, init: str) -> tuple[str, str]:
    return label, f"probe=learning,task=recall,truncation=0,cell={cell},init={init}"


RNN_SETTINGS = (
    _at("RNN as PyTorch", "rnn", "pytorch"), _at("RNN orthogonal", "rnn", "orthogonal"), _at("IRNN", "rnn", "irnn"),
)  # fmt: skip
LSTM_SETTINGS = (
    _at("LSTM as PyTorch", "lstm", "pytorch"), _at("LSTM forget bias 1", "lstm", "forget:1"),
    _at("LSTM forget bias 3", "lstm", "forget:3"), _at("LSTM chrono", "lstm", "chrono:784"),
)  # fmt: skip
CLAIMS = (
    Claim(
        "a-ten-steps-learnt",
        "A vanilla RNN's context is about ten steps: between 5 and 20 both until its gradient has faded to a thousandth and as "
        "the lag that half of its networks learn to bridge.",
        (
            Test("horizon", low=5.0, high=20.0, effect=10, spread=1.2, basis="published"),
            Test("learnable_lag", low=5.0, high=20.0, effect=10, spread=3.7, basis="published"),
        ),
        RNN_SETTINGS,
        "5–10 steps",
        "Gers, Schmidhuber & Cummins 2000",
        "phase",
    ),
    Claim(
        "c-hundreds-learnt",
        "Half of an LSTM's networks learn to bridge more than a hundred steps.",
        (Test("learnable_lag", low=100.0, effect=1000, spread=150, basis="published"),),
        LSTM_SETTINGS,
        "lag 1000 bridged in 49 000 sequences",
        "Hochreiter & Schmidhuber 1997, table 3",
        "phase",
    ),
    Claim(
        "a-foretold",
        "On recall, over cells and initialisations, the farther a gradient reaches before training, the longer the lag that is "
        "learnt.",
        (Test("horizon_rank_correlation", low=0.5, effect=0.9, spread=0.29, basis="an earlier run"),),
        (("Recall", "probe=learning,task=recall,truncation=0"),),
        figure="phase",
    ),
    Claim(
        "c-truncated",
        "Backpropagation through k steps alone learns no lag beyond 1.5 k.",
        (
            Test(
                "learnable_over_truncation",
                low=0.0,
                high=1.5,
                effect=1.0,
                spread=0.29,
                basis="as claimed",
            ),
        ),
        tuple(
            (f"{label}, k = {k}", of.replace("truncation=0", f"truncation={k}"))
            for label, of in (RNN_SETTINGS[0], LSTM_SETTINGS[2])
            for k in TRUNCATIONS
        ),
        figure="truncated_learning",
    ),
)
CASES: dict[Scale, tuple[Case, ...]] = {
    "smoke": tuple(_smoke()),
    "quick": (),
    "cpu": tuple(_cases(32, 5)),
    "gpu": tuple(_cases(64, 20, "cuda")),
}
STUDY = Study(
    question="How long a lag can a network learn to bridge, and does its gradient before training predict it?",
    claim="A vanilla RNN learns to bridge ten steps, an LSTM hundreds.",
    cases=CASES,
    measure=measure,
    select_backends=select_backends,
    claims=CLAIMS,
    reuse_worker=True,
    forecast=forecast,
)
