"""What depth and both directions add: exact leakage, ELMo's two stacks, generation, and loss at equal parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.harness.case import Case
from bench.harness.study import REFERENCE, Scale, Study
from bench.studies.matching import Match, match
from impls import LSTMSpec, Spec
from impls.specs.residual import Device, LSTMStackSpec, MinLSTMSpec, SSMSpec, TransformerSpec
from results.claims import Claim, Test
from results.record import Measurement

KIND_NAMES = {"one": "one direction", "both": "both directions", "two_stacks": "two stacks (ELMo)"}
DEPTHS = (1, 2, 3)
MISMATCH = 0.03  # that parameters may differ by: widths, on a GPU in multiples of 8, leave no less


def measure(backend: str, case: Case) -> Iterator[Measurement]:
    """The framework is imported in the worker alone."""
    from bench.studies.direction import networks, tagging

    measures = {
        "leakage": networks.measure_leakage, "identity": networks.measure_identity, "tagging": tagging.measure_tagging,
        "generation": tagging.measure_generation,
    }  # fmt: skip
    yield from measures[str(case.factor("probe"))](case)


# Of a training: launches and drawing of an update, and of each step of each layer and direction, both ways. CPU: rounded from a
# run on one core of an AMD EPYC; CUDA: estimated, no GPU has run it.
UPDATE_SECONDS = {"cpu": 1.5e-3, "cuda": 5e-3}
STEP_SECONDS = {"cpu": 4e-5, "cuda": 3e-5}
JACOBIAN_SECONDS = 2e-3  # of one output


def forecast(case: Case) -> float:
    """Seconds of a case's trainings, or of its backward passes for each output."""
    spec, seeds = case.spec, int(case.factor("seeds"))
    if case.factor("probe") in ("leakage", "identity"):
        return 0.2 + seeds * case.steps * spec.output_size * JACOBIAN_SECONDS / 10
    directions = 1 if case.factor("direction") == "one" else 2
    a_step = STEP_SECONDS[spec.device] * spec.num_layers * directions
    return 0.5 + seeds * int(case.factor("updates")) * (UPDATE_SECONDS[spec.device] + case.steps * a_step)


def select_backends(case: Case, backends: Sequence[str]) -> tuple[str, ...]:
    """Measured by the study's own code, once."""
    return (REFERENCE,)


def _leakage(spec: Spec, kind: str, read: str, seeds: int, steps: int = 12) -> Case:
    return Case(spec, steps, 1, factors=(("probe", "leakage"), ("direction", kind), ("read", read), ("seeds", seeds)))


def _leakages(seeds: int) -> Iterator[Case]:
    """LSTMs of one and two layers of every kind, all outputs or the forward half; and the networks beside them."""
    for layers in (1, 2):
        for kind, read in (("one", "all"), ("both", "all"), ("both", "forward"), ("two_stacks", "forward")):
            yield _leakage(LSTMSpec(4, 8, layers, bidirectional=kind == "both", dtype="float64"), kind, read, seeds)
    yield _leakage(LSTMStackSpec(4, 8, 2, dtype="float64"), "one", "all", seeds)
    yield _leakage(MinLSTMSpec(4, 8, 2, dtype="float64"), "one", "all", seeds)
    yield _leakage(SSMSpec(4, 8, 2, state_size=4, dtype="float64"), "one", "all", seeds)
    yield _leakage(TransformerSpec(4, 8, 2, num_heads=2, dtype="float64"), "one", "all", seeds)
    yield _leakage(TransformerSpec(4, 8, 2, num_heads=2, bidirectional=True, dtype="float64"), "both", "all", seeds)


def _identity(identity: str, layers: int, seeds: int) -> Case:
    factors = (("probe", "identity"), ("identity", identity), ("seeds", seeds))
    return Case(LSTMSpec(5, 16, layers, bidirectional=True), 40, 3, factors=factors)


