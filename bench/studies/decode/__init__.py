"""What one more token costs after so many: an LSTM's state against a Transformer's cache of keys and values.

All models have as many parameters as the Transformer with a head of keys and values for each of queries (on a GPU that one is
matched to an LSTM of an aligned width). A step is timed with its cache full (see `bench.worker.prepare.load`), and the ring
of the cache moves on: the context stays what the case says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import cast

import impls
from bench import costs
from bench.harness.case import LAUNCHES, Case, Factor
from bench.harness.study import Scale, Study
from bench.harness.suites import Pace
from bench.studies import matching
from bench.worker import prepare
from impls import Launch, LSTMSpec, Spec, SupportsBatchResize, TransformerSpec
from results.claims import Claim, Test
from results.record import Measurement

Factors = tuple[tuple[str, Factor], ...]

# Those that step as fast as their framework can; a loop in Python is no side at its best. On a GPU few of them: drawing the
# weights takes longer than timing them.
AT_THEIR_BEST = {
    ("cpu", "lstm"): ("jax", "onnxruntime", "torch"),
    ("cpu", "transformer"): ("jax", "torch"),
    ("cuda", "lstm"): ("cuda", "cudnn"),
    ("cuda", "transformer"): ("torch",),
}
ENERGY, STREAMS = (("sweep", "energy"),), (("sweep", "streams"),)


def measure(backend: str, case: Case) -> Iterator[Measurement]:
    """Joules of a token, or how many streams fit. Imported in the worker alone.

    Zero, because drawing a context for every stream would need more memory than what is counted.
    """
    from bench.worker import memory

    if case.factor("sweep") == "streams":
        yield from measure_streams(backend, case)
    else:
        yield from memory.measure_energy(prepare.verify(prepare.load(case, backend)))


# How many sequences a GPU holds at once: twice as many until memory runs out, then the middle, until the two are close.

CAPACITY_RESOLUTION = 16  # the number of sequences is known to a sixteenth


def measure_streams(backend: str, case: Case) -> Iterator[Measurement]:
    """Holds streams with the case's T tokens behind each, their states zero, and takes one step of all of them.

    streams       the most that ran
    streams_over  the fewest that ran out of memory; whatever else goes wrong is raised
    free_bytes    of the device before the weights were loaded
    """
    if case.spec.device != "cuda":
        raise prepare.Skip("streams are counted in the memory of a GPU, which is no one else's; ask for device=cuda")
    free = costs.free_bytes("cuda")
    loaded = cast(SupportsBatchResize, impls.get(backend).load(case.spec, *replace(case, steps=1).data()))

    def fits(streams: int) -> bool:
        try:
            loaded.widen(streams, case.steps)
            loaded.step()
            loaded.wait()
        except Exception as error:
            if not costs.ran_out(error):
                raise
            return False
        return True

    most, over = _bounds(fits)
    yield Measurement("streams", "1", (float(most),))
    yield Measurement("streams_over", "1", (float(over),))
    if free is not None:
        yield Measurement("free_bytes", "B", (float(free),))


def _bounds(fits: Callable[[int], bool]) -> tuple[int, int]:
    """The most known to fit (0 if not even one does) and the fewest known not to."""
    low, high = 0, 1
    while fits(high):
        low, high = high, 2 * high
    while high - low > max(1, low // CAPACITY_RESOLUTION):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low, high


def sweep(case: Case) -> str:
    """What is measured of the case: its time, or one of the two that are measured alone."""
    return str(dict(case.factors).get("sweep", "time"))


def models(
    base: TransformerSpec, window: int, lstm: LSTMSpec | None = None
) -> Iterator[tuple[str, Spec, tuple[tuple[str, str | float | int], ...]]]:
    """The Transformer, its two ways to a smaller cache, and an LSTM, by name; matched by parameters to the first.

    lstm: the one that the Transformer was matched to, where it was so and not the other way round.

    Raises `matching.Unmatched`.
    """
    yield "attention", base, ()
    grouped = matching.by_parameters(replace(base, num_kv_heads=1), base)
    yield "grouped", grouped.spec, grouped.factors
    yield "windowed", replace(base, window=window), ()
    if lstm is not None:
        matched = matching.Match(lstm, "parameters", base.parameter_count(), lstm.parameter_count())
    else:
        like = LSTMSpec(base.input_size, base.hidden_size, base.num_layers, dtype=base.dtype, device=base.device)
        matched = matching.by_parameters(like, base)
    yield "lstm", matched.spec, matched.factors


def _cases(
    base: TransformerSpec, window: int, contexts: Sequence[int], batch: int, more: Factors = (), *,
    lstm: LSTMSpec | None = None,
    launch: Launch = "eager",
) -> Iterator[Case]:  # fmt: skip
    for name, spec, factors in models(base, window, lstm):
        for context in contexts:
            yield Case(spec, context, batch, "step", factors=(("model", name), *factors, *more), launch=launch)


def _gpu() -> Iterator[Case]:
    """Small enough that the host draws every network of every replicate within the time there is."""
    lstm = LSTMSpec(64, 640, 4, dtype="bfloat16", device="cuda")
    base = matching.by_parameters(TransformerSpec(64, 512, 4, num_heads=8, dtype="bfloat16", device="cuda"), lstm).spec
    assert isinstance(base, TransformerSpec)
    both = ("attention", "lstm")
    for launch in LAUNCHES:
        yield from _cases(base, 1024, (128, 4096, 65536), 1, lstm=lstm, launch=launch)
        batched = _cases(base, 1024, (8192,), 32, lstm=lstm, launch=launch)
        yield from (each for each in batched if each.factor("model") in both)
    # By graph, so that waiting for the host takes no share of the energy.
    energy = _cases(base, 1024, (128, 4096, 65536), 1, ENERGY, lstm=lstm, launch="graph")
    yield from (each for each in energy if each.factor("model") in both)
    yield from (each for each in _cases(base, 1024, (4096,), 1, STREAMS, lstm=lstm) if each.factor("model") != "windowed")


def select_backends(case: Case, backends: Sequence[str]) -> tuple[str, ...]:
    """Energy and streams as PyTorch steps."""
    best = AT_THEIR_BEST[case.spec.device, case.spec.cell]
    if sweep(case) != "time":
        best = (("torch", "cudnn")[case.spec.cell == "lstm"],)
    return tuple(name for name in backends if name in best)


def forecast(case: Case) -> float:
    """Seconds of one case on one backend: its weights are drawn for itself and, in the first replicate, for the reduced
    case whose answer is checked, 32 ns a value on a CPU; an eager cache is filled; then its rounds.

    The draw is of two cores of an AMD EPYC; compiling is estimated. CUDA: see `bench.costs`; what is measured alone has a
    worker for itself, and the count of streams a search of about 6 s, estimated.
    """
    on_cpu, kind = case.spec.device == "cpu", sweep(case)
    filled = 0.0
    if case.spec.cell == "transformer":
        filled = case.batch * case.spec.sequence_flops(case.steps) / (8e10 if on_cpu else 5e13)
    if on_cpu:
        values = 2 * case.spec.parameter_count() + 2 * case.steps * case.batch * case.spec.input_size
        return values * 3.2e-8 + filled + 0.2
    alone = {"time": 0.0, "energy": costs.ENERGY_SECONDS, "streams": 6.0}[kind]
    return costs.case_seconds(case) + filled + alone + (0.0 if kind == "time" else costs.START_SECONDS_H100)


SMALL = TransformerSpec(16, 64, 2)
BASE = TransformerSpec(64, 256, 4)
CASES: dict[Scale, tuple[Case, ...]] = {
    "smoke": tuple(_cases(SMALL, 16, (8, 64), 1)),
    "quick": (),
    "cpu": tuple(_cases(BASE, 256, (64, 512, 4096), 1)),
    "gpu": tuple(_gpu()),
}


def _setting(label: str, model: str) -> tuple[str, str]:
    return label, f"study=decode,model={model},batch=1"


ATTENTION = _setting("attention, a head of keys and values for each of queries", "attention")
GROUPED = _setting("grouped queries, one head of keys and values", "grouped")
WINDOWED = _setting("attention to a window", "windowed")
LSTM = _setting("LSTM", "lstm")
IN_PRINT = "Llama-2 7B 6.76 → 28.57 ms, xLSTM 7B 6.14 → 6.21 ms a token for a context of 128 → 16 384"
SOURCE = "raw data of NX-AI/xlstm_scaling_laws (arXiv 2510.02228)"
CLAIMS = (
    Claim(
        "f-cache-grows",
        "A Transformer's cache grows in proportion to the context.",
        (Test("state_exponent", low=1.0, high=1.0, effect=1.0, spread=0),),
        (ATTENTION, GROUPED, WINDOWED),
        "2·L·n_kv·d_head·T·B values",
        "Shazeer 2019, section 2.4",
        "decode",
    ),
    Claim(
        "f-state-fixed",
        "An LSTM carries as many bytes after the longest context as after the shortest.",
        (Test("state_exponent", low=0.0, high=0.0, effect=0.0, spread=0),),
        (LSTM,),
        "2·L·H·B values",
        figure="decode",
    ),
    Claim(
        "f-token-slower",
        "A Transformer's token takes longer the more it remembers: over 1.2 times at the longest context.",
        (Test("time_over_context", low=1.2, effect=4.23, spread=1.46, basis="published"),),
        (ATTENTION, GROUPED, WINDOWED),
        IN_PRINT,
        SOURCE,
        "decode",
    ),
    Claim(
        "f-token-constant",
        "An LSTM's token takes as long after the longest context as after the shortest, within a tenth.",
        (
            Test(
                "time_over_context",
                low=1 / 1.1,
                high=1.1,
                effect=1.01,
                spread=0.036,
                basis="published",
            ),
        ),
        (LSTM,),
        IN_PRINT,
        SOURCE,
        "decode",
    ),
)
STUDY = Study(
    question="What does one more token cost after so many, in time and in memory, for an LSTM and for a Transformer?",
    claim="A Transformer's cache grows with the context and slows its token down; an LSTM's state is fixed.",
    cases=CASES,
    measure=measure,
    standalone=lambda case: sweep(case) != "time",
    repetitions=lambda case: 3 if sweep(case) == "energy" else 1,
    select_backends=select_backends,
    repeats={"cpu": (3, Pace(3, 0.04, 0.08)), "gpu": (2, Pace(6, 0.02, 0.1))},
    claims=CLAIMS,
    forecast=forecast,
)
