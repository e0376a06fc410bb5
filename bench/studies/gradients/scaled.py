"""A cotangent kept at unit length, so that nothing underflows at any lag."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from bench.studies.gradients.cells import State


@dataclass(slots=True)
class Scaled:
    """A cotangent at unit length for each sequence, and the logarithm of what it was divided by, [..., B]."""

    parts: State
    log: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.log = torch.zeros(self.parts[0].shape[:-1], dtype=self.parts[0].dtype, device=self.parts[0].device)
        self.rescale(self.parts)

    def rescale(self, parts: State) -> None:
        size = torch.sqrt(sum((part.square().sum(-1) for part in parts), start=torch.zeros_like(self.log)))
        self.log = self.log + torch.log(size)
        # A gradient that is exactly zero stays so; its logarithm, −inf, says it.
        safe = torch.where(size > 0, size, torch.ones_like(size))[..., None]
        self.parts = tuple(part / safe for part in parts)
