"""The weights that a residual model starts from, by the name of the parameter."""

from __future__ import annotations

import math

import numpy as np

FORGET_BIAS = 1.0  # Jozefowicz et al. 2015, section 5
SMALLEST_STEP, LARGEST_STEP = 1e-3, 1e-1  # of Δ at the start, uniform in the logarithm (Gu & Dao 2023, section 3.6)


def drawn(name: str, shape: tuple[int, ...], layers: int, random: np.random.Generator) -> np.ndarray:
    """Float64: matrices uniform in ±1/√(inputs), as `torch.nn.Linear`; those that add to the stream divided by √(2L)
    (Radford et al. 2019, section 2.3); nothing is zero or one throughout, so that no term can be forgotten unseen."""
    last = name.rsplit(".", 1)[-1]
    bound = 1.0 / math.sqrt(shape[-1])
    value = random.uniform(-bound, bound, shape)
    if last in ("weight_out", "weight_down"):
        return value / math.sqrt(2 * layers)
    if name.endswith("norm.weight") or "norm_" in name or last == "skip":
        return 1.0 + value / 4
    if last in ("bias_ih_l0", "bias_gates"):
        return value + _on_the_forget_gate(last, shape[0])
    if last == "log_decay":  # A = −1 … −N in every channel (Gu et al. 2022, "S4D-Real")
        return np.log(np.arange(1.0, shape[0] + 1))[:, None] + value / 4
    if last == "bias_step":
        step = np.exp(random.uniform(math.log(SMALLEST_STEP), math.log(LARGEST_STEP), shape))
        return np.log(np.expm1(step))  # the inverse of softplus
    return value


def _on_the_forget_gate(name: str, rows: int) -> np.ndarray:
    """The forget bias in its rows: an LSTM stacks i, f, g, o, a minLSTM f, i, g."""
    first, gates = (1, 4) if name == "bias_ih_l0" else (0, 3)
    bias = np.zeros(rows)
    bias[first * rows // gates : (first + 1) * rows // gates] = FORGET_BIAS
    return bias
