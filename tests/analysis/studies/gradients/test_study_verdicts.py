"""Every claim of studies `gradients` and `cost` reaches each of the four verdicts, by its own rule and settings."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from analysis.report.load import series_frame
from analysis.statistics import quantities
from bench.harness import study
from results.claims import Claim
from results.record import Header, Measurement, Record
from results.store import Run

Values = dict[str, object]
LAGS, SEEDS = np.arange(300), 6
SPREAD = np.linspace(-1, 1, SEEDS)[:, None]  # over seeds, for an interval that straddles a bound
OPEN = None  # nothing was measured: for what is found and not estimated, so that no interval can straddle a bound


def blocks(name: str, seeds: np.ndarray) -> Measurement:
    return Measurement(name, "1", tuple(seeds.ravel().tolist()), (seeds.shape[1],) * len(seeds))


def lag() -> Measurement:
    return Measurement("lag", "step", tuple(map(float, LAGS)))


def noise() -> np.ndarray:
    return (0.01 * np.random.default_rng(4).standard_normal((SEEDS, len(LAGS)))).cumsum(1)


def sloped(metric: str, slopes: np.ndarray | float, *more: Measurement) -> list[Measurement]:
    """Curves with so many nats a step."""
    logs = slopes * LAGS + noise() * 0.1
    return [lag(), blocks(metric, logs - logs[:, :1]), *more]


def horizon(steps: float, spread: float = 0.0) -> list[Measurement]:
    return sloped("log_gradient", np.log(1e-3) / (steps * (1 + spread * SPREAD)))


def law(exponentials: int) -> list[Measurement]:
    """So many seeds fade exponentially, the others by a power of lag."""
    chosen = (np.arange(SEEDS) < exponentials)[:, None]
    return [lag(), blocks("log_gradient", np.where(chosen, -0.1 * LAGS, -3 * np.log1p(LAGS)) + noise())]


def passed(ratio: float, spread: float = 0.0, metric: str = "log_gradient", cosine: float = 1.0) -> list[Measurement]:
    slopes = (np.log(ratio) + spread * SPREAD) / 99
    return sloped(metric, slopes, blocks("cell_cosine", np.full((SEEDS, len(LAGS)), cosine)))


def each(metric: str, value: float, spread: float = 0.0) -> list[Measurement]:
    return [blocks(metric, value + spread * SPREAD)]


def zero_at(steps: int, spread: int = 0) -> list[Measurement]:
    """Curves that end where the gradient is zero."""
    lengths = [steps + round(spread * float(own[0])) for own in SPREAD]
    return [Measurement("log_largest", "nat", (-1.0,) * sum(lengths), tuple(lengths))]


def apart(by: float) -> list[Measurement]:
    """What a backend measured; `by` is added in its record and not in the reference's."""
    return [Measurement(name, "nat", (0.0, -1.0 + by)) for name in ("log_input", "log_hidden", "log_cell")]


def over_shortcut(excess: float, spread: float = 0.0) -> list[Measurement]:
    return sloped("log_gradient", np.log(0.9) + excess + spread * SPREAD * 0.01, Measurement("shortcut", "1", (0.9,)))


def cost(ratio: float, spread: float = 0.0) -> list[Measurement]:
    """Of the LSTM beside an RNN that takes a second; one seed is one replicate."""
    return [Measurement("time", "s", (float(ratio * np.exp(spread * own[0])),) * 3) for own in SPREAD]


def counted(times: float) -> list[Measurement]:
    return [Measurement("parameters", "1", (times,))]