def parameters(kind: str, spec: Spec) -> int:
    """Of an LSTM of a kind, whose spec is that of one stack where there are two."""
    return spec.parameter_count() * (2 if kind == "two_stacks" else 1)


def matched(kind: str, layers: int, like: LSTMSpec) -> Match:
    """An LSTM of a kind and depth with as many parameters as `like`, which has one layer in one direction."""
    spec = LSTMSpec(like.input_size, like.hidden_size, layers, bidirectional=kind == "both", device=like.device)
    return match(spec, "parameters", lambda of: parameters(kind, of), like.parameter_count(), MISMATCH)


def _trained(
    probe: str, kind: str, layers: int, like: LSTMSpec, steps: int, *, dwell: int, updates: int, batch: int,
    seeds: int = 3, rate: float = 0.01,
) -> Case:  # fmt: skip
    """like: one layer in one direction with as many parameters. dwell: tokens a hidden state stays for in the mean."""
    found = matched(kind, layers, like)
    factors = (
        ("probe", probe), ("direction", kind), ("dwell", dwell), ("seeds", seeds), ("updates", updates), ("rate", rate),
        *found.factors,
    )  # fmt: skip
    return Case(found.spec, steps, batch, "forward_backward", factors=factors)


def _trainings(width: int, steps: int, dwell: int, updates: int, batch: int, device: Device = "cpu") -> Iterator[Case]:
    like = LSTMSpec(16, width, device=device)
    rate, seeds = (0.01, 5) if device == "cpu" else (0.004, 3)
    for kind, depths in (("one", DEPTHS), ("both", DEPTHS), ("two_stacks", (2,))):
        for layers in depths:
            yield _trained(
                "tagging", kind, layers, like, steps, dwell=dwell, updates=updates, batch=batch, seeds=seeds, rate=rate
            )
    for kind in ("one", "both"):
        yield _trained("generation", kind, 1, like, steps, dwell=dwell, updates=updates, batch=batch, seeds=seeds, rate=rate)


CASES: dict[Scale, tuple[Case, ...]] = {
    "smoke": (
        _leakage(LSTMSpec(3, 2, dtype="float64"), "one", "all", 1, 4),
        _leakage(LSTMSpec(3, 2, 2, bidirectional=True, dtype="float64"), "both", "forward", 1, 4),
        _identity("two_stacks", 2, 1),
        _trained("tagging", "both", 1, LSTMSpec(16, 46), 6, dwell=3, updates=3, batch=4),
        _trained("generation", "one", 1, LSTMSpec(16, 46), 6, dwell=3, updates=3, batch=4),
    ),
    "quick": (),
    "cpu": (
        *_leakages(5), _identity("one_layer", 1, 5), _identity("two_stacks", 2, 5), *_trainings(46, 32, 6, 300, 32),
    ),
    "gpu": tuple(_trainings(512, 256, 20, 600, 128, "cuda")),
}  # fmt: skip


def _at(label: str, probe: str, more: str) -> tuple[str, str]:
    return label, f"study=direction,probe={probe},{more}"


def _reads(label: str, kind: str, read: str, layers: int) -> tuple[str, str]:
    return _at(label, "leakage", f"cell=lstm,direction={kind},read={read},num_layers={layers}")


