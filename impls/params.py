"""Weights: drawn at random as PyTorch lays them out, residual models as they are initialised."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from impls.specs.recurrent import Spec
from impls.specs.residual import ModelSpec

# The weights that a residual model starts from, by the name of the parameter.

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


# The one exchange format for weights: NumPy arrays under the names of `torch.nn.LSTM().state_dict()`.

Params = Mapping[str, np.ndarray]


class InvalidParams(ValueError):
    """Names, shapes or values that do not fit the spec; the message lists what was expected."""


def random_params(spec: Spec, seed: int = 0) -> dict[str, np.ndarray]:
    """Float64 weights drawn uniformly from ±1/√H, the default of `torch.nn.LSTM` (PyTorch documentation, *Variables*);
    those of a residual model as `impls.params` says."""
    random = np.random.default_rng([seed, 1])
    if isinstance(spec, ModelSpec):
        return {name: drawn(name, shape, spec.num_layers, random) for name, shape in spec.parameter_shapes().items()}
    bound = 1.0 / math.sqrt(spec.hidden_size)
    return {name: random.uniform(-bound, bound, shape) for name, shape in spec.parameter_shapes().items()}


def check_params(spec: Spec, params: Params) -> None:
    """Raise `InvalidParams` unless `params` has exactly the spec's names and shapes and only finite values."""
    expected = spec.parameter_shapes()
    missing = [name for name in expected if name not in params]
    unknown = [name for name in params if name not in expected]
    if missing or unknown:
        raise InvalidParams(
            f"parameter names do not fit {spec.cell}: missing {missing or 'none'}, unknown {unknown or 'none'}; "
            f"expected {list(expected)}"
        )
    for name, shape in expected.items():
        if params[name].shape != shape:
            raise InvalidParams(f"{name} must have shape {shape}; got {params[name].shape}")
        if not np.isfinite(params[name]).all():
            count = int((~np.isfinite(params[name])).sum())
            raise InvalidParams(
                f"{name} holds {count} values that are NaN or infinite; a network with them has no answer to check"
            )
