"""How a gradient decays with length, by cell, initialisation and size; and what of it the cell path carries."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from bench import costs
from bench.harness.case import Case
from bench.harness.study import REFERENCE, Scale, Study
from impls import GRUSpec, LSTMSpec, RNNSpec, Spec
from results.claims import Claim, Test
from results.record import Measurement

RNN_INITS = ("pytorch", "orthogonal", "gaussian:0.5", "gaussian:1", "gaussian:1.5", "irnn")
LSTM_INITS = ("pytorch", "forget:0", "forget:1", "forget:2", "forget:3", "forget:5", "chrono:784")
FRAMEWORKS = ("keras", "flax", "tensorflow1", "jozefowicz")
EXACT = "numpy"
LEADING = 32  # exponents of a wide network: the whole spectrum costs O(H³) a step
TRAINED = ((RNNSpec, "pytorch"), (LSTMSpec, "pytorch"), (LSTMSpec, "forget:3"))
ROUNDED = ((RNNSpec, "pytorch"), (LSTMSpec, "pytorch"), (LSTMSpec, "forget:1"))
CAROUSEL_INITS = ("pytorch", "forget:1", "forget:3", "forget:5", "chrono:784")
NETWORKS = ("plain", "residual", "residual_normed", "residual_0.9", "residual_halved", "transformer")
STACKED_INITS = ("pytorch", "forget:1", "forget:3")
SLOW_INITS = CAROUSEL_INITS[2:]  # their cells fill for hundreds of steps: the last 201 of 400 are no more as the first ones
BEYOND = 4096  # steps of the longest curve
ON_CPU = ("numpy", "torch", "torch_loop", "torch_compile", "jax", "flax")  # backends with gradients, in single precision
ON_GPU = ("cuda", "cudnn", "torch", "torch_loop", "torch_compile", "jax", "jax_cudnn", "flax")


def measure(backend: str, case: Case) -> Iterator[Measurement]:
    """What the case's `probe` asks for; the frameworks are imported in the worker alone."""
    from bench.studies.gradients import attenuation, carousel, controls, segments
    from bench.studies.horizon import learning

    probe = str(case.factor("probe"))
    if probe == "inputs" and (backend != REFERENCE or _compares_networks(case)):
        yield from segments.measure(EXACT if backend == REFERENCE else backend, case)
    else:
        alone = {
            "attenuation": attenuation.measure_attenuation, "inputs": attenuation.measure_attenuation,
            "precision": attenuation.measure_precision, "carousel": carousel.measure, "lyapunov": attenuation.measure_lyapunov,
            "controls": controls.measure, "training": learning.measure_training_curves,
        }  # fmt: skip
        yield from alone[probe](case)


def forecast(case: Case) -> float:
    """Seconds of one case on one backend, mostly its sweep over the steps; CPU: rounded from a run on two cores of an AMD EPYC;
    CUDA: a worker's start is an H100's (see `bench.costs`), the sweeps are estimated, no GPU has run them."""
    spec, seeds, probe, on_cpu = case.spec, int(case.factor("seeds")), case.factor("probe"), case.spec.device == "cpu"
    if probe == "inputs" and not _compares_networks(case):
        return 6.0 if on_cpu else costs.START_SECONDS_H100 + 2.0  # the start of a framework, and compiling
    sweeps = int(case.factor("updates")) / 14 if probe == "training" else 1
    flops = 6 * seeds * case.batch * case.steps * spec.parameter_count()
    seconds = 0.05 + sweeps * (case.steps * 3e-4 + flops / (5e9 if on_cpu else 5e12))
    if probe == "lyapunov":  # a decomposition of the tangents a step
        tangents, state = int(case.factor("exponents")), spec.state_bytes(1, 1) / 8
        seconds += case.steps * (seeds * 2 * state * tangents**2 / 5e9 if on_cpu else 8e-3)
    return seconds


def select_backends(case: Case, backends: Sequence[str]) -> tuple[str, ...]:
    """States are swept once, by the study's own code; gradients of the inputs on every backend, to agree with it."""
    if case.factor("probe") != "inputs" or _compares_networks(case):
        return (REFERENCE,)
    return (REFERENCE, *backends)


