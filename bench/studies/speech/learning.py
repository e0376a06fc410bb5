"""Training by connectionist temporal classification, a seed at a time; errors, delays, and costs on a CPU core."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from bench.harness.case import Case
from bench.studies.descendants.learning import LARGEST_NORM, schedule
from bench.studies.gradients import cells
from bench.studies.speech import synthesis
from bench.studies.speech.recognition import (
    HOP,
    Recognizer,
    available,
    edit_distance,
    log_mel,
    samples_of,
    stream,
    transcribe,
    transcribe_audio,
)
from bench.studies.speech.sizes import STACKED, STAND_INS, TESTED
from bench.studies.speech.synthesis import RATE, Utterances
from results.record import Measurement

TIMED, WARM_UP = 20, 3  # utterances of the test, one after the other
LONGER = 8  # times as much audio, for the memory
STEP_SECONDS = STACKED * HOP / RATE  # of audio


@dataclass(frozen=True, slots=True)
class Corpus:
    """Utterances with their log-mel steps, float32 [T, N, I]."""

    spoken: Utterances
    heard: np.ndarray

    def reference(self, number: int) -> list[int]:
        """The phones of an utterance."""
        return self.spoken.phones[number, : self.spoken.lengths[number]].tolist()


@lru_cache(maxsize=2)
def corpus(seed: int, count: int, steps: int, most: int, bands: int) -> Corpus:
    """Made once a process: the networks of a study train on the same utterances, and are tested on the same others."""
    spoken = synthesis.speak(seed, count, samples_of(steps), most)
    return Corpus(spoken, log_mel(spoken.audio, bands))


def measure(case: Case) -> Iterator[Measurement]:
    """Blocks are seeds.

    phone_error              edits (insertions, deletions, substitutions) over the phones of the test
    output_delay             mean seconds from the beginning of a phone until it is said, in utterances without an error; what
                             needs the whole utterance says all of them when the last phone has ended and it has run
    right_utterances         share of utterances without an error
    whole_real_time_factor   seconds on one CPU core, from audio to phones, a second of audio; an utterance each
    whole_bytes              most that is allocated during it, beyond weights: of an utterance, and of one eight times as long
    streaming_real_time_factor, slowest_step_seconds   the same step by step, and each utterance's slowest step
    streaming_bytes          the same of both lengths, step by step; state_bytes: h and c, which a step hands to the next
    training_loss            nats a phone, of the last update
    network_parameters       with the readout; the record's own counts are of the case's spec
    """
    sizes = (case.steps, int(case.factor("phones")), int(case.factor("bands")))
    made = int(case.factor("utterances"))
    training, test = (corpus(2 * case.seed + part, count, *sizes) for part, count in enumerate((made, min(made, TESTED))))
    trained = [train(case, training, seed) for seed in range(int(case.factor("seeds")))]
    judged = [judge(each.model, test) for each in trained]
    with one_core():
        costs = [costs_of(each.model.cpu(), test, sizes[2]) for each in trained]
    errors = cells.measurement("phone_error", "of phones", [np.array([own.errors / own.phones]) for own in judged])
    yield replace(errors, notes=(*errors.notes, *_counted_otherwise(case)))
    delays = [mean_delay(own, test, cost) for own, cost in zip(judged, costs, strict=True)]
    yield cells.measurement("output_delay", "s", [np.array([delay]) for delay in delays])
    yield cells.measurement(
        "right_utterances", "of utterances", [np.array([len(own.right) / own.utterances]) for own in judged]
    )
    yield cells.measurement("whole_real_time_factor", "1", [own.real_time_factor for own in costs])
    yield cells.measurement("whole_bytes", "byte", [own.bytes for own in costs])
    if streamed := [own.streamed for own in costs if own.streamed is not None]:
        yield cells.measurement("streaming_real_time_factor", "1", [own.real_time_factor for own in streamed])
        yield cells.measurement("slowest_step_seconds", "s", [own.slowest for own in streamed])
        yield cells.measurement("streaming_bytes", "byte", [own.bytes for own in streamed])
        yield Measurement("state_bytes", "byte", (float(case.spec.state_bytes()),))
    yield cells.measurement("training_loss", "nat", [np.array([own.loss]) for own in trained])
    yield Measurement("network_parameters", "1", (float(trained[0].model.parameter_count()),))


def _counted_otherwise(case: Case) -> tuple[str, ...]:
    """What a record says where its counts, which are of its spec, are not those of the network."""
    name = str(case.factor("network"))
    return (f"counts of this record are of its spec: those of the {name} are network_parameters",) * (name in STAND_INS)


@dataclass(frozen=True, slots=True)
class Trained:
    """A network after its updates, and the loss of the last."""

    model: Recognizer
    loss: float


def train(case: Case, training: Corpus, seed: int) -> Trained:
    """From fresh weights by Adam, on batches drawn from the corpus."""
    updates, rate, own = int(case.factor("updates")), float(case.factor("rate")), case.seed * 1000 + seed
    model = Recognizer(str(case.factor("network")), case.spec, own, training.heard)
    device = model.mean.device
    heard = torch.from_numpy(training.heard).to(device)
    labels = torch.from_numpy(training.spoken.phones + 1).to(device)
    lengths = torch.from_numpy(training.spoken.lengths).to(device)
    steps = torch.full((case.batch,), case.steps, device=device)
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    random = np.random.default_rng([own, 13])
    loss = torch.tensor(float("nan"))
    for update in range(updates):
        for group in optimiser.param_groups:
            group["lr"] = rate * schedule(update / updates)
        batch = torch.from_numpy(random.integers(0, labels.shape[0], case.batch)).to(device)
        loss = functional.ctc_loss(model(heard[:, batch]).log_softmax(-1), labels[batch], steps, lengths[batch])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
        optimiser.step()
    return Trained(model, loss.item())


@dataclass(frozen=True, slots=True)
class Judged:
    """Edits over a test, phones and utterances in it, and which of these have no error, with the steps that said them."""

    errors: int
    phones: int
    utterances: int
    right: dict[int, list[int]]


def judge(model: Recognizer, test: Corpus) -> Judged:
    found = transcribe(model, test.heard)
    errors = [edit_distance(own.phones, test.reference(number)) for number, own in enumerate(found)]
    right = {number: own.steps for number, (own, count) in enumerate(zip(found, errors, strict=True)) if not count}
    return Judged(sum(errors), int(test.spoken.lengths.sum()), len(errors), right)


@dataclass(frozen=True, slots=True)
class Streamed:
    """Step by step: seconds a second of audio and the slowest step's seconds, of each utterance; bytes of both lengths."""

    real_time_factor: np.ndarray
    slowest: np.ndarray
    bytes: np.ndarray