# claim → what holds, what fails, and what leaves it open
MADE: dict[str, tuple[list[Measurement], list[Measurement], list[Measurement] | None]] = {
    "a-exponential": (law(SEEDS), law(0), law(SEEDS // 2)),
    "a-ten-steps": (horizon(12), horizon(60), horizon(20, 0.2)),
    "b-identity": (each("identity_error", 1e-14), each("identity_error", 1e-3), OPEN),
    "b-unchanged": (passed(0.9), passed(0.9, cosine=0.1), passed(0.5, 0.3)),
    "b-carousel": (each("hop_share_10", 0.8), each("hop_share_10", 0.1), each("hop_share_10", 0.5, 0.1)),
    "backends-agree": (apart(1e-5), apart(0.1), OPEN),
    "backends-agree-gpu": (apart(1e-5), apart(0.1), OPEN),
    "b-hundreds": (horizon(150), horizon(12), horizon(100, 0.2)),
    "b-residual": (passed(1.1), passed(0.01), passed(2.0, 0.3)),
    "b-residual-rate": (over_shortcut(0.0), over_shortcut(0.1), over_shortcut(np.log(2) / 100, 0.5)),
    "control-transformer": (passed(1.0, metric="log_input"), passed(0.1, metric="log_input"), passed(0.5, 0.3, "log_input")),
    "precision": (zero_at(30), zero_at(90), zero_at(50, 9)),
    "d-size": (counted(4.0), counted(3.0), OPEN),
    "d-time": (cost(3.0), cost(1.0), cost(2.0, 0.2)),
    "d-time-gpu": (cost(3.0), cost(1.0), cost(2.0, 0.2)),
    "d-equal-parameters": (cost(1.0), cost(2.0), cost(1.25, 0.2)),
    "d-equal-parameters-gpu": (cost(1.0), cost(2.0), cost(1.25, 0.2)),
}
CLAIMS = [(name, claim) for name in ("gradients", "cost") for claim in study.get(name).claims]
WORDS = {"supported": "hh", "mixed": "hf", "refuted": "ff", "inconclusive": "ho"}
REACHED = [(name, claim, word) for name, claim in CLAIMS for word, kinds in WORDS.items()
           if len(claim.settings) > 1 or kinds[0] == kinds[1] or kinds == "ho"]  # fmt: skip


def parameters(selection: str) -> Values:
    """What a record needs to pass a setting; of `a<=b` and `a>=b` the bound itself."""
    found: Values = {"steps": 320, "device": "cpu", "dtype": "float64", "phase": "forward_backward"}
    for name, _, text in (match.groups() for match in re.finditer(r"(\w+)(<=|>=|=)([^,]+)", selection)):
        found[name] = {"True": True, "False": False}.get(text, int(text) if text.isdigit() else text)
    return found


def records(name: str, selection: str, measured: list[Measurement]) -> list[Record]:
    values = parameters(selection)
    backends = str(values.pop("backend", "reference")).split("|")
    case = f"case-{selection}"
    if name == "gradients":
        made = {backend: apart(0.0) if backend == "reference" and len(backends) > 1 else measured for backend in backends}
        return [Record(name, case, backend, 0, "ok", values, measurements=tuple(own)) for backend, own in made.items()]
    own_count = float(str(values.pop("count_parameters", 1000)))
    same = "count_parameters" in selection
    ratio = measured[0].samples[0] if measured[0].metric == "parameters" else 1.0
    made = []
    for cell in ("lstm", "rnn"):
        count = own_count if same or cell == "rnn" else own_count * ratio
        counts = {"parameters": count, "flops": 6 * count}
        for replicate, own in enumerate(measured):
            time = own if cell == "lstm" and own.metric == "time" else Measurement("time", "s", (1.0,) * 3)
            of = values | {"cell": cell}
            made.append(Record(name, f"{cell}-{case}", backends[0], replicate, "ok", of, measurements=(time,), counts=counts))
    return made


def judged(name: str, claim: Claim, kinds: str) -> quantities.Verdict:
    """The first setting gets the second kind, all others the first, so that one alone must turn the verdict."""
    made: list[Record] = []
    for place, (_, selection) in enumerate(claim.settings):
        measured = dict(zip("hfo", MADE[claim.name], strict=True))[kinds[1] if place == 0 else kinds[0]]
        made += records(name, selection, measured) if measured is not None else []
    run = Run(Path("x"), Header("r", "2026-11-20T12:00:00Z", 1, "imaginary", {}, {}), tuple(made), None)
    return quantities.judge(claim, series_frame([run]))


@pytest.mark.parametrize(("name", "claim", "word"), REACHED, ids=[f"{claim.name}: {word}" for _, claim, word in REACHED])
def test_each_verdict_is_reached_by_the_studys_own_rule(name, claim, word):
    verdict = judged(name, claim, WORDS[word])
    if word == "inconclusive" and MADE[claim.name][2] is None:
        word = "not measured" if len(claim.settings) == 1 else word
    assert verdict.word == word, [(finding.label, finding.estimates) for finding in verdict.findings]


def test_no_claim_is_left_out():
    assert {claim.name for _, claim in CLAIMS} == set(MADE)
    assert {word for _, _, word in REACHED} == set(WORDS)
