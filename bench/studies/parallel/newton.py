"""All states of a recurrence at once by Newton's method: linearise every step about a guess, solve the chain by a scan.

Each round solves s_t = F_t(ŝ_{t−1}) + J_t (s_{t−1} − ŝ_{t−1}) for all t from s_0 = 0, the maps combined pairwise in 2·log2 T
parallel steps (Lim et al. 2024, "DEER"; Danieli et al. 2026, "ParaRNN"). A state of an LSTM is [h, c], 2H values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from impls import UnknownName

TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5}  # largest |s_t − F(s_{t−1})|
MOST_ROUNDS = 100
Slopes = tuple[Tensor, ...]

# Jacobians by their structure, with the two operations that a scan needs. The first axis of all tensors is time.


@dataclass(frozen=True, slots=True)
class Structure:
    """product: of maps with maps, the later on the left. apply: maps to vectors [T, n]. transpose: of maps."""

    product: Callable[[Tensor, Tensor], Tensor]
    apply: Callable[[Tensor, Tensor], Tensor]
    transpose: Callable[[Tensor], Tensor]


def _multiply_blocks(left: Tensor, right: Tensor) -> Tensor:
    return torch.addcmul(left[:, :, :1] * right[:, :1], left[:, :, 1:], right[:, 1:])


def _apply_blocks(maps: Tensor, vectors: Tensor) -> Tensor:
    parts = vectors.unflatten(-1, (2, -1))
    return torch.addcmul(maps[:, :, 0] * parts[:, :1], maps[:, :, 1], parts[:, 1:]).flatten(1)


STRUCTURES = {
    # [T, 2H, 2H]: the Jacobian itself
    "full": Structure(torch.matmul, lambda maps, v: torch.einsum("tij,tj->ti", maps, v), lambda maps: maps.transpose(1, 2)),
    # [T, 2, 2, H]: of each unit what its own h and c do to one another; a diagonal cell's whole Jacobian (ParaRNN)
    "blocks": Structure(_multiply_blocks, _apply_blocks, lambda maps: maps.transpose(1, 2)),
    # [T, 2H]: the diagonal of the Jacobian alone (Gonzalez et al. 2024, "quasi-DEER")
    "quasi": Structure(torch.mul, torch.mul, lambda maps: maps),
}


def structure(name: str) -> Structure:
    """Raises `UnknownName` with the choices."""
    if name not in STRUCTURES:
        raise UnknownName("structure of a Jacobian", name, STRUCTURES)
    return STRUCTURES[name]


def prefixes(of: Structure, maps: Tensor, offsets: Tensor) -> Tensor:
    """s_1 … s_T of s_t = M_t s_{t−1} + v_t from s_0 = 0 (Blelloch 1990, section 1.4).

    Args:
        of: The structure of the maps.
        maps: [T, …], as the structure has them; the first one meets the zero state.
        offsets: v, [T, n].

    Returns:
        All states, [T, n].
    """
    steps = len(maps)
    if steps == 1:
        return offsets
    pairs = steps // 2
    odd, even = maps[1::2], maps[0::2]
    joined = offsets[1::2] + of.apply(odd, offsets[0::2][:pairs])
    halved = prefixes(of, of.product(odd, even[:pairs]), joined)
    states = torch.empty_like(offsets)
    states[0], states[1::2] = offsets[0], halved
    rest = len(even) - 1
    states[2::2] = offsets[2::2] + of.apply(even[1:], halved[:rest])
    return states


def suffixes(of: Structure, maps: Tensor, offsets: Tensor) -> Tensor:
    """g_T … g_1 of g_t = v_t + M_{t+1}ᵀ g_{t+1} from g_{T+1} = 0, in the order of time: what backpropagation computes."""
    turned = of.transpose(maps).flip(0)
    return prefixes(of, torch.cat([turned[:1], turned[:-1]]), offsets.flip(0)).flip(0)


# Newton's method on any recurrence.


class Recurrence(Protocol):
    """s_t = F_t(s_{t−1}) for all t at once."""

    @property
    def structure(self) -> Structure:
        """That of its Jacobians."""
        ...

    def step(self, before: Tensor) -> tuple[Tensor, Slopes]:
        """F_t of the states before each step [T, n], and what `jacobians` needs of it."""
        ...

    def jacobians(self, slopes: Slopes) -> Tensor:
        """J_t, or what stands for it, [T, …] as the structure has it."""
        ...


@dataclass(frozen=True, slots=True)
class Solution:
    """states [T, n]; rounds: linear systems solved; residual: the largest |s_t − F(s_{t−1})|; converged: whether it fell below
    the tolerance."""

    states: Tensor
    rounds: int
    residual: float
    converged: bool


def solve(of: Recurrence, start: Tensor, tolerance: float | None = None, most: int = MOST_ROUNDS) -> Solution:
    """Newton's method from a guess of all states.

    Args:
        of: The recurrence; the state before the first step is zero.
        start: The guess, [T, n].
        tolerance: That of the data type if left out (`TOLERANCES`).
        most: Rounds after which it gives up.

    Returns:
        The states, perhaps not converged; a residual that is no number is the largest that the data type has.
    """
    limit = TOLERANCES[start.dtype] if tolerance is None else tolerance
    states, rounds = start, 0
    while True:
        before = shifted(states)
        after, slopes = of.step(before)
        residual = float((after - states).abs().max())
        if residual <= limit:
            return Solution(states, rounds, residual, True)
        if not math.isfinite(residual):
            return Solution(states, rounds, torch.finfo(start.dtype).max, False)
        if rounds == most:
            return Solution(states, rounds, residual, False)
        maps = of.jacobians(slopes)
        states = prefixes(of.structure, maps, after - of.structure.apply(maps, before))
        rounds += 1


def shifted(states: Tensor) -> Tensor:
    """The state before each step, [T, n]."""
    return torch.cat([torch.zeros_like(states[:1]), states[:-1]])


# The LSTM: c' = f·c + i·g, h' = o·tanh(c'); gates i, f, g, o.


class Cell:
    """One layer on one sequence.

    Args:
        inputs: W x + b for all steps, [T, 4H]; they need no recurrence and are had in one product.
        recurrent: W_hh transposed, [H, 4H]; or, of a diagonal cell, the diagonals of its four matrices, [4H].
        jacobian: Name of a structure; `full` is exact for any cell, `blocks` for a diagonal one.
    """

    def __init__(self, inputs: Tensor, recurrent: Tensor, jacobian: str) -> None:
        self.inputs, self.recurrent = inputs, recurrent
        self.name, self.structure = jacobian, structure(jacobian)
        self.diagonal = recurrent.ndim == 1
        if self.diagonal and jacobian == "full":
            raise UnknownName("structure for a diagonal cell", jacobian, ("blocks", "quasi"))

    @property
    def exact(self) -> bool:
        """Whether the structure holds this cell's whole Jacobian."""
        return self.name == ("blocks" if self.diagonal else "full")

    def zeros(self) -> Tensor:
        """A guess for `solve`: [T, 2H]."""
        return self.inputs.new_zeros(len(self.inputs), self.inputs.shape[1] // 2)

    def step(self, before: Tensor) -> tuple[Tensor, Slopes]:
        return _step(self.inputs, self.recurrent, before)

    def jacobians(self, slopes: Slopes) -> Tensor:
        """[[∂h'/∂h, ∂h'/∂c], [∂c'/∂h, ∂c'/∂c]] (docs/studies/gradients.md), in full or of each unit by itself."""
        to_i, to_f, to_g, to_o, to_h, f, _ = slopes
        if self.name == "full":
            u_i, u_f, u_g, u_o = self.recurrent.T.chunk(4)
            of_cell = _rows(to_i, u_i) + _rows(to_f, u_f) + _rows(to_g, u_g)
            of_hidden = _rows(to_o, u_o) + to_h[..., None] * of_cell
            top = torch.cat([of_hidden, torch.diag_embed(to_h * f)], -1)
            return torch.cat([top, torch.cat([of_cell, torch.diag_embed(f)], -1)], -2)
        u_i, u_f, u_g, u_o = self._own().chunk(4)
        of_cell = to_i * u_i + to_f * u_f + to_g * u_g
        of_hidden = to_o * u_o + to_h * of_cell
        if self.name == "quasi":
            return torch.cat([of_hidden, f], -1)
        return torch.stack([of_hidden, to_h * f, of_cell, f], 1).unflatten(1, (2, 2))

    def _own(self) -> Tensor:
        """What each unit's h does to its own gates, [4H]."""
        if self.diagonal:
            return self.recurrent
        return torch.cat([block.diagonal() for block in self.recurrent.chunk(4, 1)])

    def gradients(self, states: Tensor, grad_h: Tensor) -> tuple[Tensor, Tensor]:
        """Backpropagation by one scan.

        Args:
            states: The solution, [T, 2H].
            grad_h: dL/dh_t as it comes from outside the layer, [T, H].

        Returns:
            dL/d inputs [T, 4H], and dL/d recurrent, of its shape.

        Raises:
            UnknownName: The structure is not this cell's exact Jacobian, with which one scan is not enough.
        """
        if not self.exact:
            raise UnknownName("structure for gradients", self.name, ("blocks",) if self.diagonal else ("full",))
        before = shifted(states)
        _, slopes = self.step(before)
        to_i, to_f, to_g, to_o, to_h, _, _ = slopes
        grad = suffixes(self.structure, self.jacobians(slopes), torch.cat([grad_h, torch.zeros_like(grad_h)], -1))
        of_h, of_c = grad.chunk(2, -1)
        cell = of_c + of_h * to_h
        gates = torch.cat([cell * to_i, cell * to_f, cell * to_g, of_h * to_o], -1)
        hidden = before.chunk(2, -1)[0]
        return gates, (gates * hidden.repeat(1, 4)).sum(0) if self.diagonal else hidden.T @ gates


def sequential_states(inputs: Tensor, recurrent: Tensor) -> Tensor:
    """The same states one after the other, [T, 2H]: a loop over steps."""
    state = inputs.new_zeros(1, inputs.shape[1] // 2)
    states = []
    for row in inputs:
        state, _ = _step(row[None], recurrent, state)
        states.append(state)
    return torch.cat(states)


def _step(inputs: Tensor, recurrent: Tensor, before: Tensor) -> tuple[Tensor, Slopes]:
    """Also the slopes of c' in the pre-activations of i, f, g, of h' in that of o and in c', and of c' in c; and tanh(c')."""
    h, c = before.chunk(2, -1)
    z = inputs + (h.repeat(1, 4) * recurrent if recurrent.ndim == 1 else h @ recurrent)
    i, f, g, o = z.chunk(4, -1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    new = f * c + i * g
    squashed = torch.tanh(new)
    slopes = (
        g * i * (1 - i), c * f * (1 - f), i * (1 - g * g), squashed * o * (1 - o), o * (1 - squashed * squashed), f, squashed,
    )  # fmt: skip
    return torch.cat([o * squashed, new], -1), slopes


def _rows(scale: Tensor, matrix: Tensor) -> Tensor:
    return scale[..., None] * matrix
