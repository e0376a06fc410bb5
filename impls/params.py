"""The one exchange format for weights: NumPy arrays under the names of `torch.nn.LSTM().state_dict()`."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from impls import init
from impls.specs.model import ModelSpec
from impls.specs.recurrent import Spec

Params = Mapping[str, np.ndarray]


class InvalidParams(ValueError):
    """Names, shapes or values that do not fit the spec; the message lists what was expected."""


def random_params(spec: Spec, seed: int = 0) -> dict[str, np.ndarray]:
    """Float64 weights drawn uniformly from ±1/√H, the default of `torch.nn.LSTM` (PyTorch documentation, *Variables*);
    those of a residual model as `impls.init` says."""
    random = np.random.default_rng([seed, 1])
    if isinstance(spec, ModelSpec):
        return {name: init.drawn(name, shape, spec.num_layers, random) for name, shape in spec.parameter_shapes().items()}
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
