"""Whether an LSTM can be evaluated in parallel over time: rounds of Newton's method, what they cost by count, and seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.harness.case import Case
from bench.harness.study import REFERENCE, Scale, Study
from impls import LSTMSpec, Phase
from impls.specs.residual import Device
from results.claims import Claim, Test
from results.record import Measurement

KINDS = {  # weights and Jacobian of each way of evaluation
    "full": ("full", "full"), "blocks": ("full", "blocks"), "quasi": ("full", "quasi"), "diagonal": ("diagonal", "blocks"),
}  # fmt: skip
KIND_NAMES = {
    "full": "LSTM, full Jacobian", "blocks": "LSTM, 2 × 2 blocks", "quasi": "LSTM, diagonal of the Jacobian",
    "diagonal": "diagonal cell, exact",
}  # fmt: skip
EXACT = ("full", "diagonal")
INITS = ("pytorch", "forget:1", "forget:5")
INIT_NAMES = {"pytorch": "PyTorch's initialisation", "forget:1": "forget bias 1", "forget:5": "forget bias 5"}
H100_LANES = 16_896  # of float32: 132 multiprocessors of 128 (NVIDIA H100 SXM5)


def measure(backend: str, case: Case) -> Iterator[Measurement]:
    """The framework is imported in the worker alone."""
    from bench.studies.parallel import measures

    measured = {
        "rounds": measures.measure_rounds, "agreement": measures.measure_agreement, "time": measures.measure_time,
    }  # fmt: skip
    yield from measured[str(case.factor("probe"))](case)


# CPU: rounded from a pilot on a busy AMD EPYC of two cores; CUDA: estimated, no GPU has run it.
ROUNDS = {"full": 50, "blocks": 80, "quasi": 100, "diagonal": 100}  # of the worst initialisation at 1024 steps
OPERATORS = 60  # calls of PyTorch in a round, of which each level of a scan adds a few
CALL_SECONDS = {"cpu": 5e-6, "cuda": 1.5e-5}
RATE = {"cpu": 2e10, "cuda": 5e12}  # operations a second of a round's many small products
STEP_SECONDS = {"cpu": 6e-5, "cuda": 3e-4}  # of a loop of PyTorch calls
FIRST_SECONDS = {"cpu": 1.0, "cuda": 12.0}  # backends and their first calls


def forecast(case: Case) -> float:
    """Seconds of a case: its rounds, and what is stepped beside them."""
    device, hidden, seeds = case.spec.device, case.spec.hidden_size, int(case.factor("seeds"))
    kind = next(kind for kind, (weights, jacobian) in KINDS.items() if _factors(case) == (weights, jacobian))
    probe = case.factor("probe")
    easy = case.factor("init") != "forget:5" and float(case.factor("gain")) <= 2
    rounds = {"full": 4, "blocks": 25, "quasi": 40, "diagonal": 6}[kind] if easy else ROUNDS[kind]
    work = case.steps * (40 * hidden**3 if kind == "full" else 10 * hidden**2 + 100 * hidden)
    solve = rounds * (OPERATORS * CALL_SECONDS[device] + work / RATE[device])
    loop = case.steps * STEP_SECONDS[device]
    if probe == "time":
        return FIRST_SECONDS[device] + seeds * (7 * solve + 5 * min(loop, 1.0))
    return 0.1 + seeds * solve + (1 if probe == "rounds" else 8 * seeds) * loop


def _factors(case: Case) -> tuple[str, str]:
    return str(case.factor("weights")), str(case.factor("jacobian"))


def select_backends(case: Case, backends: Sequence[str]) -> tuple[str, ...]:
    """Measured by the study's own code, once; it times sequential backends itself, beside Newton's method."""
    return (REFERENCE,)


def _case(
    probe: str, kind: str, hidden: int, steps: int, *, init: str = "pytorch", gain: float = 1, seeds: int = 5,
    phase: Phase = "forward", device: Device = "cpu",
) -> Case:  # fmt: skip
    weights, jacobian = KINDS[kind]
    factors = (
        ("probe", probe), ("weights", weights), ("jacobian", jacobian), ("init", init), ("gain", gain), ("seeds", seeds),
    )  # fmt: skip
    dtype = "float32" if probe == "time" else "float64"
    return Case(LSTMSpec(8, hidden, dtype=dtype, device=device), steps, 1, phase, factors=factors)


BASE, LENGTHS, WIDTHS, GAINS = 16, (64, 256, 1024), (8, 32, 64), (2, 4, 8)
TIMED, TIMED_WIDTH, TRAINED = (64, 256, 1024, 4096), 32, 1024


def _rounds(seeds: int, longest: int, device: Device = "cpu") -> Iterator[Case]:
    """Over length and initialisation; at 256 steps over width, and over the gain of W_hh."""
    for kind in KINDS:
        for init in INITS:
            lengths = LENGTHS if init == "forget:5" else (*LENGTHS, longest)
            yield from (_case("rounds", kind, BASE, steps, init=init, seeds=seeds, device=device) for steps in lengths)
        yield from (_case("rounds", kind, hidden, 256, seeds=seeds, device=device) for hidden in WIDTHS)
        yield from (_case("rounds", kind, BASE, 256, gain=gain, seeds=seeds, device=device) for gain in GAINS)


def _times(
    hidden: int, lengths: Sequence[int], kinds: Sequence[str], trained: int, *, seeds: int = 5, device: Device = "cpu"
) -> Iterator[Case]:
    for kind in kinds:
        yield from (_case("time", kind, hidden, steps, seeds=seeds, device=device) for steps in lengths)
        if kind in EXACT:
            yield _case("time", kind, hidden, trained, seeds=seeds, phase="forward_backward", device=device)


CASES: dict[Scale, tuple[Case, ...]] = {
    "smoke": (
        *(_case("rounds", kind, 4, 16, seeds=3) for kind in KINDS),
        *(_case("agreement", kind, 4, 16, seeds=3) for kind in KINDS),
        _case("time", "diagonal", 4, 16, seeds=3),
    ),
    "quick": (),
    "cpu": (
        *_rounds(5, 4096),
        *(_case("agreement", kind, BASE, 256) for kind in KINDS),
        *_times(TIMED_WIDTH, TIMED[:-1], ("full",), TRAINED),
        *_times(TIMED_WIDTH, TIMED, ("blocks", "diagonal"), TRAINED),
    ),
    "gpu": (
        *_times(64, (256, 1024, 4096, 16_384), ("full",), 4096, seeds=3, device="cuda"),
        *_times(256, (256, 1024, 4096), ("full",), 1024, seeds=3, device="cuda"),
        *_times(256, (256, 1024, 4096, 16_384, 65_536), ("diagonal",), 4096, seeds=3, device="cuda"),
    ),
}  # fmt: skip


def _at(label: str, probe: str, kind: str, more: str) -> tuple[str, str]:
    weights, jacobian = KINDS[kind]
    return label, f"study=parallel,probe={probe},weights={weights},jacobian={jacobian},{more}"


def _init(kind: str, init: str, more: str = f"hidden_size={BASE},gain=1") -> tuple[str, str]:
    return _at(f"{KIND_NAMES[kind]}, {INIT_NAMES[init]}", "rounds", kind, f"init={init},{more}")


def _lengths(kind: str, device: Device) -> tuple[tuple[str, str], ...]:
    lengths = sorted({case.steps for case in CASES[device if device == "cpu" else "gpu"] if _factors(case) == KINDS[kind]
                      and case.factor("probe") == "time"})  # fmt: skip
    phase = f"phase=forward,device={device}"
    return tuple(_at(f"{KIND_NAMES[kind]}, T = {steps}", "time", kind, f"steps={steps},{phase}") for steps in lengths)


DEER = "Lim et al. 2024"
PARARNN = "Danieli et al. 2026"
NAIVE = "up to 665× over a naive loop, diagonal cells"
CLAIMS = (
    Claim(
        "e-newton-path",
        "An LSTM cannot be parallelised over time: its critical path grows in proportion to its length, by Newton's method too "
        "(an exponent of 0.9 at least).",
        (Test("path_exponent", low=0.9, effect=0.18, spread=0.02, basis="a pilot"),),
        tuple(_init(kind, init, f"hidden_size={BASE},gain=1,steps<=1024") for kind in EXACT for init in INITS),
        "O(n) sequential operations",
        "Vaswani et al. 2017, table 1",
        "rounds",
    ),
    Claim(
        "e-newton-lengths",
        "As PyTorch initialises it, Newton's method needs at most ten rounds, whatever the length.",
        (Test("newton_rounds", low=0.0, high=10.0, effect=4, spread=0.5, basis="a pilot"),),
        tuple(
            _at(f"{KIND_NAMES[kind]}, T = {steps}", "rounds", kind, f"init=pytorch,gain=1,hidden_size={BASE},steps={steps}")
            for kind in EXACT
            for steps in (*LENGTHS, 4096)
        ),
        "about 3 rounds; fewer than 20",
        f"{PARARNN}, whose code does 3; {DEER}",
        "rounds",
    ),
    Claim(
        "e-newton-approximate",
        "An approximation of the full cell's Jacobian by each unit alone converges as well: in at most ten rounds.",
        (Test("newton_rounds", low=0.0, high=10.0, effect=20, spread=1.5, basis="a pilot"),),
        tuple(
            _at(f"{KIND_NAMES[kind]}, T = 1024", "rounds", kind, f"init=pytorch,gain=1,hidden_size={BASE},steps=1024")
            for kind in ("blocks", "quasi")
        ),
        "comparable to full Newton",
        "Gonzalez et al. 2024",
        "rounds",
    ),
    Claim(
        "e-newton-long-memory",
        "The longer the memory and the larger the recurrent weights, the more rounds: at forget bias 5 more than twice as many "
        "as PyTorch's initialisation needs, and so at four times its W_hh.",
        (Test("rounds_ratio", low=2.0, effect=11, spread=0.7, basis="a pilot"),),
        tuple(
            setting
            for kind in EXACT
            for setting in (
                _at(f"{KIND_NAMES[kind]}, forget bias 5, T = 1024", "rounds", kind,
                    f"init=pytorch|forget:5,gain=1,hidden_size={BASE},steps=1024"),
                _at(f"{KIND_NAMES[kind]}, gain 4, T = 256", "rounds", kind,
                    f"init=pytorch,gain<=4,gain!=2,hidden_size={BASE},steps=256"),
            )
        ),
        "few rounds where λ₁ < 0, many at 0",
        "Gonzalez et al. 2025",
        "rounds",
    ),
    Claim(
        "e-newton-states",
        "Newton's method gives the states and gradients of stepping: in float64 to 10⁻¹⁰.",
        (
            Test("state_error", low=0.0, high=1e-10, effect=1e-15, spread=0),
            Test("gradient_error", low=0.0, high=1e-10, effect=1e-15, spread=0),
        ),
        tuple(_at(KIND_NAMES[kind], "agreement", kind, f"hidden_size={BASE}") for kind in EXACT),
        "a relative difference of 10⁻³ and less in float32",
        f"{DEER}, their stored runs",
    ),
    Claim(
        "e-newton-work",
        "With the full Jacobian evaluation in parallel does at least H times the operations of stepping.",
        (Test("work_over_width", low=1.0, effect=8.5, spread=0.5, basis="a pilot"),),
        tuple(
            _at(f"H = {hidden}", "rounds", "full", f"init=pytorch,gain=1,steps=256,hidden_size={hidden}")
            for hidden in (*WIDTHS[:1], BASE, *WIDTHS[1:])
        ),
        "O(n³) in the width",
        DEER,
        "processors",
    ),
    Claim(
        "e-newton-work-diagonal",
        "With a diagonal cell it does at most 2 log₂ T times the operations of stepping that cell.",
        (Test("work_over_log", low=0.0, high=1.0, effect=1.6, spread=0.2, basis="a pilot"),),
        tuple(
            _at(f"T = {steps}", "rounds", "diagonal", f"init=pytorch,gain=1,hidden_size={BASE},steps={steps}")
            for steps in (*LENGTHS, 4096)
        ),
        "O(T H log T) against O(T H)",
        PARARNN,
        "processors",
    ),
    *(
        Claim(
            f"e-newton-processors{ending}",
            f"By count, {what} has the shorter time on an H100's {H100_LANES} lanes of float32.",
            (Test("processors", high=float(H100_LANES), effect=effect, spread=spread, basis="a pilot"),),
            tuple(
                _at(f"H = {hidden}", "rounds", kind, f"init=pytorch,gain=1,steps=256,hidden_size={hidden}")
                for hidden in (*WIDTHS[:1], BASE, *WIDTHS[1:])
            ),
            "",
            "Brent 1974: work / processors + critical path",
            "processors",
        )
        for ending, what, kind, effect, spread in (
            ("", "Newton's method with the full Jacobian", "full", 1e5, 1e4),
            ("-diagonal", "Newton's method on a diagonal cell", "diagonal", 1e3, 1e2),
        )
    ),
    Claim(
        "e-newton-cpu",
        "On a CPU stepping is the faster at every length.",
        (Test("newton_slowdown", low=1.0, effect=18.0, spread=4.0, basis="a pilot"),),
        (
            *(setting for kind in ("full", "blocks", "diagonal") for setting in _lengths(kind, "cpu")),
            *(
                _at(f"{KIND_NAMES[kind]}, training, T = {TRAINED}", "time", kind, "phase=forward_backward,device=cpu")
                for kind in EXACT
            ),
        ),
        figure="times",
    ),
    Claim(
        "e-newton-loop",
        "Over a loop of PyTorch calls, Newton's method on a diagonal cell is the faster.",
        (Test("newton_loop_speedup", low=1.0, effect=8.0, spread=2.0, basis="a pilot"),),
        _lengths("diagonal", "cpu"),
        NAIVE,
        f"{PARARNN}, on a GPU",
        "times",
    ),
    Claim(
        "e-newton-gpu",
        "On a GPU Newton's method on a diagonal cell is faster than the fastest sequential kernel.",
        (Test("newton_speedup", low=1.0),),
        _lengths("diagonal", "cuda"),
        f"{NAIVE}; 18× at T = 1000 to 2029× at 300 000 over a scan of GRU steps of one unit",
        f"{PARARNN}; {DEER}, their stored runs on a V100",
        "times",
    ),
    Claim(
        "e-newton-gpu-full",
        "On a GPU Newton's method with the full Jacobian is faster than the fastest sequential kernel.",
        (Test("newton_speedup", low=1.0),),
        _lengths("full", "cuda"),
        "no gain from some width on: O(n³)",
        DEER,
        "times",
    ),
)  # fmt: skip
STUDY = Study(
    question="At which length, width and initialisation does evaluating all steps of an LSTM at once win over stepping?",
    claim="An LSTM cannot be parallelised over time.",
    cases=CASES,
    measure=measure,
    all_processors=lambda case: case.factor("probe") == "time",
    select_backends=select_backends,
    claims=CLAIMS,
    reuse_worker=True,
    forecast=forecast,
)
