"""The residual models as plain `torch.nn.Module`s, which a study may train as well as a backend run.

`build(spec)` gives the module; parameters are named as `spec.parameter_shapes()` names them. Every module is called as
`y, state = module(x, state)` with x [T, B, I] and y [T, B, H]; the state is a tuple of tensors as `spec.state_shapes` has
them, zeros if left out. The Transformer's is empty: it streams through a cache (see `transformer.Cache`).
"""

from __future__ import annotations

import torch
from torch import nn

from impls.frameworks.torch.models.recurrent import SSM, Layer, LSTMStack, MinLSTM
from impls.frameworks.torch.models.transformer import Transformer
from impls.params import Params, check_params
from impls.specs.recurrent import Residual
from impls.specs.residual import LSTMStackSpec, MinLSTMSpec, TransformerSpec

Model = Transformer | LSTMStack | MinLSTM | SSM


def build(spec: Residual, params: Params | None = None, layer: Layer = nn.LSTM) -> Model:
    """The model on the spec's device in its dtype, with these weights (`impls.params.random_params`), else zeros.

    layer: what computes each LSTM of a stack of them.
    """
    match spec:
        case TransformerSpec():
            model = Transformer(spec)
        case LSTMStackSpec():
            model = LSTMStack(spec, layer)
        case MinLSTMSpec():
            model = MinLSTM(spec)
        case _:
            model = SSM(spec)
    model = model.to(device=spec.device, dtype=getattr(torch, spec.stored_dtype))
    if params is not None:
        check_params(spec, params)
        model.load_state_dict({name: torch.from_numpy(value) for name, value in params.items()})
    return model