CAUSAL = (
    _reads("LSTM, two layers", "one", "all", 2), _reads("ELMo's forward stack, two layers", "two_stacks", "forward", 2),
    _reads("forward half of nn.LSTM(bidirectional), one layer", "both", "forward", 1),
    _at("residual LSTM stack", "leakage", "cell=lstm_stack"), _at("minLSTM", "leakage", "cell=minlstm"),
    _at("selective state space", "leakage", "cell=ssm"),
    _at("Transformer, causal", "leakage", "cell=transformer,direction=one"),
)  # fmt: skip
NOT_CAUSAL = (
    _reads("forward half of nn.LSTM(bidirectional), two layers", "both", "forward", 2),
    _reads("nn.LSTM(bidirectional), one layer", "both", "all", 1),
    _at("Transformer, bidirectional", "leakage", "cell=transformer,direction=both"),
)
CLAIMS = (
    Claim(
        "g-causal",
        "No output of a causal network depends on an input that comes later: every such derivative is exactly zero.",
        (Test("future_leakage", low=0.0, high=0.0, effect=0.0, spread=0),),
        CAUSAL,
        figure="leakage",
    ),
    Claim(
        "g-mixed",
        "An LSTM in both directions reads the future, from its second layer on in its forward half too: derivatives above "
        "10⁻⁶.",
        (Test("least_future_leakage", low=1e-6, effect=0.0115, spread=0),),
        NOT_CAUSAL,
        "two stacks trained apart",
        "Peters et al. 2018, section 3.1",
        "leakage",
    ),
    Claim(
        "g-elmo",
        "nn.LSTM(bidirectional) of one layer is two plain LSTMs, and of two layers is ELMo's two stacks once its directions "
        "are cut apart (less than a millionth); not cut apart it is not (over a hundredth).",
        (
            Test("identity_error", low=0.0, high=1e-6, effect=4.5e-08, spread=0),
            Test("identity_contrast", low=1e-2, effect=0.104, spread=0),
        ),
        (
            _at("two layers", "identity", "identity=two_stacks"),
            _at("one layer", "identity", "identity=one_layer"),
        ),
        "an identity",
        "Peters et al. 2018, section 3.1",
    ),
    Claim(
        "g-generation",
        "A network in both directions cannot generate: with the next token in view its loss falls below the least possible "
        "without, and with the past alone its loss is above that of a network in one direction.",
        (
            Test("next_token_below_optimum", low=0.0, effect=2.72, spread=0.0015, basis="an earlier run"),
            Test("prefix_excess", low=0.0, effect=0.061, spread=0.0094, basis="an earlier run"),
        ),
        (("hidden Markov tokens", "study=direction,probe=generation"),),
        figure="tagging",
    ),
    Claim(
        "g-direction",
        "At equal parameters an LSTM in both directions tags with a lower loss than one in one direction.",
        (Test("direction_gain", low=0.0, effect=0.148, spread=0.0022, basis="an earlier run"),),
        tuple(_at(f"depth {depth}", "tagging", f"num_layers={depth},direction=one|both") for depth in DEPTHS),
        "18.6 % of TIMIT's phones wrong with three layers in both directions",
        "Graves, Mohamed & Hinton 2013, a single run",
        "tagging",
    ),
    Claim(
        "g-beyond-causal",
        "Reading both ways tags better than anything that reads one way can: below the loss of the exact causal posterior.",
        (Test("below_causal_optimum", low=0.0, effect=0.139, spread=0.0015, basis="an earlier run"),),
        (
            _at("both directions, one layer", "tagging", "direction=both,num_layers=1"),
            _at("both directions, two layers", "tagging", "direction=both,num_layers=2"),
            _at("two stacks (ELMo)", "tagging", "direction=two_stacks"),
        ),
        figure="tagging",
    ),
    Claim(
        "g-depth",
        "At equal parameters two layers tag with a lower loss than one.",
        (Test("depth_gain", low=0.0, effect=-0.031, spread=0.056, basis="an earlier run"),),
        tuple(_at(KIND_NAMES[kind], "tagging", f"direction={kind},num_layers<=2") for kind in ("one", "both")),
        figure="tagging",
    ),
)
STUDY = Study(
    question="What do depth and both directions add at equal parameters, and what of the future does each network read?",
    claim="Stacked, bidirectional and stacked bidirectional LSTMs add capacity; a bidirectional one cannot generate.",
    cases=CASES,
    measure=measure,
    select_backends=select_backends,
    claims=CLAIMS,
    reuse_worker=True,
    forecast=forecast,
)
