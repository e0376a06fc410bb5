"""Residual blocks of `torch.nn.LSTM`, so that the LSTM inside is PyTorch's fastest, oneDNN or cuDNN; or of a drop-in for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor, nn

from impls.frameworks.torch.models import parts
from impls.specs.residual import LSTMStackSpec

# From input and hidden size to a module of one layer, called and named as `torch.nn.LSTM`.
Layer = Callable[[int, int], nn.Module]


class LSTMStack(parts.Recurrent):
    """See `LSTMStackSpec`. layer: what computes the LSTM of each block."""

    def __init__(self, spec: LSTMStackSpec, layer: Layer = nn.LSTM) -> None:
        super().__init__(spec, [Block(spec.hidden_size, layer) for _ in range(spec.num_layers)])

    def blocks(self) -> Iterator[Block]:
        for block in self.layers:
            assert isinstance(block, Block)
            yield block


class Block(nn.Module):
    def __init__(self, width: int, layer: Layer) -> None:
        super().__init__()
        self.norm = parts.norm(width)
        self.lstm = layer(width, width)

    def forward(self, x: Tensor, state: parts.State) -> tuple[Tensor, parts.State]:
        """x [T, B, H]; state h and c, [B, H] each."""
        h, c = state
        y, (h, c) = self.lstm(self.norm(x), (h[None], c[None]))
        return y, (h[0], c[0])
