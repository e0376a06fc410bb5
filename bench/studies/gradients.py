"""How a gradient fades with length, by cell, initialisation and size; and what of it the cell path carries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from bench.case import Case
from bench.study import REFERENCE, Scale, Study
from impls import GRUSpec, LSTMSpec, RNNSpec, Spec
from results.claims import Claim, Test
from results.record import Measurement

RNN_INITS = ("pytorch", "orthogonal", "gaussian:0.5", "gaussian:1", "gaussian:1.5", "irnn")
LSTM_INITS = ("pytorch", "forget:0", "forget:1", "forget:2", "forget:3", "forget:5", "chrono:784")
FRAMEWORKS = ("keras", "flax", "tensorflow1", "jozefowicz")
LEADING = 32  # exponents of a wide network: the whole spectrum costs O(H³) a step
TRAINED = ((RNNSpec, "pytorch"), (LSTMSpec, "pytorch"), (LSTMSpec, "forget:3"))
ROUNDED = ((RNNSpec, "pytorch"), (LSTMSpec, "pytorch"), (LSTMSpec, "forget:1"))
CAROUSEL_INITS = ("pytorch", "forget:1", "forget:3", "forget:5", "chrono:784")


def measure(backend: str, case: Case) -> Iterator[Measurement]:
    """What the case's `probe` asks for; the frameworks are imported in the worker alone."""
    from bench.gradients import attenuation, carousel, controls, lyapunov, precision, segments, training

    probe = str(case.factor("probe"))
    if probe == "inputs" and backend != REFERENCE:
        yield from segments.measure(backend, case)
    else:
        alone = {
            "attenuation": attenuation, "inputs": attenuation, "carousel": carousel, "lyapunov": lyapunov,
            "precision": precision, "controls": controls, "training": training,
        }  # fmt: skip
        yield from alone[probe].measure(case)


def measured_on(case: Case, backends: Sequence[str]) -> tuple[str, ...]:
    """States are swept once, by the study's own code; gradients of the inputs on every backend, to agree with it."""
    if case.factor("probe") != "inputs":
        return (REFERENCE,)
    if case.spec.dtype == "float64":  # networks are compared there, not backends
        return ("numpy",)
    return (REFERENCE, *backends)


def _case(probe: str, spec: Spec, init: str, steps: int, batch: int, seeds: int, **more: int | str) -> Case:
    factors = (("probe", probe), ("init", init), ("seeds", seeds), *more.items())
    return Case(spec, steps, batch, "forward_backward", factors=factors)


