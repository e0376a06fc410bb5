"""Controls on the same axes: a deep network, whose lag is its depth, and a Transformer, which has every lag one step away.

A control has no cell: its case is that of a vanilla RNN of the same width, for what it has in common with one, and T is the
depth of the layers. Weights are U(±1/√fan-in), PyTorch's default of `nn.Linear`, so that only the wiring differs.

The counts in a control's record are those of that RNN; nothing is timed, so nothing reads them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, scaled_dot_product_attention

from bench.harness.case import Case
from bench.studies.gradients import cells, inits
from bench.studies.gradients.cells import Scaled
from impls import UnknownName
from results.record import Measurement

HEADS, BLOCKS, EXPANSION = 4, 2, 4
# h' = s·h + tanh(W h + b), and what the shortcut s is. He et al. 2016 (Identity Mappings in Deep Residual Networks): as it is,
# and scaled as in their section 3.1; `residual_normed` reads the normalised h.
SHORTCUTS = {"plain": 0.0, "residual": 1.0, "residual_normed": 1.0, "residual_0.9": 0.9, "residual_halved": 0.5}
NETWORKS = (*SHORTCUTS, "transformer")
Layer = tuple[Tensor, Tensor]  # weights [S, inputs, outputs] and biases [S, 1, outputs] of S seeds


def measure(case: Case) -> Iterator[Measurement]:
    """`decay` first (nat a layer, or a step, over the last nine tenths of the lags, by seed), then `log_gradient` (layers) or
    `log_input` (Transformer) by seed at the kept lags; of layers with a shortcut also `shortcut`, what it multiplies by."""
    network, lags = str(case.factor("network")), inits.lags(case.steps)
    if network not in NETWORKS:
        raise UnknownName("control", network, NETWORKS)
    flat = network == "transformer"
    found = list((through_transformer(case) if flat else through_layers(network, case)).numpy()[:, lags])
    yield cells.measurement("decay", "nat/step", [np.array([cells.decay(lags, curve)]) for curve in found])
    yield cells.lags_measured(lags)
    yield cells.measurement("log_input" if flat else "log_gradient", "nat", found, lags)
    if SHORTCUTS.get(network):
        yield Measurement("shortcut", "1", (SHORTCUTS[network],))


def through_layers(network: str, case: Case) -> Tensor:
    """Mean over sequences of ln‖dL/dh‖ k layers below the top, for all k < T; [S, T]."""
    randoms, size = _randoms(case), case.spec.hidden_size
    layers = [_linear(randoms, size, size) for _ in range(case.steps)]
    below = [torch.stack([torch.from_numpy(inits.inputs(case, seed)[0]) for seed in range(len(randoms))])]
    for each in layers:
        below.append(layer(network, below[-1], each))
    grad, found = Scaled((_readouts(case),)), []
    for h, each in zip(reversed(below[:-1]), reversed(layers), strict=True):
        found.append(grad.log.mean(-1))
        leaf = h.requires_grad_()
        grad.rescale(torch.autograd.grad(layer(network, leaf, each), leaf, grad.parts[0]))
    return torch.stack(found, 1)


def layer(network: str, h: Tensor, weights: Layer) -> Tensor:
    """h: [S, B, H]."""
    read = layer_norm(h, h.shape[-1:]) if network == "residual_normed" else h
    return SHORTCUTS[network] * h + torch.tanh(_linearly(read, weights))


def through_transformer(case: Case) -> Tensor:
    """Mean over sequences of ln‖dL/dx_{T−k}‖ for all k < T; [S, T]."""
    randoms, (inputs, size) = _randoms(case), (case.spec.input_size, case.spec.hidden_size)
    sizes = [(inputs, size)]
    for _ in range(BLOCKS):
        sizes += [(size, 3 * size), (size, size), (size, EXPANSION * size), (EXPANSION * size, size)]
    each = [torch.from_numpy(inits.inputs(case, seed)) for seed in range(len(randoms))]
    x = torch.stack(each).transpose(1, 2).requires_grad_()
    last = transformer(x, [_linear(randoms, *pair) for pair in sizes])[:, :, -1]
    (grad,) = torch.autograd.grad(last, x, _readouts(case))
    return torch.linalg.vector_norm(grad, dim=-1).log().mean(1).flip(1)


def _randoms(case: Case) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, 6]) for seed in range(int(case.factor("seeds")))]


def _readouts(case: Case) -> Tensor:
    return torch.from_numpy(np.stack([inits.readout(case, seed) for seed in range(int(case.factor("seeds")))]))


def transformer(x: Tensor, layers: list[Layer]) -> Tensor:
    """A small causal decoder, normed before each part, rotary positions (Su et al. 2021); x [S, B, T, I] to [S, B, T, H]."""
    first, *rest = layers
    h = _linearly(x, first)
    size = h.shape[-1]
    for mix, out, up, down in zip(*[iter(rest)] * 4, strict=True):
        q, k, v = _linearly(layer_norm(h, (size,)), mix).unflatten(-1, (3, HEADS, -1)).unbind(-3)
        q, k, v = (each.transpose(-3, -2) for each in (_rotated(q), _rotated(k), v))
        attended = scaled_dot_product_attention(q, k, v, is_causal=True).transpose(-3, -2).flatten(-2)
        h = h + _linearly(attended, out)
        h = h + _linearly(gelu(_linearly(layer_norm(h, (size,)), up)), down)
    return layer_norm(h, (size,))


def _rotated(values: Tensor) -> Tensor:
    """values: [S, B, T, heads, features]; pairs of features turn with the position."""
    steps, features = values.shape[-3], values.shape[-1]
    rates = 10000.0 ** (-torch.arange(0, features, 2, dtype=values.dtype) / features)
    angles = (torch.arange(steps, dtype=values.dtype)[:, None] * rates)[:, None]
    first, second = values.chunk(2, -1)
    return torch.cat((first * angles.cos() - second * angles.sin(), first * angles.sin() + second * angles.cos()), -1)


def _linearly(values: Tensor, weights: Layer) -> Tensor:
    """values: [S, ..., inputs]."""
    weight, bias = weights
    return (bias + values.flatten(1, -2) @ weight).unflatten(1, values.shape[1:-1])


def _linear(randoms: list[np.random.Generator], inputs: int, outputs: int) -> Layer:
    bound = 1 / np.sqrt(inputs)
    drawn = [[random.uniform(-bound, bound, shape) for shape in ((inputs, outputs), (1, outputs))] for random in randoms]
    weight, bias = (torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True))
    return weight, bias
