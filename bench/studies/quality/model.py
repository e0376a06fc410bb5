"""A language model: a body with embedding and head, and the precision it is trained in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.harness.case import InvalidCase
from impls import Spec, Unavailable
from impls.frameworks.torch import models
from impls.frameworks.torch.models import Layer
from impls.params import random_params
from impls.specs.recurrent import Residual

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
    from impls.cuda.torch.network import CachedLSTM

    if spec.cell == "lstm_stack" and (reason := driver.missing()):
        raise Unavailable(f"a language model's LSTM runs on the backend cuda on a GPU: {reason}")
    return CachedLSTM


def notes(spec: Spec) -> tuple[str, ...]:
    """What a record says of it; nothing on a CPU."""
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
