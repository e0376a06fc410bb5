"""minLSTM: gates from the input alone, the state by a parallel scan."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from impls.frameworks.torch.models import parts, scan
from impls.specs.residual import MinLSTMSpec


class MinLSTM(parts.Recurrent):
    """See `MinLSTMSpec`."""

    def __init__(self, spec: MinLSTMSpec) -> None:
        super().__init__(spec, [Block(spec.hidden_size) for _ in range(spec.num_layers)])


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = parts.norm(width)
        self.weight_gates = parts.weight(3 * width, width)
        self.bias_gates = parts.weight(3 * width)
        self.weight_out = parts.weight(width, width)
        self.states: States = states

    def forward(self, x: Tensor, state: parts.State) -> tuple[Tensor, parts.State]:
        """x [T, B, H]; state h [B, H]."""
        forget, write, candidate = functional.linear(self.norm(x), self.weight_gates, self.bias_gates).chunk(3, dim=-1)
        h = self.states(forget, write, candidate, state[0])
        return functional.linear(h, self.weight_out), (h[-1],)


# The states [T, B, H] from the gates before their sigmoids, forget, write and candidate [T, B, H], and the first state [B, H].
States = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def states(forget: Tensor, write: Tensor, candidate: Tensor, h: Tensor) -> Tensor:
    return scan.parallel(*recurrence(forget, write, candidate), h)


def recurrence(forget: Tensor, write: Tensor, candidate: Tensor) -> tuple[Tensor, Tensor]:
    """a and b of h' = a·h + b from the gates before their sigmoids: f/(f+i) and i/(f+i)·g."""
    keep = kept(forget, write)
    return keep.sigmoid(), (-keep).sigmoid() * candidate


def kept(forget: Tensor, write: Tensor) -> Tensor:
    """σ(f)/(σ(f)+σ(i)) before its sigmoid: softplus(−i) − softplus(−f), which no gate near zero divides by zero."""
    return functional.softplus(-write) - functional.softplus(-forget)
