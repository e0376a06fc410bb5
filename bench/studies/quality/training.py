"""A language model: its body, embedding and head, the precision it computes in; and how it is trained, resumed and judged."""

from __future__ import annotations

import hashlib
import io
import math
import os
import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.costs import POINTS, TOKENS_AT_ONCE
from bench.harness.case import InvalidCase
from bench.studies.quality.sources import Source
from impls import Spec, Unavailable
from impls.frameworks.torch import models
from impls.frameworks.torch.models import Layer
from impls.params import random_params
from impls.specs.recurrent import Residual, spec_to_dict

# In what precision, and on whose kernels, a language model computes on its device.
#
# On a CPU float32 by PyTorch's own modules. On a GPU as language models are trained there: float32 weights, residual stream
# and loss, products in bfloat16 by autocast; LSTMs on our own kernels, attention by flash or cuDNN's kernel and by no other.

FAST_ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION]


def layer_for(spec: Spec) -> Layer:
    """What computes an LSTM of the stack. Raises `Unavailable` where a GPU cannot run our kernels."""
    if spec.device != "cuda":
        return nn.LSTM
    from impls.cuda.runtime import driver  # a tenth of a second that a CPU need not spend
    from impls.cuda.torch.network import SteppedLSTM

    if spec.cell == "lstm_stack" and (reason := driver.missing()):
        raise Unavailable(f"a language model's LSTM runs on the backend cuda on a GPU: {reason}")
    return SteppedLSTM


def precision_notes(spec: Spec) -> tuple[str, ...]:
    """What a record says of precision and kernels; nothing on a CPU."""
    if spec.device != "cuda":
        return ()
    kernels = {"lstm_stack": ("LSTM by cuda",), "transformer": ("attention by flash or cuDNN",)}
    return ("bfloat16 by autocast", *kernels.get(spec.cell, ()))


@contextmanager
def products(like: Tensor) -> Iterator[None]:
    """As above for a model with such weights; float64 weights compute in float64 wherever they are."""
    if like.device.type != "cuda" or like.dtype != torch.float32:
        yield
        return
    with in_bfloat16(like.device.type):
        yield


@contextmanager
def in_bfloat16(device: str) -> Iterator[None]:
    """Raises PyTorch's RuntimeError, "No available kernel", from attention that no fast kernel runs."""
    with torch.autocast(device, torch.bfloat16), sdpa_kernel(FAST_ATTENTION):
        yield


# A language model: tokens to vectors of the model's width, one of the residual models, and a line for each next token.


