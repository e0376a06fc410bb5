"""Study `speech`: resonators against SciPy, formants, labels, CTC by enumeration of alignments, streams, costs."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import signal
from torch.nn import functional

from bench.harness.case import Case
from bench.studies.speech import CASES, STUDY, learning, measure, recognition, synthesis
from bench.studies.speech.recognition import CannotStream, Recognizer, edit_distance, greedy, log_mel, samples_of
from bench.studies.speech.sizes import CLASSES, MISMATCH, NAMES, STACKED, parameters
from bench.studies.speech.synthesis import CASCADE, PHONES, RATE, UPDATE
from impls import UnknownName

BANDS = 16


@pytest.fixture(scope="module")
def spoken() -> synthesis.Utterances:
    return synthesis.speak(3, 24, samples_of(24), 5)


def held(values: np.ndarray | float, samples: int) -> np.ndarray:
    """The same values at every update."""
    return np.broadcast_to(np.asarray(values, float)[None, :, None], (samples // UPDATE, np.size(values), 1)).copy()


# The source and the filter.


def test_resonators_that_stay_are_scipys() -> None:
    random, samples = np.random.default_rng(0), 1000
    frequency, width = np.array([500.0, 1500, 2500, 3500, 3750, 4600]), np.array([60.0, 90, 150, 200, 200, 1000])
    pulses, noise = (random.standard_normal((samples, 1)) for _ in range(2))
    gain = np.array([0.7, 0.1, 0.2, 0.3, 0.4, 0.5])
    found = synthesis.resonate(pulses, noise, held(gain, samples), held(frequency, samples), held(width, samples))
    a, b, c = synthesis.coefficients(frequency, width)

    def through(stage: int, x: np.ndarray) -> np.ndarray:
        return np.asarray(signal.lfilter([a[stage]], [1, -b[stage], -c[stage]], x))

    voiced = 0.7 * pulses[:, 0]
    for stage in range(CASCADE):
        voiced = through(stage, voiced)
    hissed = sum(gain[k + 1] * through(stage, noise[:, 0]) for k, stage in enumerate(synthesis.BESIDE)) + 0.5 * noise[:, 0]
    np.testing.assert_allclose(found[:, 0], voiced + hissed, atol=2e-4 * np.abs(voiced + hissed).max())


@pytest.mark.parametrize("vowel", ["i", "ɑ", "u"])
def test_a_vowel_has_its_peaks_at_its_formants(vowel: str) -> None:
    """Driven by one impulse, so that nothing but the resonators shapes the spectrum; F1 and F2 lie apart in these three."""
    samples = 2000
    frequency, width, gain = (values[PHONES.index(vowel)] for values in synthesis.targets())
    impulse = np.zeros((samples, 1))
    impulse[0] = 1
    audio = synthesis.resonate(impulse, 0 * impulse, *(held(values, samples) for values in (gain, frequency, width)))[:, 0]
    spectrum = np.abs(np.fft.rfft(audio, 8000))
    peaks = signal.find_peaks(spectrum)[0] * RATE / 8000
    for formant in synthesis.VOWELS[vowel][:2]:
        assert np.abs(peaks - formant).min() < 25, (formant, peaks)


def test_friction_is_as_loud_as_vowels_and_no_louder() -> None:
    """Decibels of sounds that are held, over ɑ: a first run had friction 19 dB above vowels."""
    samples = 2000
    pulses = synthesis.pulses(np.full((samples, 1), 120.0))
    noise = np.random.default_rng(0).standard_normal((samples, 1))

    def level(phone: str) -> float:
        frequency, width, gain = (values[PHONES.index(phone)] for values in synthesis.targets())
        audio = synthesis.resonate(pulses, noise, *(held(values, samples) for values in (gain, frequency, width)))
        return 20 * np.log10(audio[samples // 4 :].std())

    over = {phone: level(phone) - level("ɑ") for phone in "fsʃ"}
    assert -8 < over["ʃ"] < 6 and -12 < over["s"] < 4 and -28 < over["f"] < -12, over


def test_a_voice_has_its_pitch() -> None:
    wave = synthesis.pulses(np.full((4000, 1), 125.0))[:, 0]
    alike = np.correlate(wave, wave, "full")[len(wave) - 1 :]
    assert 40 + int(alike[40:120].argmax()) == RATE // 125


def test_there_are_phones_enough_and_each_sounds() -> None:
    frequency, _, gain = synthesis.targets()
    assert len(set(PHONES)) == len(PHONES) == CLASSES - 1 >= 20 and (frequency[:, :3] > 0).all()
    hisses = {phone for phone, row in zip(PHONES, gain, strict=True) if row[1:].any()}
    voiced = {phone for phone, row in zip(PHONES, gain, strict=True) if row[0]}
    assert hisses == set(synthesis.FRICTION) and voiced == set(PHONES) - {"f", "s", "ʃ"}


def test_utterances_are_labelled_as_they_were_spoken(spoken: synthesis.Utterances) -> None:
    lengths = spoken.lengths
    assert set(lengths) <= {2, 3, 4, 5} and spoken.audio.shape == (24, samples_of(24))
    for phones, begins, ends, length in zip(spoken.phones, spoken.begins, spoken.ends, lengths, strict=True):
        assert (phones[:length] >= 0).all() and (phones[length:] == -1).all() and (np.diff(phones[:length]) != 0).all()
        assert (begins[1:length] == pytest.approx(ends[: length - 1])) and 0.02 <= begins[0] <= 0.08
        assert (np.diff(ends[:length]) > 0).all() and ends[length - 1] <= spoken.audio.shape[1] / RATE - 0.1 + 1e-9
    again = synthesis.speak(3, 24, samples_of(24), 5)
    assert np.array_equal(again.audio, spoken.audio) and not np.array_equal(
        synthesis.speak(4, 2, 2500, 3).audio[0], again.audio[0]
    )


def test_sibilants_lie_where_their_labels_say(spoken: synthesis.Utterances) -> None:
    """In the middle of an s, z or ʃ more of the energy is above 2.2 kHz than in the middle of a vowel."""
    shares: dict[bool, list[float]] = {True: [], False: []}
    for audio, phones, ends in zip(spoken.audio, spoken.phones, spoken.ends, strict=True):
        for phone, first, last in zip(phones[1:], ends, ends[1:], strict=False):
            name = PHONES[phone]
            if phone < 0 or not (name in synthesis.VOWELS or name in "szʃ"):
                continue
            middle = int((first + last) / 2 * RATE)
            power = np.abs(np.fft.rfft(audio[middle - 128 : middle + 128])) ** 2
            shares[name in synthesis.VOWELS].append(power[57:].sum() / power.sum())
    assert len(shares[False]) >= 3 and min(shares[False]) > np.median(shares[True])


# Features, decoding, errors.


@pytest.mark.parametrize("hertz", [300, 900, 2000, 4000])
def test_a_tone_peaks_in_the_band_of_its_frequency(hertz: int) -> None:
    tone = np.sin(2 * np.pi * hertz * np.arange(samples_of(4)) / RATE).astype(np.float32)
    middles = recognition.hertz_of(
        np.linspace(recognition.mel_of(recognition.LOWEST), recognition.mel_of(recognition.HIGHEST), BANDS + 2)
    )[1:-1]
    found = log_mel(tone[None], BANDS).reshape(4, STACKED, BANDS)
    nearest = np.abs(middles - hertz).argmin()
    assert (np.abs(found.argmax(-1) - nearest) <= 0).all()


def test_features_read_no_further_than_they_say(spoken: synthesis.Utterances) -> None:
    audio = spoken.audio[:2].copy()
    before, heard = log_mel(audio, BANDS), round(float(recognition.available(9)) * RATE)
    audio[:, heard:] = 0
    after = log_mel(audio, BANDS)
    assert np.array_equal(before[:10], after[:10]) and not np.array_equal(before[10], after[10])


def test_ctc_is_the_sum_over_all_alignments() -> None:
    """Four steps of three classes: every string of classes is merged by the decoder's own rule and its probability added."""
    logits = torch.tensor([[0.3, -1.0, 0.8], [1.2, 0.1, -0.4], [-0.7, 0.5, 0.9], [0.2, 0.6, -0.3]], dtype=torch.float64)
    likely = logits.softmax(-1)
    for phones in ([1], [0, 1], [1, 1], [0]):
        total = sum(
            float(np.prod([float(likely[step, label]) for step, label in enumerate(path)]))
            for path in itertools.product(range(3), repeat=4)
            if [phone for phone, _ in greedy(path)] == phones
        )
        found = functional.ctc_loss(
            logits.log_softmax(-1)[:, None], torch.tensor([[phone + 1 for phone in phones]]), torch.tensor([4]),
            torch.tensor([len(phones)]), reduction="sum",
        )  # fmt: skip
        assert float(found) == pytest.approx(-np.log(total), rel=1e-9)


