"""How time, memory and energy grow with length, width, depth and batch, for an LSTM, a Transformer and two parallel scans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from bench import costs
from bench.harness.case import Case, Factor
from bench.harness.study import REFERENCE, Scale, Study
from bench.harness.suites import Pace
from bench.studies import matching
from bench.studies.matching import Match
from bench.studies.scaling.claims import CLAIMS, NEWTON_INITS
from bench.worker import prepare
from impls import LSTMSpec, LSTMStackSpec, MinLSTMSpec, Phase, SSMSpec, TransformerSpec, UnknownName
from impls.specs.recurrent import Residual, Spec
from results.record import Measurement

Factors = tuple[tuple[str, Factor], ...]
Model = tuple[Spec, Factors]
PHASES: tuple[Phase, ...] = ("forward_backward", "forward", "step")
COMPARED = ("lstm_stack", "transformer")  # whose crossovers are asked for: at more lengths, and more often, than the scans
ALL = (*COMPARED, "minlstm", "ssm")
LSTM_ON_GPU = ("cuda", "cudnn")  # the better first


def measure(backend: str, case: Case) -> Iterator[Measurement]:
    """Peak memory and, on a GPU, energy of one call; the rounds of Newton's method; or an LSTM of equal cost. Imported in the
    worker alone."""
    if case.factor("sweep") == "newton":
        from bench.studies.scaling import newton

        yield from newton.measure(case)
        return
    if case.factor("sweep") == "matched":
        yield from measure_matched(backend, case)
        return
    from bench.worker import memory

    yield from memory.measure_memory(backend, case)
    if case.spec.device == "cuda":
        yield from memory.measure_energy(prepare.load(case, backend))


# An LSTM that costs what a Transformer costs, by each of the three contracts, and both timed in rounds in one worker. What a
# match by time is depends on the machine, so it is made where the case is measured and stands in the record. On a GPU the
# LSTM runs on our own kernels, in the Transformer's process: both are PyTorch's.

MATCHED_SAMPLES = 21


def measure_matched(backend: str, case: Case) -> Iterator[Measurement]:
    """The case is the Transformer's; its factor `matched` says by what. Of the LSTM that is matched to it:

    matched_time, its_time           seconds a call of the LSTM and of the Transformer, samples in rounds
    matched_size                     the LSTM's width; noted is the backend that ran it
    matched_parameters, matched_flops, matched_seconds    the LSTM's over the Transformer's; one of them is the match

    Raises `prepare.Skip` where no LSTM takes as long (where the shortest takes longer, none ever does), or where the LSTM's
    backend refuses.
    """
    its_backend = lstm_backend(backend, case)
    if its_backend != backend:
        prepare.validate_backend(replace(case, spec=_lstm(case.spec)), its_backend)
    try:
        found = match_lstm(backend, case)
    except matching.Unmatched as error:
        raise prepare.Skip(str(error)) from error
    lstm = replace(case, spec=found.spec)
    own, its = matching.interleaved_times([prepare.prepare(lstm, its_backend), prepare.prepare(case, backend)], MATCHED_SAMPLES)
    yield Measurement("matched_time", "s", tuple(own))
    yield Measurement("its_time", "s", tuple(its))
    yield Measurement("matched_size", "1", (float(found.spec.hidden_size),), notes=(f"LSTM by {its_backend}",))
    counted, of = lstm.counts(), case.counts()
    ratios = {name: counted[name] / of[name] for name in ("parameters", "flops")}
    for name, ratio in (ratios | {"seconds": matching.ratio(own, its)}).items():
        yield Measurement(f"matched_{name}", "1", (ratio,))


def lstm_backend(backend: str, case: Case) -> str:
    """What runs the LSTM beside a Transformer by `backend`."""
    return LSTM_ON_GPU[0] if case.spec.device == "cuda" else backend


def _lstm(spec: Spec) -> LSTMStackSpec:
    """As deep as the Transformer, of its dtype and on its device; narrow."""
    return LSTMStackSpec(spec.input_size, 8, spec.num_layers, dtype=spec.dtype, device=spec.device)


def match_lstm(backend: str, case: Case) -> Match:
    """By the case's factor `matched`. Raises `matching.Unmatched`, or `UnknownName` with the contracts there are."""
    by, spec = case.factor("matched"), case.spec
    lstm = _lstm(spec)
    if by == "parameters":
        return matching.by_parameters(lstm, spec)
    if by == "flops":
        return matching.by_flops(lstm, spec, context=max(1, case.steps // 2))  # the mean of causal training
    if by == "time":
        return matching.by_time(case, lstm, backend, beside=lstm_backend(backend, case))
    raise UnknownName("contract", str(by), ("parameters", "flops", "time"))


def is_standalone(case: Case) -> bool:
    return case.factor("sweep") in ("memory", "newton", "matched")


def repetitions(case: Case) -> int:
    """Twice where a crossover is asked for: a peak of memory and energy have no spread but over workers, and a crossover pools
    it over lengths. Rounds of Newton's method have theirs over seeds."""
    return 2 if case.factor("sweep") == "memory" and case.spec.cell in COMPARED else 1


def select_backends(case: Case, backends: Sequence[str]) -> tuple[str, ...]:
    """Each architecture at its best: PyTorch, but for an LSTM on a GPU our own kernels, or cuDNN where those are not asked for.

    One of the two, the first of `LSTM_ON_GPU`: there is no time for both. What differs between them `throughput` measures.
    """
    if case.factor("sweep") == "newton":
        return (REFERENCE,)
    best = LSTM_ON_GPU if case.spec.device == "cuda" and case.spec.cell == "lstm_stack" else ("torch",)
    return tuple(name for name in best if name in backends)[:1]


def matched(like: Residual, heads: int = 4, state_size: int = 16) -> list[Model]:
    """The four architectures, all with as many parameters as `like`, within `matching.TOLERANCE`. Raises `matching.Unmatched`.

    heads: of the Transformer on a CPU; on a GPU their size is given, and their number follows (`matching.Alignment`).
    """
    sizes = {"num_layers": like.num_layers, "dtype": like.dtype, "device": like.device}
    width = like.hidden_size
    others: list[Spec] = [
        TransformerSpec(like.input_size, 2 * heads, num_heads=heads, **sizes),
        MinLSTMSpec(like.input_size, width, **sizes),
        SSMSpec(like.input_size, width, state_size=state_size, **sizes),
    ]
    found = [(each.spec, each.factors) for each in (matching.by_parameters(other, like) for other in others)]
    return [(like, (("matched", "parameters"), ("mismatch", 0.0))), *found]


def _over_length(models: list[Model], lengths: Sequence[int], tokens: int, phases: Sequence[Phase] = PHASES) -> Iterator[Case]:
    """Tokens a call held constant: the batch shrinks as sequences grow. A stream has one sequence and T tokens behind it."""
    for spec, match in models:
        for phase in phases:
            for steps in lengths:
                batch = 1 if phase == "step" else tokens // steps
                yield Case(spec, steps, batch, phase, factors=(("sweep", "tokens"), *match))


def _one_sequence(models: list[Model], lengths: Sequence[int]) -> Iterator[Case]:
    for spec, match in models:
        yield from (Case(spec, steps, 1, "forward_backward", factors=(("sweep", "single"), *match)) for steps in lengths)


def _memory(models: list[Model], lengths: Sequence[int], tokens: int) -> Iterator[Case]:
    for spec, match in models:
        for steps in lengths:
            yield Case(spec, steps, tokens // steps, "forward_backward", factors=(("sweep", "memory"), *match))


def _sizes(
    like: LSTMStackSpec, widths: Sequence[int], depths: Sequence[int], batches: Sequence[int], steps: int, *, heads: int = 4,
    state_size: int = 16, cells: Sequence[str] = ALL,
) -> Iterator[Case]:  # fmt: skip
    """Width, depth and batch in turn about one middle, which all three share: `like`, with the second of the batches."""
    changed = [(like, batch) for batch in batches]
    changed += [(replace(like, hidden_size=width), batches[1]) for width in widths if width != like.hidden_size]
    changed += [(replace(like, num_layers=depth), batches[1]) for depth in depths if depth != like.num_layers]
    for spec, batch in changed:
        for model, match in matched(spec, heads, state_size):
            if model.cell in cells:
                factors = (("sweep", "sizes"), ("size", spec.hidden_size), *match)
                yield Case(model, steps, batch, "forward_backward", factors=factors)


def _matched(
    models: list[Model], steps: int, batch: int, contracts: Sequence[str] = ("parameters", "flops", "time")
) -> Iterator[Case]:
    """The Transformer, and an LSTM of equal cost by each contract (see `measure_matched`)."""
    transformer = next(spec for spec, _ in models if spec.cell == "transformer")
    for by in contracts:
        yield Case(transformer, steps, batch, "forward_backward", factors=(("sweep", "matched"), ("matched", by)))


def _newton(lengths: Sequence[int], seeds: int, inits: Sequence[str] = NEWTON_INITS) -> Iterator[Case]:
    for init in inits:
        for steps in lengths:
            factors = (("sweep", "newton"), ("init", init), ("seeds", seeds))
            yield Case(LSTMSpec(8, 16, dtype="float64"), steps, 1, "forward", factors=factors)


def _smoke() -> Iterator[Case]:
    models = matched(LSTMStackSpec(16, 44), state_size=2)
    yield from _over_length(models[:2], (8, 16), 16, ("forward_backward",))
    yield from _memory(models[:1], (16,), 16)
    yield from _newton((32,), 3, ("pytorch",))
    yield from list(_matched(models, 8, 2))[:2]  # calls of a few microseconds are not matched by time


def _cpu() -> Iterator[Case]:
    like = LSTMStackSpec(64, 96)
    models = matched(like, state_size=4)
    compared, scans = models[:2], models[2:]
    lengths = (64, 128, 256, 512, 1024, 2048, 4096)
    yield from _over_length(compared, lengths, 4096)
    yield from _over_length(scans, (64, 512, 4096), 4096, ("forward_backward", "step"))
    yield from _one_sequence(compared, (256, 512, 1024, 2048))
    yield from _memory(compared, (64, 512, 4096), 4096)
    yield from _memory(scans, (64, 4096), 4096)
    yield from _sizes(like, (52, 96, 192), (1, 2, 4), (1, 4, 16), 128, heads=4, state_size=4)
    yield from _newton((1024,), 3)
    yield from _matched(models, 256, 4)


def _gpu() -> Iterator[Case]:
    """LSTM widths for which all three others have an aligned match, and of which our persistent-cluster kernels hold the first
    two; at 384, 768 and 1536 the Transformer's are 320, 640 and 1280, with the same feed-forward ratio of 3.8."""
    like = LSTMStackSpec(64, 384, dtype="bfloat16", device="cuda")
    models = matched(like)
    compared, scans = models[:2], models[2:]
    yield from _over_length(compared, (64, 1024, 4096, 16_384, 65_536), 65_536, ("forward_backward",))
    yield from _over_length(compared, (64, 1024, 16_384), 65_536, ("forward",))
    yield from _over_length(compared, (64, 4096, 65_536), 65_536, ("step",))
    yield from _over_length(scans, (64, 65_536), 65_536, ("forward_backward",))
    yield from _one_sequence(compared, (1024, 4096))  # at 256 the sizes have one
    yield from _memory(compared, (64, 32_768, 65_536), 65_536)  # the middle one is what the claim about energy names
    yield from _sizes(like, (384, 768, 1536), (1, 2, 4), (1, 8, 64), 256, cells=COMPARED)
    yield from _newton((512,), 5)
    # Wide enough for an aligned LSTM by every contract; by parameters all else is matched.
    yield from _matched(matched(replace(like, hidden_size=768)), 64, 256, ("flops", "time"))


def forecast(case: Case) -> float:
    """Seconds of one case: estimated from few rates.

    CPU: 50 GFLOP/s, 15 µs a sequential step and 20 µs a token of the state-space scan, trained; rounded from a run on two cores
    of an AMD EPYC. A forward pass alone takes at most half as long, since the backward pass is no shorter. CUDA: see
    `bench.costs`.
    """
    if case.factor("sweep") == "newton":
        return 1.5 + case.steps * 1.5e-3
    if case.spec.device == "cuda":
        return _on_gpu(case)
    training = case.phase == "forward_backward"
    counts = case.counts()
    call = counts["flops"] / 5e10
    share = case.spec.num_layers * (1.0 if training else 0.5)
    if case.spec.cell == "lstm_stack" and case.phase != "step":
        call += case.steps * 1.5e-5 * share
    if case.spec.cell == "ssm":
        call += counts["tokens"] * 2e-5 * share
    drawn = case.steps * case.batch * (case.spec.input_size + case.spec.output_size) * 5e-8
    if case.factor("sweep") == "matched":  # both sides at about 16 widths by time, by what is counted at one
        return 3.0 + (16 * 22 if case.factor("matched") == "time" else 50) * max(call, 1e-3)
    standalone = is_standalone(case)
    return drawn + (4 if standalone else 11) * call + (3.0 if standalone else 0.15)


def _on_gpu(case: Case) -> float:
    if case.factor("sweep") == "memory":  # a few calls, and the window of the counter
        return costs.START_SECONDS_H100 + costs.case_seconds(case, calls=9) + costs.ENERGY_SECONDS
    own = costs.case_seconds(case)
    if case.factor("sweep") == "matched":  # both sides; by time about 16 widths, most of them narrower, are loaded and called
        return costs.START_SECONDS_H100 + 2 * own + (16 * own / 3 if case.factor("matched") == "time" else 0)
    return own


CASES: dict[Scale, tuple[Case, ...]] = {"smoke": tuple(_smoke()), "quick": (), "cpu": tuple(_cpu()), "gpu": tuple(_gpu())}
STUDY = Study(
    question="How do time, memory and energy grow with length, width, depth and batch, and where do architectures cross over?",
    claim="An LSTM is linear and sequential in length; a Transformer is parallel over positions.",
    cases=CASES,
    measure=measure,
    standalone=is_standalone,
    repetitions=repetitions,
    forecast=forecast,
    select_backends=select_backends,
    repeats={"cpu": (3, Pace(1, 0.03, 0.02)), "gpu": (3, Pace(2, 0.02, 0.1))},
    claims=CLAIMS,
    reuse_worker=True,  # for rounds of Newton's method, arithmetic from seeds; memory and energy are a backend's, not shared
)
