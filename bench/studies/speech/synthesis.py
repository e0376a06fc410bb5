"""Speech by formants: pulses and noise through resonators that move from phone to phone; which phone is when is known.

The source–filter model of Klatt (1980), at its 10 kHz: glottal pulses through five resonators one after the other, noise of
friction through four side by side. Speaker (length of the vocal tract, pitch), speed, every token's formants and the
background noise are drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from scipy import ndimage, signal

RATE = 10_000  # samples a second
UPDATE = 50  # samples that the resonators stay for, 5 ms
OPEN = (60.0, 0.0)  # dB of voicing and of friction of a vowel

# F1–F4 in Hz of 45 men (Hillenbrand, Getty, Clark & Wheeler 1995, table V).
VOWELS = {
    "i": (342, 2322, 3000, 3657), "ɪ": (427, 2034, 2684, 3618), "e": (476, 2089, 2691, 3649), "ɛ": (580, 1799, 2605, 3677),
    "æ": (588, 1952, 2601, 3624), "ɑ": (768, 1333, 2522, 3687), "ɔ": (652, 997, 2538, 3486), "o": (497, 910, 2459, 3384),
    "ʊ": (469, 1122, 2434, 3400), "u": (378, 997, 2343, 3357), "ʌ": (623, 1200, 2550, 3557), "ɝ": (474, 1379, 1710, 3334),
}  # fmt: skip
# F1–F3 and their bandwidths in Hz (Klatt 1980, table III); nasals without their pair of pole and zero.
CONSONANTS = {
    "w": (290, 610, 2150, 50, 80, 60), "j": (260, 2070, 3020, 40, 250, 500), "r": (310, 1060, 1380, 70, 100, 120),
    "l": (310, 1050, 2880, 50, 100, 280), "m": (480, 1270, 2130, 40, 200, 200), "n": (480, 1340, 2470, 40, 300, 300),
    "f": (340, 1100, 2080, 200, 120, 150), "v": (220, 1100, 2080, 60, 90, 120), "s": (320, 1390, 2530, 200, 80, 200),
    "z": (240, 1390, 2530, 70, 60, 180), "ʃ": (300, 1840, 2750, 200, 100, 300),
}  # fmt: skip
# Of friction, in dB: A3–A6 of the resonators side by side, and AB past them (Klatt 1980, table III).
FRICTION = {
    "f": (0, 0, 0, 0, 57),
    "v": (0, 0, 0, 0, 57),
    "s": (0, 0, 0, 52, 0),
    "z": (0, 0, 0, 52, 0),
    "ʃ": (57, 48, 48, 46, 0),
}
LEVELS = (-75.0, -78.0, -79.0, -80.0, -84.0)  # dB at which A3–A6 and AB stand in that synthesiser
SOURCES = {"f": (0.0, 60.0), "s": (0.0, 60.0), "ʃ": (0.0, 60.0), "v": (47.0, 50.0), "z": (47.0, 50.0)}  # dB: AV, AF
QUIET = {"m": 54.0, "n": 54.0, "w": 56.0, "j": 56.0, "r": 56.0, "l": 56.0}  # dB of voicing
HIGHER, HIGHER_WIDTHS = (3300.0, 3750.0, 4900.0), (250.0, 200.0, 1000.0)  # F4 (of a consonant), F5 and F6; their bandwidths
WIDTHS = (50.0, 70.0, 110.0)  # of a vowel's F1–F3
PHONES = (*VOWELS, *CONSONANTS)
CASCADE, FORMANTS = 5, 6
BESIDE = (2, 3, 4, 5)  # F3–F6: which formants the friction passes
QUIETLY = (0,) * 5
FRICTION_DB = -52.0  # added to friction, whose noise has a variance of 1: ʃ is about as loud as a vowel, f some 20 dB below

SECONDS = {"vowel": 0.115, "glide": 0.075, "nasal": 0.075, "fricative": 0.095}  # of a phone at the mean speed
LEAD, LEAST_TRAIL = (0.02, 0.08), 0.1  # seconds of silence before the first phone, and at least after the last
TRACT, SPEED, PITCH = (0.92, 1.32), (0.8, 1.25), (90.0, 150.0)  # frequencies of a short tract are higher
TOKEN_SPREAD = 0.03  # standard deviation of a token's formants, relative
NOISE_DB = (10.0, 30.0)  # speech over background noise
GLIDING, SWITCHING = 11, 5  # updates over which formants, and sources, move to the next phone's
AT_ONCE = 250  # utterances synthesised side by side: what the loop touches fits a cache
TOP = 0.48  # of the sampling rate: no formant lies above


@dataclass(frozen=True, slots=True)
class Utterances:
    """audio: float32 [N, S]. phones: numbers in `PHONES`, int64 [N, L], −1 after the last. begins, ends: seconds [N, L] at
    which each phone begins and ends, NaN after the last."""

    audio: np.ndarray
    phones: np.ndarray
    begins: np.ndarray
    ends: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        return (self.phones >= 0).sum(1)


def kind(phone: str) -> str:
    """Of a phone: a key of `SECONDS`."""
    if phone in VOWELS:
        return "vowel"
    return "fricative" if phone in FRICTION else "nasal" if phone in "mn" else "glide"


@lru_cache(maxsize=1)
def targets() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By phone: formants and bandwidths in Hz [P, 6]; gains of voicing, friction through F3–F6 and past them [P, 6]."""
    frequency, width, gain = (np.empty((len(PHONES), FORMANTS)) for _ in range(3))
    for row, phone in enumerate(PHONES):
        first = VOWELS[phone] if phone in VOWELS else (*CONSONANTS[phone][:3], HIGHER[0])
        frequency[row] = (*first, *HIGHER[1:])
        width[row] = (*(WIDTHS if phone in VOWELS else CONSONANTS[phone][3:]), *HIGHER_WIDTHS)
        voicing, friction = SOURCES.get(phone, (QUIET.get(phone, OPEN[0]), OPEN[1]))
        told = (
            np.where(a > 0, a + level + friction, -np.inf)
            for a, level in zip(FRICTION.get(phone, QUIETLY), LEVELS, strict=True)
        )
        gain[row] = (
            10 ** ((voicing - OPEN[0]) / 20) if voicing else 0.0,
            *(10 ** ((each + FRICTION_DB) / 20) for each in told),
        )
    return frequency, width, gain