def _compares_networks(case: Case) -> bool:
    """Stacked and bidirectional ones, by the reference's backward pass in float64; otherwise backends are compared."""
    return case.spec.dtype == "float64"


def _case(probe: str, spec: Spec, init: str, steps: int, batch: int, seeds: int, **more: int | float | str) -> Case:
    factors = (("probe", probe), ("init", init), ("seeds", seeds), *more.items())
    return Case(spec, steps, batch, "forward_backward", factors=factors)


def _cases(hidden: int, steps: int, batch: int, seeds: int, device: str = "cpu") -> Iterator[Case]:
    """The whole study at one hidden size."""
    rnn, gru, lstm = (kind(32, hidden, dtype="float64", device=device) for kind in (RNNSpec, GRUSpec, LSTMSpec))  # pyright: ignore[reportArgumentType]
    for init in RNN_INITS:
        yield _case("attenuation", rnn, init, steps, batch, seeds)
    for init in ("pytorch", "orthogonal"):
        yield _case("attenuation", gru, init, steps, batch, seeds)
    for init in (*LSTM_INITS, "orthogonal", "gaussian:1.5", *FRAMEWORKS):
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
    for network in NETWORKS:
        spec = RNNSpec(hidden, hidden, dtype="float64")
        yield _case("controls", spec, "pytorch", steps, batch, seeds, network=network)
    for kind, init in TRAINED:
        yield _case("training", kind(10, 32), init, 200, batch, seeds, lag=20, updates=updates, rate=3e-3)


def _through_backends(device: str = "cpu") -> Iterator[Case]:
    single = LSTMSpec(8, 32, device=device)  # pyright: ignore[reportArgumentType]
    yield _case("inputs", single, "pytorch", 64, 4, 3)
    one, two = LSTMSpec(8, 32, dtype="float64"), LSTMSpec(8, 32, num_layers=2, dtype="float64")
    for init in STACKED_INITS:
        for spec in (one, two, replace(one, bidirectional=True)):
            yield _case("inputs", spec, init, 256, 4, 3)
    yield _case("inputs", replace(two, bidirectional=True), "pytorch", 256, 4, 3)
    for kind in (RNNSpec, GRUSpec):
        for spec in (kind(8, 32, num_layers=2, dtype="float64"), kind(8, 32, bidirectional=True, dtype="float64")):
            yield _case("inputs", spec, "pytorch", 256, 4, 3)


def _smoke() -> Iterator[Case]:
    tiny = LSTMSpec(4, 8, dtype="float64")
    yield _case("attenuation", tiny, "pytorch", 120, 2, 3)
    yield _case("carousel", tiny, "pytorch", 40, 2, 3)
    yield _case("lyapunov", tiny, "pytorch", 60, 1, 3, exponents=16)
    yield _case("precision", LSTMSpec(4, 8, dtype="float16"), "pytorch", 60, 2, 3)
    yield _case("controls", RNNSpec(8, 8, dtype="float64"), "pytorch", 120, 2, 3, network="residual")
    yield _case("training", LSTMSpec(10, 8), "pytorch", 30, 2, 3, lag=3, updates=8, rate=3e-3)
    yield _case("inputs", GRUSpec(4, 8), "pytorch", 40, 2, 3)  # a cell that few backends have: the others need not start


def _cpu() -> Iterator[Case]:
    yield from _through_backends()  # the longest first: one of them compiles
    yield from _cases(64, 400, 4, 10)
    for kind, inits in ((RNNSpec, ("pytorch", "orthogonal", "gaussian:1.5")), (LSTMSpec, CAROUSEL_INITS)):
        for init in inits:
            steps = 400 if init in SLOW_INITS else 201
            yield _case("attenuation", kind(32, 256, dtype="float64"), init, steps, 4, 5)
    yield _longest()
    yield from _beside(64, 320, 4, 5, 400)


