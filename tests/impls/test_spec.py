"""Shapes and counts of parameters are those of `torch.nn`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from impls import GRUSpec, LSTMSpec, RNNSpec, Spec
from impls.params import random_params

MODULES = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("cell", "projection"), [(LSTMSpec, 0), (LSTMSpec, 2), (GRUSpec, 0), (RNNSpec, 0)])
def test_parameters_are_those_of_torch(cell: type[Spec], layers: int, bidirectional: bool, bias: bool, projection: int) -> None:
    sizes: dict[str, Any] = {"proj_size": projection} if cell is LSTMSpec else {}
    spec = cell(3, 5, num_layers=layers, bidirectional=bidirectional, bias=bias, **sizes)
    module = MODULES[spec.cell](3, 5, layers, bias=bias, bidirectional=bidirectional, **sizes)
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    assert spec.parameter_shapes() == shapes
    assert list(spec.parameter_shapes()) == list(shapes)
    assert spec.parameter_count() == sum(value.numel() for value in module.parameters())
    assert {name: value.shape for name, value in random_params(spec).items()} == shapes