def coefficients(frequency: np.ndarray, width: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """a, b, c of y_n = a x_n + b y_{n−1} + c y_{n−2}, whose gain at 0 Hz is 1 (Klatt 1980, equations 1 and 2)."""
    c = -np.exp(-2 * np.pi * width / RATE)
    b = 2 * np.exp(-np.pi * width / RATE) * np.cos(2 * np.pi * frequency / RATE)
    return 1 - b - c, b, c


def resonate(voiced: np.ndarray, noise: np.ndarray, gain: np.ndarray, frequency: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Both sources through resonators that change every `UPDATE` samples.

    Args:
        voiced: glottal pulses, which enter the first of the five resonators in a row, [S, N].
        noise: which enters each of the four side by side, and goes past them, [S, N].
        gain: of the pulses, of the noise into each of the four, and past them, at each update, [S / UPDATE, 6, N].
        frequency, width: of F1–F6 in Hz at each update, [S / UPDATE, 6, N].

    Returns: their sum, [S, N]. A step of the loop takes one sample through every resonator of every utterance; each in the row
    reads what the one before it gave a sample earlier, so that the row is four samples late, and the noise is made as late.
    """
    samples, count = voiced.shape
    late = CASCADE - 1
    rows = np.r_[np.arange(CASCADE), BESIDE]
    a, b, c = (each[:, rows].astype(np.float32) for each in coefficients(frequency, width))
    gain = gain.astype(np.float32)
    held = np.arange(samples + late) // UPDATE
    sounding, hissing = (np.zeros((samples + late, count), np.float32) for _ in range(2))
    at = held[:samples].clip(max=len(a) - 1)
    np.multiply(voiced, gain[at, 0], out=sounding[:samples])
    hissing[late:] = noise
    found = np.empty((samples + late, count), np.float32)
    x, y, last, before, passed = (np.zeros((len(rows), count), np.float32) for _ in range(5))
    for n in range(samples + late):
        now = min(held[n], len(a) - 1)
        x[0], x[1:CASCADE] = sounding[n], last[:late]
        np.multiply(gain[now, 1:5], hissing[n], out=x[CASCADE:])
        np.multiply(a[now], x, out=y)
        np.multiply(b[now], last, out=passed)
        y += passed
        np.multiply(c[now], before, out=passed)
        y += passed
        np.sum(y[late:], axis=0, out=found[n])
        before, last, y = last, y, before
    found[late:] += noise * gain[at, 5]
    return found[late:]


def pulses(pitch: np.ndarray) -> np.ndarray:
    """Glottal pulses, an impulse a period through a low-pass of 100 Hz, as they radiate: pitch in Hz [S, N] to [S, N]."""
    turns = np.cumsum(pitch / RATE, axis=0)
    impulses = np.diff(np.floor(turns), axis=0, prepend=0.0)
    a, b, c = coefficients(np.zeros(1), np.full(1, 100.0))
    flow = signal.lfilter(a / a, np.r_[1.0, -b, -c], impulses, axis=0)
    return np.diff(flow, axis=0, prepend=0.0)


def tracks(of_phone: np.ndarray, spread: int, at: np.ndarray) -> np.ndarray:
    """Values of each phone, [N, L, K], as steps over the updates that phone `at` [N, U] is spoken at, smoothed: [U, K, N]."""
    steps = np.take_along_axis(of_phone, at[..., None], 1)
    hann = np.asarray(signal.get_window("hann", spread + 2, fftbins=False))[1:-1]
    return ndimage.convolve1d(steps, hann / hann.sum(), axis=1, mode="nearest").transpose(1, 2, 0)


def speak(seed: int, count: int, samples: int, most: int) -> Utterances:
    """`count` utterances of `most` − 3 to `most` phones, none twice in a row, in `samples` samples each."""
    parts = [_speak([seed, first], min(AT_ONCE, count - first), samples, most) for first in range(0, count, AT_ONCE)]
    return Utterances(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Utterances)))


def _speak(seed: list[int], count: int, samples: int, most: int) -> Utterances:
    random = np.random.default_rng(seed)
    uniform: Callable[..., np.ndarray] = random.uniform
    lengths = random.integers(max(1, most - 3), most + 1, count)
    moves = random.integers(1, len(PHONES), (count, most))
    phones = (np.cumsum(moves, 1) + random.integers(0, len(PHONES), (count, 1))) % len(PHONES)
    spoken = np.arange(most) < lengths[:, None]
    seconds = np.array([SECONDS[kind(phone)] for phone in PHONES])[phones] * uniform(0.85, 1.15, (count, most))
    seconds = seconds / uniform(*SPEED, (count, 1)) * spoken
    lead, room = uniform(*LEAD, count), samples / RATE - LEAST_TRAIL
    seconds *= np.minimum(1.0, (room - lead) / seconds.sum(1))[:, None]
    ends = lead[:, None] + np.cumsum(seconds, 1)

    updates = -(-samples // UPDATE)
    times = (np.arange(updates) + 0.5) * UPDATE / RATE
    at = np.minimum((times[None, :, None] >= ends[:, None]).sum(-1), lengths[:, None] - 1)
    aloud = (times >= lead[:, None]) & (times < ends[:, -1:])
    frequency, width, gain = (values[phones] for values in targets())
    scale = uniform(*TRACT, count)
    frequency = frequency * scale[:, None, None] * random.normal(1, TOKEN_SPREAD, frequency.shape)
    frequency = np.minimum(tracks(frequency, GLIDING, at), TOP * RATE)
    gains = tracks(np.concatenate([gain, np.zeros((count, 1, gain.shape[-1]))], 1), SWITCHING, np.where(aloud, at, most))
    falling = np.linspace(1.1, 0.85, samples)[:, None]
    voiced = pulses(falling * uniform(*PITCH, count) * scale**2)
    noise = random.standard_normal((samples, count), np.float32)
    found = resonate(voiced, noise, gains, frequency, tracks(width, GLIDING, at))
    loud = np.sqrt((found**2).sum(0) / (aloud.sum(1) * UPDATE))
    hum = random.standard_normal(found.shape, np.float32) * 10 ** (-uniform(*NOISE_DB, count) / 20)
    audio = (found / loud + hum).T.astype(np.float32)
    begins, ends = (np.where(spoken, times, np.nan) for times in (ends - seconds, ends))
    return Utterances(np.ascontiguousarray(audio), np.where(spoken, phones, -1), begins, ends)
