"""Phones from synthesised speech: LSTMs in one direction and in both, a convolution and a Transformer, trained by CTC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.harness.case import Case
from bench.harness.study import REFERENCE, Scale, Study
from bench.studies.matching import match
from bench.studies.speech.sizes import MISMATCH, NAMES, STACKED, TESTED, parameters, spec_of
from impls import LSTMSpec
from impls.specs.residual import Device
from results.claims import Claim, Test
from results.record import Measurement


def measure(backend: str, case: Case) -> Iterator[Measurement]:
    """The framework is imported in the worker alone."""
    from bench.studies.speech import learning

    yield from learning.measure(case)


# Of an utterance of one second; of an update, and of each parameter at each of its steps, both ways. CPU: rounded from a run on
# one core of an AMD EPYC; CUDA: estimated, no GPU has run it.
SYNTHESIS_SECONDS = 1.8e-3
UPDATE_SECONDS = {"cpu": 1.2e-3, "cuda": 1.2e-2}
VALUE_SECONDS = {"streaming": 6e-11, "bidirectional": 7.5e-11, "convolution": 1.6e-10, "transformer": 1.85e-10}
VALUE_SECONDS_CUDA = 2e-13
JUDGING_SECONDS = 0.5  # of a seed: the test, and the calls that are timed
SHARED = {"cpu": 2, "cuda": 4}  # cases of a run that the same worker makes speech for once


def forecast(case: Case) -> float:
    """Seconds of a case's share of the speech and of all trainings."""
    device, seeds, name = case.spec.device, int(case.factor("seeds")), str(case.factor("network"))
    a_value = VALUE_SECONDS[name] if device == "cpu" else VALUE_SECONDS_CUDA
    update = UPDATE_SECONDS[device] + a_value * case.steps * case.batch * parameters(name, case.spec)
    made = int(case.factor("utterances"))
    speech = SYNTHESIS_SECONDS * (made + min(made, TESTED)) * case.steps * STACKED / 100 / SHARED[device]
    return 0.5 + speech + seeds * (JUDGING_SECONDS + int(case.factor("updates")) * update)


def select_backends(case: Case, backends: Sequence[str]) -> tuple[str, ...]:
    """Trained by the study's own code, once."""
    return (REFERENCE,)


def _cases(
    like: LSTMSpec, steps: int, batch: int, phones: int, utterances: int, updates: int, *,
    networks: Sequence[str] = tuple(NAMES), layers: tuple[int, int] = (3, 2), seeds: tuple[int, int] = (3, 3),
    rates: tuple[float, float] = (0.01, 0.01),
) -> Iterator[Case]:  # fmt: skip
    """like: the LSTM in one direction that the others are matched to. layers: of convolution and Transformer. seeds, rates: of
    LSTMs, and of the others. seed 1: a pilot with seed 0 chose the budget, and its speech is not that which the rules judge."""
    for network in networks:
        is_lstm = network in ("streaming", "bidirectional")
        deep = like.num_layers if is_lstm else layers[network == "transformer"]
        spec, wanted = spec_of(network, like, deep), parameters("streaming", like)
        found = match(spec, "parameters", lambda of, name=network: parameters(name, of), wanted, MISMATCH)
        factors = (
            ("network", network), ("bands", like.input_size // STACKED), ("phones", phones), ("utterances", utterances),
            ("seeds", seeds[not is_lstm]), ("updates", updates), ("rate", rates[not is_lstm]), *found.factors,
        )  # fmt: skip
        yield Case(found.spec, steps, batch, "forward_backward", seed=1, factors=factors)


def _on(device: Device, bands: int, width: int, layers: int) -> LSTMSpec:
    return LSTMSpec(STACKED * bands, width, layers, device=device)


CASES: dict[Scale, tuple[Case, ...]] = {
    "smoke": tuple(_cases(_on("cpu", 16, 64, 1), 24, 4, 4, 8, 2, networks=("streaming", "convolution"), seeds=(3, 3))),
    "quick": (),
    "cpu": tuple(_cases(_on("cpu", 16, 64, 1), 40, 32, 8, 3000, 1400, seeds=(7, 3), rates=(0.015, 0.01))),
    "gpu": tuple(_cases(_on("cuda", 40, 512, 3), 100, 64, 20, 6000, 1500, layers=(6, 6), rates=(0.002, 0.0005))),
}


def _at(label: str, networks: str) -> tuple[str, str]:
    return label, f"study=speech,network={networks}"


CLAIMS = (
    Claim(
        "g-speech-direction",
        "At equal parameters an LSTM in both directions makes fewer phone errors than one in one direction.",
        (Test("phone_error_gain", low=0.0, effect=0.0131, spread=0.0097, basis="a pilot"),),
        (_at("synthesised speech", "streaming|bidirectional"),),
        "TIMIT, three layers by CTC: 18.6 % in both directions, 19.6 % in one, 3.8 million weights each",
        "Graves, Mohamed & Hinton 2013, table 1, single runs",
        "phone_error",
    ),
    Claim(
        "g-speech-networks",
        "At equal parameters an LSTM in both directions makes fewer phone errors than another network that reads both ways.",
        (Test("lead_in_phone_error", low=0.0, effect=-0.0126, spread=0.0118, basis="a pilot"),),
        (
            _at("against a convolution", "bidirectional|convolution"),
            _at("against a Transformer", "bidirectional|transformer"),
        ),
        figure="phone_error",
    ),
    Claim(
        "g-speech-real-time",
        "An LSTM in one direction keeps up with speech on one CPU core, features and decoding included, a step at a time.",
        (Test("streaming_real_time_factor", high=1.0, effect=0.0062, spread=0.0019, basis="a pilot"),),
        (_at("LSTM, one direction", "streaming"),),
        figure="streaming",
    ),
    Claim(
        "g-speech-delay",
        "An LSTM in one direction says a phone earlier than one that must hear the utterance, even if its end were known.",
        (Test("delay_saved", low=0.0, effect=0.328, spread=0.0036, basis="a pilot"),),
        (_at("synthesised speech", "streaming|bidirectional"),),
        figure="streaming",
    ),
)
STUDY = Study(
    question="Which network finds the phones in speech, and which of them while it is spoken?",
    claim="Both directions add to an LSTM for speech; one direction is enough to answer while somebody speaks.",
    cases=CASES,
    measure=measure,
    select_backends=select_backends,
    claims=CLAIMS,
    reuse_worker=True,
    forecast=forecast,
)