def _longest(device: str = "cpu") -> Case:
    spec = LSTMSpec(32, 64, dtype="float64", device=device)  # pyright: ignore[reportArgumentType]
    return _case("attenuation", spec, "chrono:784", BEYOND, 4, 5)


def _gpu() -> Iterator[Case]:
    for hidden, steps, seeds in ((64, 1024, 20), (256, 2048, 20), (1024, 512, 10)):
        yield from _cases(hidden, steps, 8, seeds, "cuda")
    yield _longest("cuda")
    yield from _beside(64, 1024, 4, 10, 400)
    yield from _through_backends("cuda")
    for dtype in ("float16", "bfloat16"):
        single = replace(LSTMSpec(8, 32), dtype=dtype, device="cuda")
        yield _case("inputs", single, "pytorch", 64, 4, 3)


def _at(label: str, cell: str, init: str) -> tuple[str, str]:
    return label, f"probe=attenuation,cell={cell},init={init},hidden_size=64,steps<=1024"


RNN_SETTINGS = (
    _at("RNN as PyTorch", "rnn", "pytorch"), _at("RNN orthogonal", "rnn", "orthogonal"), _at("IRNN", "rnn", "irnn"),
)  # fmt: skip
EXPONENTIAL_SETTINGS = (
    *RNN_SETTINGS, _at("RNN Gaussian, gain 1", "rnn", "gaussian:1"), _at("RNN Gaussian, gain 1.5", "rnn", "gaussian:1.5"),
)  # fmt: skip
LSTM_SETTINGS = (
    _at("LSTM as PyTorch", "lstm", "pytorch"), _at("LSTM forget bias 1", "lstm", "forget:1"),
    _at("LSTM forget bias 3", "lstm", "forget:3"), _at("LSTM chrono", "lstm", "chrono:784"),
)  # fmt: skip
AGREE = (
    Test("input_disagreement", low=0.0, high=1e-3, effect=1e-5, spread=0),
    Test("state_disagreement", low=0.0, high=1e-3, effect=1e-5, spread=0),
)


def _through(backends: Sequence[str], device: str) -> tuple[tuple[str, str], ...]:
    """A setting for each backend, so that one that did not run leaves its own open."""
    of = f"probe=inputs,cell=lstm,num_layers=1,bidirectional=False,dtype=float32,hidden_size=32,device={device}"
    return tuple((name, f"{of},backend={REFERENCE}|{name}") for name in backends)