class LanguageModel(nn.Module):
    """Weights are drawn from the seed: the body's as `impls.params` says, embedding and head uniform in ±1/√H."""

    def __init__(self, spec: Spec, vocabulary: int, seed: int) -> None:
        """Raises `InvalidCase` for a network that is no residual model, whose I is not its H, or that sees the future; and
        `Unavailable` where its device cannot run it."""
        super().__init__()
        if not isinstance(spec, Residual) or spec.input_size != spec.hidden_size or spec.bidirectional:
            raise InvalidCase(
                f"a language model here is a causal transformer, lstm_stack, minlstm or ssm with input_size = hidden_size; "
                f"got {'-'.join(spec.key_parts())}"
            )
        drawn = {name: value.astype(np.float32) for name, value in random_params(spec, seed).items()}
        random = np.random.default_rng([seed, 8])
        bound = spec.hidden_size**-0.5
        self.body = models.build(spec, drawn, layer_for(spec))
        self.embedding, self.head = (
            nn.Parameter(torch.from_numpy(random.uniform(-bound, bound, (vocabulary, spec.hidden_size))).to(self.like))
            for _ in range(2)
        )

    @property
    def like(self) -> Tensor:
        """A tensor of the model's dtype and device."""
        return self.body.norm.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens int64 [T, B] to logits of the next one [T, B, V]."""
        return self.from_vectors(self.embedding[tokens])

    def from_vectors(self, vectors: Tensor) -> Tensor:
        with products(self.like):
            y, _ = self.body(vectors)
        return y @ self.head.T


# Checkpoints: written whole or not at all, sealed by a hash, read only by the configuration that wrote them.

SEAL = b"lstm-bench checkpoint 1\n"  # then the SHA-256 of what follows


class BadCheckpoint(RuntimeError):
    """A checkpoint of another configuration, or one that cannot be read; the message says which and what to do."""


def save(path: Path, configuration: dict[str, Any], state: dict[str, Any]) -> None:
    """Beside its place first, on the disk, and only then in it: a kill at any moment leaves the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    content = io.BytesIO()
    torch.save({"configuration": configuration, "state": state}, content)
    with beside.open("wb") as file:
        file.write(SEAL + hashlib.sha256(content.getvalue()).digest() + content.getvalue())
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def load(path: Path, configuration: dict[str, Any]) -> dict[str, Any]:
    """The state that `save` was given. Raises `BadCheckpoint`."""
    try:
        found = torch.load(io.BytesIO(_unsealed(path.read_bytes())), map_location="cpu", weights_only=True)
        there, state = found["configuration"], found["state"]
    except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError, KeyError, TypeError) as error:
        raise BadCheckpoint(
            f"checkpoint {path} cannot be read: it is half written or damaged ({type(error).__name__}); "
            "delete it to train from the beginning"
        ) from error
    differing = sorted(name for name in {*there, *configuration} if there.get(name) != configuration.get(name))
    if differing:
        differences = ", ".join(f"{name} {there.get(name)!r}, here {configuration.get(name)!r}" for name in differing)
        raise BadCheckpoint(f"checkpoint {path} is of another training: {differences}; delete it to train from the beginning")
    return state


def _unsealed(content: bytes) -> bytes:
    start = len(SEAL) + hashlib.sha256().digest_size
    if content[: len(SEAL)] != SEAL or content[len(SEAL) : start] != hashlib.sha256(content[start:]).digest():
        raise ValueError("its seal is broken")
    return content[start:]


# Training: AdamW with warm-up and a cosine, gradients clipped, and the loss on held-out text on the way.
#
# What an update reads is drawn from (seed, update) alone, so that a training which stops at any update and goes on from a
# checkpoint gives the same bits as one that never stopped, on a CPU.

BETAS, WEIGHT_DECAY = (0.9, 0.95), 0.1  # Brown et al. 2020, appendix B; matrices decay, vectors do not
LARGEST_NORM = 1.0  # of the gradient, clipped beyond (Pascanu, Mikolov & Bengio 2013)
WARM_UP, LOWEST_RATE = 0.1, 0.1  # share of the updates; share of the highest rate that the cosine ends at
CHECKPOINT_SECONDS = 10.0
HELD_OUT_SEED = 9  # one for all: every model is judged by the same windows


class Diverged(RuntimeError):
    """A loss or a gradient that is not finite; the message names the seed and the update."""


@dataclass(frozen=True, slots=True)
class Settings:
    """steps: tokens of a window. judged: held-out windows of the curve."""

    steps: int
    batch: int
    updates: int
    learning_rate: float
    seed: int
    judged: int

    def rate(self, update: int) -> float:
        """Of the update with this number, from 0 (Loshchilov & Hutter 2017, without restarts)."""
        warm_up = max(1, round(WARM_UP * self.updates))
        if update < warm_up:
            return self.learning_rate * (update + 1) / warm_up
        done = (update - warm_up) / max(1, self.updates - warm_up)
        return self.learning_rate * (LOWEST_RATE + (1 - LOWEST_RATE) * (1 + math.cos(math.pi * done)) / 2)

    @property
    def points(self) -> list[int]:
        """Updates after which the held-out loss is taken."""
        return sorted({max(1, round(self.updates / 2**power)) for power in range(POINTS)})


@dataclass(slots=True)
class Point:
    """Of the curve: after so many updates, which took so many seconds of training alone, this mean loss in nats a token."""

    updates: int
    seconds: float
    loss: float