def _cases(hidden: int, steps: int, batch: int, seeds: int, device: str = "cpu") -> Iterator[Case]:
    """The whole study at one hidden size."""
    rnn, gru, lstm = (kind(32, hidden, dtype="float64", device=device) for kind in (RNNSpec, GRUSpec, LSTMSpec))  # pyright: ignore[reportArgumentType]
    for init in RNN_INITS:
        yield _case("attenuation", rnn, init, steps, batch, seeds)
    for init in ("pytorch", "orthogonal"):
        yield _case("attenuation", gru, init, steps, batch, seeds)
    for init in (*LSTM_INITS, *FRAMEWORKS):
        yield _case("attenuation", lstm, init, steps, batch, seeds)
    for init in CAROUSEL_INITS:
        yield _case("carousel", lstm, init, 256, 2, max(seeds // 2, 3))
    for spec, init in ((rnn, "pytorch"), (rnn, "orthogonal"), *((lstm, init) for init in CAROUSEL_INITS)):
        yield _case("lyapunov", spec, init, 400, 1, max(seeds // 2, 3), exponents=2 * hidden if hidden <= 64 else LEADING)


def _beside(hidden: int, steps: int, batch: int, seeds: int, updates: int) -> Iterator[Case]:
    """What stands beside the curves: rounding, other networks, training; small on any machine."""
    for dtype in ("float16", "bfloat16", "float32"):
        for kind, init in ROUNDED:
            yield _case("precision", kind(32, hidden, dtype=dtype), init, steps, batch, seeds)
    for network in ("plain", "residual", "residual_normed", "residual_halved", "transformer"):
        spec = RNNSpec(hidden, hidden, dtype="float64")
        yield _case("controls", spec, "pytorch", steps, batch, seeds, network=network)
    for kind, init in TRAINED:
        yield _case("training", kind(4, 32, dtype="float64"), init, 200, batch, seeds, lag=20, updates=updates)


def _through_backends(device: str = "cpu") -> Iterator[Case]:
    single = LSTMSpec(8, 32, device=device)  # pyright: ignore[reportArgumentType]
    yield _case("inputs", single, "pytorch", 64, 4, 1)
    yield _case("inputs", LSTMSpec(8, 32, dtype="float64"), "pytorch", 256, 4, 3)
    yield _case("inputs", LSTMSpec(8, 32, num_layers=2, dtype="float64"), "pytorch", 256, 4, 3)
    yield _case("inputs", LSTMSpec(8, 32, bidirectional=True, dtype="float64"), "pytorch", 256, 4, 3)


def _smoke() -> Iterator[Case]:
    tiny = LSTMSpec(4, 8, dtype="float64")
    yield _case("attenuation", tiny, "pytorch", 120, 2, 3)
    yield _case("carousel", tiny, "pytorch", 40, 2, 3)
    yield _case("lyapunov", tiny, "pytorch", 60, 1, 3, exponents=16)
    yield _case("precision", LSTMSpec(4, 8, dtype="float16"), "pytorch", 60, 2, 3)
    yield _case("controls", RNNSpec(8, 8, dtype="float64"), "pytorch", 120, 2, 3, network="residual")
    yield _case("training", LSTMSpec(2, 8, dtype="float64"), "pytorch", 30, 2, 3, lag=3, updates=8)


def _cpu() -> Iterator[Case]:
    yield from _cases(64, 400, 4, 10)
    wide = [(RNNSpec, "pytorch"), (RNNSpec, "orthogonal"), (LSTMSpec, "pytorch"), (LSTMSpec, "forget:1")]
    for kind, init in wide:
        yield _case("attenuation", kind(32, 256, dtype="float64"), init, 200, 4, 5)
    yield _case("attenuation", LSTMSpec(32, 64, dtype="float64"), "chrono:784", 2048, 4, 5)
    yield from _beside(64, 320, 4, 5, 200)
    yield from _through_backends()


def _gpu() -> Iterator[Case]:
    for hidden in (64, 256, 1024):
        yield from _cases(hidden, 2048 if hidden < 1024 else 512, 8, 20 if hidden < 1024 else 10, "cuda")
    yield from _beside(64, 1024, 4, 10, 400)
    yield from _through_backends("cuda")
    for dtype in ("float16", "bfloat16"):
        single = replace(LSTMSpec(8, 32), dtype=dtype, device="cuda")
        yield _case("inputs", single, "pytorch", 64, 4, 1)


def _at(label: str, cell: str, init: str) -> tuple[str, str]:
    return label, f"probe=attenuation,cell={cell},init={init},hidden_size=64,steps<=1024"


RNN_SETTINGS = (
    _at("RNN as PyTorch", "rnn", "pytorch"), _at("RNN orthogonal", "rnn", "orthogonal"), _at("IRNN", "rnn", "irnn"),
)  # fmt: skip
LSTM_SETTINGS = (
    _at("LSTM as PyTorch", "lstm", "pytorch"), _at("LSTM forget bias 1", "lstm", "forget:1"),
    _at("LSTM forget bias 3", "lstm", "forget:3"), _at("LSTM chrono", "lstm", "chrono:784"),
)  # fmt: skip
CAROUSEL_SETTINGS = tuple((label, of.replace("probe=attenuation", "probe=carousel")) for label, of in LSTM_SETTINGS)
CLAIMS: tuple[Claim, ...] = (
    Claim(
        "a-exponential",
        "A vanilla RNN's gradient decays or grows exponentially with lag, rather than as a power of it.",
        (Test("bic_for_exponential", low=10.0),),
        RNN_SETTINGS,
        "|∂ϑ(t−q)/∂ϑ(t)| ≤ n (f'max ‖W‖)^q",
        "Hochreiter & Schmidhuber 1997, section 3",
        "attenuation",
    ),
    Claim(
        "a-ten-steps",
        "A vanilla RNN's gradient has faded to a thousandth after about ten steps (between 5 and 20).",
        (Test("horizon", low=5.0, high=20.0),),
        RNN_SETTINGS,
        "5–10 steps",
        "Gers, Schmidhuber & Cummins 2000",
        "attenuation",
    ),
    Claim(
        "b-identity",
        "With h held, the gradient passes from c_t to c_{t−1} multiplied by f_t and by nothing else.",
        (Test("identity_error", low=0.0, high=1e-12),),
        CAROUSEL_SETTINGS,
        "∂c_t/∂c_{t−1} = diag f_t",
        "Gers, Schmidhuber & Cummins 2000",
        "hops",
    ),
    Claim(
        "b-unchanged",
        "The cell passes a gradient unchanged over 100 steps: its size within a factor of two, its direction that of ∏f.",
        (Test("passed_over_100", low=0.5, high=2.0), Test("cell_cosine_at_100", low=0.9)),
        LSTM_SETTINGS,
        "constant error flow",
        "Hochreiter & Schmidhuber 1997, section 4",
        "attenuation",
    ),
    Claim(
        "b-carousel",
        "Most of the gradient at lag 10 never left the cell path.",
        (Test("hop_share_at_10", low=0.5, high=1.5),),
        CAROUSEL_SETTINGS,
        figure="hops",
    ),
    Claim(
        "backends-agree",
        "Every backend's own gradients of inputs, h and c fade as the float64 sweep over states says, within a thousandth.",
        (Test("input_disagreement", low=0.0, high=1e-3), Test("state_disagreement", low=0.0, high=1e-3)),
        (("LSTM in single precision", "probe=inputs,cell=lstm,num_layers=1,bidirectional=False,dtype=float32,hidden_size=32"),),
        figure="attenuation",
    ),
    Claim(
        "b-hundreds",
        "An LSTM's gradient reaches beyond 100 steps before it has faded to a thousandth.",
        (Test("horizon", low=100.0),),
        LSTM_SETTINGS,
        "lag 1000 bridged",
        "Hochreiter & Schmidhuber 1997, table 3",
        "attenuation",
    ),
)
CLAIMS += (
    Claim(
        "b-residual",
        "A residual connection is the same trick in depth: it passes a gradient over 100 layers within a factor of two.",
        (Test("passed_over_100", low=0.5, high=2.0),),
        tuple(
            (label, f"probe=controls,network={network}")
            for label, network in (
                ("residual, normed", "residual_normed"), ("residual", "residual"), ("shortcut halved", "residual_halved"),
                ("no shortcut", "plain"),
            )
        ),
        "CIFAR-10 error 6.61 % with the identity, 12.35 % with half of it",
        "He et al. 2016, table 1",
        "controls",
    ),
    Claim(
        "control-transformer",
        "A Transformer's gradient does not fade with lag: from 1 to 100 steps back it stays within a factor of two.",
        (Test("input_passed_over_100", low=0.5, high=2.0),),
        (("two blocks before training", "probe=controls,network=transformer"),),
        "paths of length O(1)",
        "Vaswani et al. 2017, table 1",
        "controls",
    ),
    Claim(
        "precision",
        "Kept in half precision, a gradient is exactly zero within 50 steps.",
        (Test("zero_lag", high=50.0),),
        tuple(
            (f"{cell.upper()} {label}", f"probe=precision,dtype=float16,cell={cell},init={init}")
            for cell, init, label in (
                ("rnn", "pytorch", "as PyTorch"), ("lstm", "pytorch", "as PyTorch"), ("lstm", "forget:1", "forget bias 1")
            )
        ),
        "smallest number 2⁻²⁴",
        "Micikevicius et al. 2018, section 3.2",
        "precision",
    ),
)  # fmt: skip
CASES: dict[Scale, tuple[Case, ...]] = {"smoke": tuple(_smoke()), "quick": (), "cpu": tuple(_cpu()), "gpu": tuple(_gpu())}
STUDY = Study(
    question="How does the gradient of a loss fade with the lag back from it, and what of it does the cell path carry?",
    claim="A vanilla RNN's gradient fades exponentially within ten steps; an LSTM's cell passes it on unchanged.",
    cases=CASES,
    alone=measure,
    on=measured_on,
    verdicts=CLAIMS,
    shares=True,
    seconds={"cpu": 69, "gpu": 400},  # measured on two cores; of a GPU estimated, none has run it
)