def test_repeats_are_merged_and_blanks_dropped() -> None:
    assert list(greedy([0, 2, 2, 0, 2, 3, 3, 0])) == [(1, 1), (1, 4), (2, 5)]
    assert list(greedy([2, 3], before=2)) == [(2, 1)]


@pytest.mark.parametrize(
    ("one", "other", "edits"),
    [("kitten", "sitting", 3), ("saturday", "sunday", 3), ("", "abc", 3), ("abc", "", 3), ("abc", "abc", 0), ("ab", "ba", 2)],
)
def test_edit_distances_are_those_known(one: str, other: str, edits: int) -> None:
    assert edit_distance([ord(each) for each in one], [ord(each) for each in other]) == edits


# Networks.


def recognizer(case: Case) -> Recognizer:
    heard = np.random.default_rng(0).normal(2, 3, (5, 4, case.spec.input_size)).astype(np.float32)
    return Recognizer(str(case.factor("network")), case.spec, 0, heard)


def network(name: str, scale: str = "cpu") -> Case:
    return next(case for case in CASES[scale] if case.factor("network") == name)  # pyright: ignore[reportArgumentType]


def test_step_by_step_the_stream_says_what_the_whole_says(spoken: synthesis.Utterances) -> None:
    model = recognizer(network("streaming"))
    features, state, logits = torch.from_numpy(log_mel(spoken.audio[:1], BANDS)), None, []
    with torch.no_grad():
        for x in features:
            found, state = model.step(x[None], state)
            logits.append(found)
        torch.testing.assert_close(torch.cat(logits), model(features), rtol=1e-5, atol=1e-5)
    for audio in spoken.audio[:4]:
        said = [phone for phones in recognition.stream(model, audio, BANDS) for phone in phones]
        assert said == recognition.transcribe_audio(model, audio, BANDS)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "streaming"])
