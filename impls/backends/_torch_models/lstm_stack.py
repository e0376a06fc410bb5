"""Residual blocks of `torch.nn.LSTM`, so that the LSTM inside is PyTorch's fastest: oneDNN or cuDNN."""

from __future__ import annotations

from torch import Tensor, nn

from impls.backends._torch_models import parts
from impls.residual_specs import LSTMStackSpec


class LSTMStack(parts.Recurrent):
    """See `LSTMStackSpec`."""

    def __init__(self, spec: LSTMStackSpec) -> None:
        super().__init__(spec, [Block(spec.hidden_size) for _ in range(spec.num_layers)])


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = parts.norm(width)
        self.lstm = nn.LSTM(width, width)

    def forward(self, x: Tensor, state: parts.State) -> tuple[Tensor, parts.State]:
        """x [T, B, H]; state h and c, [B, H] each."""
        h, c = state
        y, (h, c) = self.lstm(self.norm(x), (h[None], c[None]))
        return y, (h[0], c[0])