class Training:
    """One model and how far it has come."""

    def __init__(self, spec: Spec, source: Source, settings: Settings) -> None:
        self.spec, self.source, self.settings = spec, source, settings
        self.model = LanguageModel(spec, source.vocabulary, settings.seed)
        decays = {True: [], False: []}
        for value in self.model.parameters():
            decays[value.dim() > 1].append(value)
        groups = [{"params": decays[True], "weight_decay": WEIGHT_DECAY}, {"params": decays[False], "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=BETAS)
        self.done, self.seconds, self.curve = 0, 0.0, list[Point]()

    @property
    def configuration(self) -> dict[str, Any]:
        """All that a checkpoint must agree in: network, source and settings."""
        return spec_to_dict(self.spec) | {"source": self.source.name, "data": self.source.digest} | asdict(self.settings)

    def run(self, kept: Path | None = None, until: int | None = None) -> None:
        """To the end, or until so many updates are done; from the checkpoint at `kept` if there is one, and leaving one there.

        Raises `Diverged`, `checkpoint.BadCheckpoint`.
        """
        if kept is not None and kept.exists():
            self.restore(load(kept, self.configuration))
        saved = time.monotonic()
        while self.done < (self.settings.updates if until is None else until):
            self.update()
            if kept is not None and time.monotonic() - saved > CHECKPOINT_SECONDS:
                save(kept, self.configuration, self.state())
                saved = time.monotonic()
        if kept is not None:
            save(kept, self.configuration, self.state())

    def update(self) -> None:
        settings, started = self.settings, time.perf_counter()
        random = np.random.default_rng([settings.seed, 7, self.done])
        window = torch.from_numpy(self.source.windows(random, settings.steps + 1, settings.batch)).to(self.spec.device)
        for group in self.optimiser.param_groups:
            group["lr"] = settings.rate(self.done)
        self.optimiser.zero_grad()
        loss = functional.cross_entropy(self.model(window[:-1]).flatten(0, 1), window[1:].flatten())
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), LARGEST_NORM)
        found, size = loss.item(), norm.item()
        if not math.isfinite(found) or not math.isfinite(size):
            raise Diverged(
                f"the loss is {found:g} and its gradient's norm {size:g} at update {self.done} with seed "
                f"{settings.seed} and learning rate {settings.learning_rate:g}; ask for a lower rate"
            )
        self.optimiser.step()
        self.done += 1
        self.seconds += time.perf_counter() - started
        if self.done in settings.points:
            self.curve.append(Point(self.done, self.seconds, float(self.losses(settings.judged).mean())))

    def losses(self, count: int) -> np.ndarray:
        """On the first `count` held-out windows, by token index: nats [T, N]. The same windows whatever the model."""
        random = np.random.default_rng(HELD_OUT_SEED)
        return losses(self.model, self.source.held_out(random, self.settings.steps + 1, count))

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(), "optimiser": self.optimiser.state_dict(), "done": self.done,
            "seconds": self.seconds, "curve": [asdict(point) for point in self.curve],
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.done, self.seconds = state["done"], state["seconds"]
        self.curve = [Point(**point) for point in state["curve"]]


@torch.no_grad()
def losses(model: LanguageModel, windows: np.ndarray) -> np.ndarray:
    """−ln p(x_t | x_<t) for every token of windows [T + 1, N] but the first: float64 [T, N]."""
    found = []
    for part in parts(windows):
        tokens = torch.from_numpy(part).to(model.like.device)
        found.append(_surprise(model(tokens[:-1]), tokens[1:]).cpu().numpy())
    return np.concatenate(found, 1)


def parts(windows: np.ndarray) -> list[np.ndarray]:
    """Windows [T, N] in pieces of few enough tokens."""
    pieces = max(1, math.ceil(windows.size / TOKENS_AT_ONCE))
    return np.array_split(windows, min(pieces, windows.shape[1]), axis=1)


def _surprise(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits.double().flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
