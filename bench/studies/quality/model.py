"""A language model: tokens to vectors of the model's width, one of the residual models, and a line for each next token."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from bench.harness.case import InvalidCase
from bench.studies.quality import precision
from impls import Spec
from impls.frameworks.torch import models
from impls.params import random_params
from impls.specs.recurrent import Residual


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
        self.body = models.build(spec, drawn, precision.layer_for(spec))
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
        with precision.products(self.like):
            y, _ = self.body(vectors)
        return y @ self.head.T
