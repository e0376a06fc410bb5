"""From audio to phones: log-mel frames, the networks that are compared, greedy decoding, whole or step by step; errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy import fft, signal
from torch import Tensor, nn
from torch.nn import functional

from bench.studies.descendants.networks import OfSpec, Stack
from bench.studies.direction.networks import Direction
from bench.studies.speech.sizes import CLASSES, KERNEL, STACKED
from bench.studies.speech.synthesis import RATE
from impls import LSTMSpec, Spec, UnknownName
from impls.specs.recurrent import Residual
from lstm_bench.errors import UserError

# Log-mel: windows of 25 ms every 10 ms, triangles evenly spaced on the mel scale; a step of a network reads three frames.

WINDOW, HOP, POINTS = 250, 100, 512  # samples
LOWEST, HIGHEST = 60.0, 4900.0  # Hz
FLOOR = 1e-4  # of a band's power: some 40 dB below speech
AT_ONCE = 250  # utterances


def hertz_of(mel: np.ndarray) -> np.ndarray:
    return 700 * (10 ** (mel / 2595) - 1)


def mel_of(hertz: float) -> float:
    """O'Shaughnessy 1987."""
    return float(2595 * np.log10(1 + hertz / 700))


@lru_cache
def filters(bands: int) -> np.ndarray:
    """Triangles over the spectrum, [POINTS / 2 + 1, bands], each rising from the middle of the one before it."""
    edges = hertz_of(np.linspace(mel_of(LOWEST), mel_of(HIGHEST), bands + 2))
    frequency = np.arange(POINTS // 2 + 1)[:, None] * RATE / POINTS
    rising = (frequency - edges[:-2]) / np.diff(edges[:-1])
    falling = (edges[2:] - frequency) / np.diff(edges[1:])
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


@lru_cache
def _window() -> np.ndarray:
    return np.asarray(signal.get_window("hann", WINDOW), np.float32)


def samples_of(steps: int) -> int:
    """Of audio that has so many steps of a network."""
    return WINDOW + (STACKED * steps - 1) * HOP


def available(steps: np.ndarray | int) -> np.ndarray:
    """Seconds of audio that must have been heard before a step, counted from 0, can be computed."""
    return np.asarray((WINDOW + (STACKED * (steps + 1) - 1) * HOP) / RATE)


def log_mel(audio: np.ndarray, bands: int) -> np.ndarray:
    """audio [N, S] to [T, N, STACKED · bands]: three frames of log-mel energies a step, without any look ahead."""
    parts = [_log_mel(audio[first : first + AT_ONCE], bands) for first in range(0, len(audio), AT_ONCE)]
    return np.concatenate(parts, 1)


def _log_mel(audio: np.ndarray, bands: int) -> np.ndarray:
    frames = np.lib.stride_tricks.sliding_window_view(audio, WINDOW, 1)[:, ::HOP]
    power = np.abs(np.asarray(fft.rfft(frames * _window(), POINTS))) ** 2 / WINDOW
    found = np.log(power @ filters(bands) + FLOOR)
    steps = found.shape[1] // STACKED
    return found[:, : steps * STACKED].reshape(len(audio), steps, STACKED * bands).transpose(1, 0, 2)


# The networks.


class Convolution(nn.Module):
    """gelu of a convolution over `KERNEL` steps, as many before as after, features [T, B, H]."""

    def __init__(self, spec: Residual) -> None:
        super().__init__()
        self.conv = nn.Conv1d(spec.hidden_size, spec.hidden_size, KERNEL, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        return functional.gelu(self.conv(x.permute(1, 2, 0)).permute(2, 0, 1))


class Convolutions(nn.Module):
    """A projection to the width and a residual stack of convolutions over time: a time-delay network (Waibel et al. 1989)."""

    def __init__(self, spec: Residual) -> None:
        super().__init__()
        self.enter = nn.Linear(spec.input_size, spec.hidden_size)
        self.stack = Stack(spec, Convolution)

    def forward(self, x: Tensor) -> Tensor:
        return self.stack(self.enter(x))


class CannotStream(UserError, ValueError):
    """A network whose outputs depend on the utterance's end."""


def body(network: str, spec: Spec, seed: int) -> nn.Module:
    """Features [T, B, I] to [T, B, O]. Raises `UnknownName`."""
    if network in ("streaming", "bidirectional"):
        assert isinstance(spec, LSTMSpec)
        return Direction("both" if spec.bidirectional else "one", spec)
    if network == "convolution":
        return Convolutions(spec)  # pyright: ignore[reportArgumentType]
    if network == "transformer":
        return OfSpec(spec, seed)  # pyright: ignore[reportArgumentType]
    raise UnknownName("network", network, ("streaming", "bidirectional", "convolution", "transformer"))


class Recognizer(nn.Module):
    """Log-mel steps [T, B, STACKED · bands] to logits [T, B, CLASSES]; class 0 is CTC's blank, class p + 1 phone p."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: str, spec: Spec, seed: int, heard: np.ndarray) -> None:
        """Weights are drawn from the seed; features are normalised by those heard in training, [T, N, I]."""
        super().__init__()
        self.network, self.spec = network, spec
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = body(network, spec, seed)
            self.readout = nn.Linear(spec.output_size, CLASSES)
        self.register_buffer("mean", torch.from_numpy(heard.mean((0, 1))))
        self.register_buffer("deviation", torch.from_numpy(heard.std((0, 1))))
        self.to(spec.device)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.body((x - self.mean) / self.deviation))

    def step(self, x: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One step [1, B, I] from the state before it to its logits and the state after it.

        Raises:
            CannotStream: the network reads what comes after a step.
        """
        if self.network != "streaming":
            raise CannotStream(
                f"asked for a single step of a network of kind {self.network}, which reads the steps after it, and these have "
                "not been heard yet; stream with the network called streaming, or give it the whole utterance"
            )
        assert isinstance(self.body, Direction) and isinstance(self.body.lstm, nn.LSTM)
        y, after = self.body.lstm((x - self.mean) / self.deviation, state)
        return self.readout(y), after

    def parameter_count(self) -> int:
        return sum(value.numel() for value in self.parameters())


# Decoding and errors.


def greedy(classes: Sequence[int], before: int = 0) -> Iterator[tuple[int, int]]:
    """Phones and the steps that say them, from the likeliest class of each step after class `before`: repeats are merged, then
    blanks dropped (Graves et al. 2006, section 3.2)."""
    for step, found in enumerate(classes):
        if found not in (0, before):
            yield found - 1, step
        before = found


def edit_distance(one: Sequence[int], other: Sequence[int]) -> int:
    """Fewest insertions, deletions and substitutions that make one of the other (Levenshtein 1966)."""
    costs = list(range(len(other) + 1))
    for row, own in enumerate(one, 1):
        diagonal, costs[0] = costs[0], row
        for column, its in enumerate(other, 1):
            diagonal, costs[column] = (
                costs[column],
                min(costs[column] + 1, costs[column - 1] + 1, diagonal + (own != its)),
            )
    return costs[-1]


@dataclass(slots=True)
class Transcript:
    """Of one utterance: the phones that were said by the network, and the step at which each was."""

    phones: list[int]
    steps: list[int]


@torch.no_grad()
def transcribe(model: Recognizer, features: np.ndarray) -> list[Transcript]:
    """Utterances [T, N, I] at once."""
    likeliest = model(torch.from_numpy(features).to(model.mean.device)).argmax(-1).T.tolist()
    found = [list(greedy(classes)) for classes in likeliest]
    return [Transcript([phone for phone, _ in each], [step for _, step in each]) for each in found]


@torch.no_grad()
def transcribe_audio(model: Recognizer, audio: np.ndarray, bands: int) -> list[int]:
    """One utterance's audio [S] as a whole, features and decoding included."""
    return transcribe(model, log_mel(audio[None], bands))[0].phones


@torch.no_grad()
def stream(model: Recognizer, audio: np.ndarray, bands: int) -> Iterator[list[int]]:
    """One utterance's audio [S] as it comes in, a step at a time: after each the phones that it says, mostly none."""
    state, before = None, 0
    for first in range(0, len(audio) - samples_of(1) + 1, STACKED * HOP):
        x = torch.from_numpy(log_mel(audio[None, first : first + samples_of(1)], bands))
        logits, state = model.step(x, state)
        now = int(logits.argmax())
        yield [phone for phone, _ in greedy([now], before)]
        before = now
