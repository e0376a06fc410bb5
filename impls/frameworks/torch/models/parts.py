"""What the models are built of: weights without values, and the residual stack around their blocks."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from impls.specs.model import ModelSpec

State = tuple[Tensor, ...]


def weight(*shape: int) -> nn.Parameter:
    """A parameter whose values are to be loaded."""
    return nn.Parameter(torch.zeros(shape))


def norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, bias=False)


class Residual(nn.Module):
    """x, projected to the width H where it has another; the blocks, each adding to the stream; a normalisation."""

    def __init__(self, spec: ModelSpec, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        width = spec.hidden_size
        self.spec = spec
        self.weight_in = weight(width, spec.input_size) if spec.input_size != width else None
        self.layers = nn.ModuleList(blocks)
        self.norm = norm(width)

    def enter(self, x: Tensor) -> Tensor:
        return x if self.weight_in is None else functional.linear(x, self.weight_in)

    def zeros(self, batch: int) -> State:
        """The state before the first step."""
        like = self.norm.weight
        return tuple(
            torch.zeros(shape, dtype=like.dtype, device=like.device) for shape in self.spec.state_shapes(batch).values()
        )


class Recurrent(Residual):
    """A stack whose blocks map x [T, B, H] and a state, tensors [B, ·], to what they add and the state after the last step."""

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """x [T, B, I] to y [T, B, H]; state: tensors [L, B, ·], zeros if left out."""
        before = zip(*(value.unbind(0) for value in state or self.zeros(x.shape[1])), strict=True)
        stream, after = self.enter(x), []
        for block, of_layer in zip(self.layers, before, strict=True):
            added, last = block(stream, of_layer)
            stream = stream + added
            after.append(last)
        return self.norm(stream), tuple(torch.stack(values) for values in zip(*after, strict=True))
