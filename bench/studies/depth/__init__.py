"""Depth and direction on tokens, frames and text, at equal parameters and at equal time of training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.harness.case import Case
from bench.harness.study import REFERENCE, Scale, Study
from bench.studies.direction import STEP_SECONDS, UPDATE_SECONDS, matched
from impls import LSTMSpec
from impls.specs.residual import Device
from results.claims import Claim, Test
from results.record import Measurement

TASKS = ("tokens", "frames", "text")
NETWORKS = (("one", 1), ("one", 2), ("both", 1), ("both", 2))
LIKE = "like"  # the network that the others are matched to: one layer, one direction


def measure(backend: str, case: Case) -> Iterator[Measurement]:
    """The framework is imported in the worker alone."""
    from bench.studies.depth import tagging

    yield from tagging.measure(case)


FIRST_SECONDS = 1.5  # tokenising the text, timing, and the test


def forecast(case: Case) -> float:
    """Seconds of a case's trainings: where time is matched, those of one layer in one direction."""
    layers = case.spec.num_layers * (1 if case.factor("direction") == "one" else 2)
    a_step = STEP_SECONDS[case.spec.device] * (1 if case.factor("matched") == "time" else layers)
    update = UPDATE_SECONDS[case.spec.device] + case.steps * a_step
    return FIRST_SECONDS + int(case.factor("seeds")) * int(case.factor("updates")) * update


def select_backends(case: Case, backends: Sequence[str]) -> tuple[str, ...]:
    """Trained by the study's own code, once."""
    return (REFERENCE,)


def _case(
    task: str, kind: str, layers: int, by: str, like: LSTMSpec, *, steps: int, batch: int, dwell: int, updates: int,
    rate: float, seeds: int,
) -> Case:  # fmt: skip
    """seed 1: a pilot with seed 0 chose the budget. updates: of what is matched to `like` by parameters."""
    found = matched(kind, layers, like)
    factors = (
        ("task", task), ("direction", kind), ("matched", by), ("mismatch", float(f"{found.mismatch:.2g}")),
        ("like", like.hidden_size), ("dwell", dwell), ("seeds", seeds), ("updates", updates), ("rate", rate),
    )  # fmt: skip
    return Case(found.spec, steps, batch, "forward_backward", seed=1, factors=factors)


def _cases(
    width: int, *, steps: int, dwell: int, updates: int, batch: int, rate: float, seeds: int, device: Device
) -> Iterator[Case]:
    like = LSTMSpec(16, width, device=device)
    for task in TASKS:
        for kind, layers in NETWORKS:
            for by in (LIKE,) if (kind, layers) == NETWORKS[0] else ("parameters", "time"):
                yield _case(
                    task, kind, layers, by, like, steps=steps, batch=batch, dwell=dwell, updates=updates, rate=rate, seeds=seeds
                )


CASES: dict[Scale, tuple[Case, ...]] = {
    "smoke": tuple(
        _case(task, "both", 1, by, LSTMSpec(16, 46), steps=6, batch=4, dwell=3, updates=4, rate=0.01, seeds=3)
        for task, by in (("frames", "time"), ("text", "parameters"))
    ),
    "quick": (),
    "cpu": tuple(_cases(46, steps=32, dwell=6, updates=200, batch=32, rate=0.01, seeds=5, device="cpu")),
    "gpu": tuple(_cases(512, steps=256, dwell=20, updates=250, batch=128, rate=0.004, seeds=3, device="cuda")),
}  # fmt: skip


def _settings(by: str, tasks: Sequence[str], of: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Of each task and network two cases that are compared."""
    return tuple(
        (f"{task}, {label}" if len(tasks) > 1 else label, f"study=depth,task={task},matched={LIKE}|{by},{selection}")
        for task in tasks
        for label, selection in of
    )


DIRECTIONS = (("one layer", "num_layers=1"), ("two layers", "num_layers=2"))  # one direction against both
DEPTHS = (("one direction", "direction=one"), ("both directions", "direction=both"))  # one layer against two
PUBLISHED = "Graves, Mohamed & Hinton 2013, single runs"
CLAIMS = (
    Claim(
        "g-direction-text",
        "At equal parameters and updates an LSTM in both directions tags the characters of text with a lower loss than one in "
        "one direction.",
        (Test("direction_gain", low=0.0, effect=0.124, spread=0.030, basis="a pilot"),),
        _settings("parameters", ("text",), DIRECTIONS),
        figure="losses",
    ),
    Claim(
        "g-direction-frames",
        "… and frames, noisy vectors around a mean of each hidden state.",
        (Test("direction_gain", low=0.0, effect=0.132, spread=0.0012, basis="a pilot"),),
        _settings("parameters", ("frames",), DIRECTIONS),
        "18.6 % of TIMIT's phones wrong in both directions, 19.6 % in one (three layers)",
        PUBLISHED,
        "losses",
    ),
    Claim(
        "g-direction-time",
        "Trained for as long as one layer in one direction takes, an LSTM in both directions tags with a lower loss than one "
        "in one direction.",
        (Test("direction_gain", low=0.0, effect=0.065, spread=0.040, basis="a pilot"),),
        _settings("time", ("text", "frames", "tokens"), DIRECTIONS),
        figure="losses",
    ),
    Claim(
        "g-depth-parameters",
        "At equal parameters and updates two layers tag with a lower loss than one.",
        (Test("depth_gain", low=0.0, effect=-0.067, spread=0.032, basis="a pilot"),),
        _settings("parameters", ("text", "frames", "tokens"), DEPTHS),
        "from 23.9 % to 18.4 % of TIMIT's phones wrong from one to five layers (both directions, more parameters)",
        PUBLISHED,
        "losses",
    ),
    Claim(
        "g-depth-time",
        "Trained for as long as one layer in one direction takes, two layers tag with a lower loss than one.",
        (Test("depth_gain", low=0.0, effect=-0.134, spread=0.046, basis="a pilot"),),
        _settings("time", ("text", "frames", "tokens"), DEPTHS),
        figure="losses",
    ),
)
STUDY = Study(
    question="What do depth and both directions add on text, tokens and frames, at equal parameters and at equal time?",
    claim="Stacked and bidirectional LSTMs add capacity.",
    cases=CASES,
    measure=measure,
    select_backends=select_backends,
    claims=CLAIMS,
    reuse_worker=True,
    forecast=forecast,
)