def test_what_reads_the_future_cannot_stream(name: str) -> None:
    model = recognizer(network(name))
    x = torch.randn(12, 1, model.spec.input_size)
    later = x.clone()
    later[8:] = 0
    with torch.no_grad():
        assert not torch.equal(model(x)[6], model(later)[6])
    with pytest.raises(CannotStream, match=f"of kind {name}.*called streaming"):
        model.step(x[:1], None)


def test_unknown_networks_are_refused() -> None:
    with pytest.raises(UnknownName, match="network"):
        recognition.body("oracle", network("streaming").spec, 0)


def test_every_network_has_as_many_parameters() -> None:
    for scale in ("cpu", "gpu"):
        wanted = parameters("streaming", network("streaming", scale).spec)
        for case in CASES[scale]:
            assert parameters(str(case.factor("network")), case.spec) == pytest.approx(wanted, rel=MISMATCH)
    for case in CASES["cpu"]:
        assert recognizer(case).parameter_count() == parameters(str(case.factor("network")), case.spec)
    assert all(case.spec.hidden_size % 8 == 0 for case in CASES["gpu"])


# Measurement.


def test_memory_is_what_was_allocated_at_a_time() -> None:
    assert learning.allocated(lambda: torch.ones(1000) + torch.ones(1000)) == 12_000
    assert learning.allocated(lambda: [torch.ones(1000).sum() for _ in range(3)]) < 8_000