@dataclass(frozen=True, slots=True)
class Costs:
    """On one CPU core, utterances as a whole: seconds a second of audio, bytes of both lengths; and streamed, where it can."""

    real_time_factor: np.ndarray
    bytes: np.ndarray
    streamed: Streamed | None


@contextmanager
def one_core() -> Iterator[None]:
    """PyTorch's operators on one thread meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def costs_of(model: Recognizer, test: Corpus, bands: int) -> Costs:
    """Seconds and bytes of the first utterances of a test, one after the other, warm."""
    audio, length = test.spoken.audio, test.spoken.audio.shape[1] / RATE
    order = (*range(WARM_UP), *range(min(TIMED, len(audio))))
    whole = np.array([_seconds(lambda n=n: transcribe_audio(model, audio[n], bands)) for n in order])[WARM_UP:] / length
    long = (audio[0], np.tile(audio[0], LONGER))
    whole_bytes = np.array([allocated(lambda of=of: transcribe_audio(model, of, bands)) for of in long], float)
    if model.network != "streaming":
        return Costs(whole, whole_bytes, None)
    steps = np.array([_step_seconds(model, audio[n], bands) for n in order])[WARM_UP:]
    streamed = np.array([allocated(lambda of=of: list(stream(model, of, bands))) for of in long], float)
    return Costs(whole, whole_bytes, Streamed(steps.sum(1) / length, steps.max(1), streamed))


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _step_seconds(model: Recognizer, audio: np.ndarray, bands: int) -> list[float]:
    """Of each step of an utterance."""
    steps, found = stream(model, audio, bands), []
    while True:
        started = time.perf_counter()
        if next(steps, None) is None:
            return found
        found.append(time.perf_counter() - started)


def allocated(call: Callable[[], object]) -> int:
    """Most bytes that PyTorch held on the CPU at a time beyond those it held before, by its profiler."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    results = profiler.profiler
    assert results is not None and results.kineto_results is not None
    events = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]  # pyright: ignore[reportAttributeAccessIssue]
    return int(np.cumsum([0, *changes]).max())


def mean_delay(judged: Judged, test: Corpus, costs: Costs) -> float:
    """Seconds from a phone's beginning until it is said, mean over the phones of utterances without an error; NaN without one.

    Step by step a phone is said when the audio of its step has been heard and the step has run; otherwise when the last phone
    has ended, as if that were known at once, and the network has run over the utterance.
    """
    found, length = [], test.spoken.audio.shape[1] / RATE
    for number, steps in judged.right.items():
        begins, ends = (times[number, : len(steps)] for times in (test.spoken.begins, test.spoken.ends))
        if costs.streamed is None:
            said = ends[-1] + np.median(costs.real_time_factor) * length
        else:
            said = available(np.array(steps)) + np.median(costs.streamed.real_time_factor) * STEP_SECONDS
        found += list(said - begins)
    return float(np.mean(found)) if found else float("nan")