CAROUSEL_SETTINGS = tuple((label, of.replace("probe=attenuation", "probe=carousel")) for label, of in LSTM_SETTINGS)
CLAIMS: tuple[Claim, ...] = (
    Claim(
        "a-exponential",
        "A vanilla RNN's gradient decays or grows exponentially with lag, rather than as a power of it.",
        (Test("bic_for_exponential", low=10.0, effect=658, spread=25, basis="an earlier run"),),
        EXPONENTIAL_SETTINGS,
        "|∂ϑ(t−q)/∂ϑ(t)| ≤ n (f'max ‖W‖)^q",
        "Hochreiter & Schmidhuber 1997, section 3",
        "attenuation",
    ),
    Claim(
        "a-ten-steps",
        "A vanilla RNN's gradient has faded to a thousandth after about ten steps (between 5 and 20).",
        (Test("horizon", low=5.0, high=20.0, effect=10, spread=0.7, basis="published"),),
        RNN_SETTINGS,
        "5–10 steps",
        "Gers, Schmidhuber & Cummins 2000",
        "attenuation",
    ),
    Claim(
        "b-identity",
        "With h held, the gradient passes from c_t to c_{t−1} multiplied by f_t and by nothing else.",
        (Test("identity_error", low=0.0, high=1e-12, effect=2.2e-16, spread=0),),
        CAROUSEL_SETTINGS,
        "∂c_t/∂c_{t−1} = diag f_t",
        "Gers, Schmidhuber & Cummins 2000",
        "hops",
    ),
    Claim(
        "b-unchanged",
        "The cell passes a gradient unchanged over 100 steps: its size within a factor of two, its direction that of ∏f.",
        (
            Test(
                "passed_over_100",
                low=0.5,
                high=2.0,
                effect=1.0,
                spread=0.025,
                basis="published",
            ),
            Test("cell_cosine_at_100", low=0.9, effect=1.0, spread=0.002, basis="published"),
        ),
        LSTM_SETTINGS,
        "constant error flow",
        "Hochreiter & Schmidhuber 1997, section 4",
        "attenuation",
    ),
    Claim(
        "b-carousel",
        "Most of the gradient at lag 10 never left the cell path.",
        (Test("hop_share_at_10", low=0.5, high=1.5, effect=0.7, spread=0.077, basis="an earlier run"),),
        CAROUSEL_SETTINGS,
        figure="hops",
    ),
    Claim(
        "backends-agree",
        "On a CPU every backend's own gradients of inputs, h and c fade as the float64 sweep over states says, within a "
        "thousandth.",
        AGREE,
        _through(ON_CPU, "cpu"),
        figure="attenuation",
    ),
    Claim(
        "backends-agree-gpu",
        "On a GPU, too, every backend's own gradients fade as the sweep says, within a thousandth, in single precision.",
        AGREE,
        _through(ON_GPU, "cuda"),
        figure="attenuation",
    ),
    Claim(
        "b-hundreds",
        "An LSTM's gradient reaches beyond 100 steps before it has faded to a thousandth.",
        (Test("horizon", low=100.0, effect=1000, spread=70, basis="published"),),
        LSTM_SETTINGS,
        "lag 1000 bridged",
        "Hochreiter & Schmidhuber 1997, table 3",
        "attenuation",
    ),
)
RESIDUALS = (
    ("residual, normed", "residual_normed"), ("residual", "residual"), ("shortcut times 0.9", "residual_0.9"),
    ("shortcut halved", "residual_halved"), ("no shortcut", "plain"),
)  # fmt: skip
PER_LAYER = math.log(2) / 100  # nat: a factor of two over a hundred layers, as in the claim beside it
CLAIMS += (
    Claim(
        "b-residual",
        "A residual connection is the same trick in depth: it passes a gradient over 100 layers within a factor of two.",
        (Test("passed_over_100", low=0.5, high=2.0, effect=1.23, spread=0.084, basis="an earlier run"),),
        tuple(
            (label, f"probe=controls,network={network}")
            for label, network in RESIDUALS
        ),
        "CIFAR-10 error 6.61 % with the identity, 12.35 % with half of it",
        "He et al. 2016, table 1",
        "controls",
    ),
    Claim(
        "b-residual-rate",
        "A shortcut scaled by s passes the gradient at the rate ln s a layer, as a forget gate of s would; within a factor of "
        "two over 100 layers.",
        (Test("rate_over_shortcut", low=-PER_LAYER, high=PER_LAYER, effect=0.0024, spread=0.00025, basis="an earlier run"),),
        tuple((label, f"probe=controls,network={network}") for label, network in RESIDUALS[:-1]),
        "0.5: fails to learn or 12.35 % error; 1: 6.61 %",
        "He et al. 2016, table 1",
        "controls",
    ),
    Claim(
        "control-transformer",
        "A Transformer's gradient does not fade with lag: from 1 to 100 steps back it stays within a factor of two.",
        (Test("input_passed_over_100", low=0.5, high=2.0, effect=0.99, spread=0.15, basis="an earlier run"),),
        (("two blocks before training", "probe=controls,network=transformer"),),
        "paths of length O(1)",
        "Vaswani et al. 2017, table 1",
        "controls",
    ),
    Claim(
        "precision",
        "Kept in half precision, a gradient is exactly zero within 50 steps.",
        (Test("zero_lag", high=50.0, effect=26, spread=1.2, basis="an earlier run"),),
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
    question="How does the gradient of a loss decay with the lag back from it, and what of it does the cell path carry?",
    claim="A vanilla RNN's gradient fades exponentially within ten steps; an LSTM's cell passes it on unchanged.",
    cases=CASES,
    measure=measure,
    select_backends=select_backends,
    claims=CLAIMS,
    reuse_worker=True,
    forecast=forecast,
)