def test_delays_count_from_a_phones_beginning() -> None:
    begins, ends = np.array([[0.1, 0.2]]), np.array([[0.2, 0.5]])
    spoken = synthesis.Utterances(np.zeros((1, RATE), np.float32), np.array([[3, 4]]), begins, ends)
    test, judged, tenth = learning.Corpus(spoken, np.zeros((1, 1, 1))), learning.Judged(0, 2, 1, {0: [6, 16]}), np.array([0.1])
    whole = learning.mean_delay(judged, test, learning.Costs(tenth, tenth, None))
    assert whole == pytest.approx((0.4 + 0.3) / 2 + 0.1)
    streamed = learning.Costs(tenth, tenth, learning.Streamed(tenth, tenth, tenth))
    heard = (250 + 20 * 100) / RATE, (250 + 50 * 100) / RATE  # three frames a step, the last of them counted from 0
    assert learning.mean_delay(judged, test, streamed) == pytest.approx(np.mean(heard) - 0.15 + 0.003)
    assert np.isnan(learning.mean_delay(replace(judged, right={}), test, streamed))


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[str, tuple[tuple[float, ...], tuple[int, ...]]]]:
    return {
        str(case.factor("network")): {item.metric: (item.samples, item.blocks) for item in measure("reference", case)}
        for case in CASES["smoke"]
    }


def test_a_measurement_has_errors_costs_and_memory(measured) -> None:
    stream, whole = measured["streaming"], measured["convolution"]
    assert next(iter(stream)) == next(iter(whole)) == "phone_error" and stream["phone_error"][1] == (1, 1, 1)
    case = next(case for case in CASES["smoke"] if case.factor("network") == "streaming")
    assert (
        stream["state_bytes"][0] == (2 * 4 * case.spec.hidden_size,) and not {"state_bytes", "streaming_bytes"} & whole.keys()
    )
    for metric in ("whole_real_time_factor", "streaming_real_time_factor", "slowest_step_seconds"):
        assert stream[metric][1] == (8, 8, 8) and min(stream[metric][0]) > 0
    short, long = stream["streaming_bytes"][0][:2]
    assert short == long and whole["whole_bytes"][0][1] > 4 * whole["whole_bytes"][0][0]


def test_training_lowers_the_loss() -> None:
    case = replace(network("convolution"), batch=16)
    case = replace(case, factors=tuple((dict(case.factors) | {"updates": 60}).items()), steps=24)
    corpus = learning.Corpus(spoken := synthesis.speak(5, 32, samples_of(24), 4), log_mel(spoken.audio, BANDS))
    losses = [
        learning.train(replace(case, factors=tuple((dict(case.factors) | {"updates": n}).items())), corpus, 0).loss
        for n in (1, 60)
    ]
    assert losses[1] < losses[0] / 3


def test_claims_have_their_cases_and_forecasts_fit() -> None:
    there = {case.factor("network") for case in CASES["cpu"]}
    for claim in STUDY.claims:
        for _, selection in claim.settings:
            named = dict(part.split("=", 1) for part in selection.split(","))
            assert named["study"] == "speech" and set(named["network"].split("|")) <= there, claim.name
    assert STUDY.forecast is not None
    seconds = {scale: sum(STUDY.forecast(case) or 0 for case in CASES[scale]) for scale in ("smoke", "cpu", "gpu")}
    assert seconds["smoke"] < 6 and seconds["cpu"] / 2 < 90 and seconds["gpu"] < 540
