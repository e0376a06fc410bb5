"""Controls on the same axes: a deep network, whose lag is its depth, and a Transformer, which has every lag one step away.

A control has no cell: its case is that of a vanilla RNN of the same width, for what it has in common with one, and T is the
depth of the layers. Weights are U(±1/√fan-in), PyTorch's default of `nn.Linear`, so that only the wiring differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, scaled_dot_product_attention

from bench.case import Case
from bench.gradients import curves, setup
from bench.gradients.scaled import Scaled
from impls import UnknownName
from results.record import Measurement

HEADS, BLOCKS, EXPANSION = 4, 2, 4
Layer = Callable[[Tensor, Tensor], Tensor]  # h and W h + b (or that of the normalised h) to the layer's output
# He et al. 2016 (Identity Mappings in Deep Residual Networks): the shortcut as it is, and scaled by a half as in their table 1.
LAYERS: dict[str, Layer] = {
    "plain": lambda h, z: torch.tanh(z),
    "residual": lambda h, z: h + torch.tanh(z),
    "residual_normed": lambda h, z: h + torch.tanh(z),
    "residual_halved": lambda h, z: 0.5 * h + torch.tanh(z),
}
NETWORKS = (*LAYERS, "transformer")


def measure(case: Case) -> Iterator[Measurement]:
    """`log_gradient` (layers) or `log_input` (Transformer) by seed at the kept lags."""
    network, lags = str(case.factor("network")), setup.lags(case.steps)
    if network not in NETWORKS:
        raise UnknownName("control", network, NETWORKS)
    seeds = range(int(case.factor("seeds")))
    yield curves.lags_measured(lags)
    if network == "transformer":
        found = [through_transformer(case, seed)[lags] for seed in seeds]
        yield curves.measurement("log_input", "nat", found, lags)
    else:
        found = [through_layers(network, case, seed)[lags] for seed in seeds]
        yield curves.measurement("log_gradient", "nat", found, lags)


def through_layers(network: str, case: Case, seed: int) -> np.ndarray:
    """Mean over sequences of ln‖dL/dh‖ k layers below the top, for all k < T; [T]."""
    random, size = np.random.default_rng([seed, 6]), case.spec.hidden_size
    weights = [_linear(random, size, size) for _ in range(case.steps)]
    below = [torch.from_numpy(setup.inputs(case, seed)[0])]
    normed = network == "residual_normed"

    def layer(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return LAYERS[network](h, (layer_norm(h, (size,)) if normed else h) @ weight + bias)

    for weight, bias in weights:
        below.append(layer(below[-1], weight, bias))
    grad = Scaled((torch.from_numpy(setup.readout(case, seed)),))
    found = []
    for h, (weight, bias) in zip(reversed(below[:-1]), reversed(weights), strict=True):
        found.append(float(grad.log.mean()))
        leaf = h.requires_grad_()
        grad.rescale(torch.autograd.grad(layer(leaf, weight, bias), leaf, grad.parts[0]))
    return np.array(found)


def through_transformer(case: Case, seed: int) -> np.ndarray:
    """Mean over sequences of ln‖dL/dx_{T−k}‖ for all k < T; [T]."""
    random, (inputs, size) = np.random.default_rng([seed, 6]), (case.spec.input_size, case.spec.hidden_size)
    sizes = [(inputs, size)]
    for _ in range(BLOCKS):
        sizes += [(size, 3 * size), (size, size), (size, EXPANSION * size), (EXPANSION * size, size)]
    x = torch.from_numpy(setup.inputs(case, seed)).transpose(0, 1).requires_grad_()
    last = transformer(x, [_linear(random, *each) for each in sizes])[:, -1]
    (grad,) = torch.autograd.grad(last, x, torch.from_numpy(setup.readout(case, seed)))
    return torch.linalg.vector_norm(grad, dim=-1).log().mean(0).flip(0).numpy()


def transformer(x: Tensor, weights: list[tuple[Tensor, Tensor]]) -> Tensor:
    """A small causal decoder, normed before each part, rotary positions (Su et al. 2021); x [B, T, I] to [B, T, H]."""
    (weight, bias), *rest = weights
    h = x @ weight + bias
    size = h.shape[-1]
    for mix, out, up, down in zip(*[iter(rest)] * 4, strict=True):
        q, k, v = (_linearly(layer_norm(h, (size,)), mix).unflatten(-1, (3, HEADS, -1))).unbind(-3)
        q, k, v = (each.transpose(1, 2) for each in (_rotated(q), _rotated(k), v))
        attended = scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2)
        h = h + _linearly(attended, out)
        h = h + _linearly(gelu(_linearly(layer_norm(h, (size,)), up)), down)
    return layer_norm(h, (size,))


def _rotated(values: Tensor) -> Tensor:
    """values: [B, T, heads, features]; pairs of features turn with the position."""
    steps, features = values.shape[1], values.shape[-1]
    rates = 10000.0 ** (-torch.arange(0, features, 2, dtype=values.dtype) / features)
    angles = (torch.arange(steps, dtype=values.dtype)[:, None] * rates)[:, None]
    first, second = values.chunk(2, -1)
    return torch.cat((first * angles.cos() - second * angles.sin(), first * angles.sin() + second * angles.cos()), -1)


def _linearly(values: Tensor, layer: tuple[Tensor, Tensor]) -> Tensor:
    return values @ layer[0] + layer[1]


def _linear(random: np.random.Generator, inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
    """Weight [inputs, outputs] and bias [outputs]."""
    bound = 1 / np.sqrt(inputs)
    weight, bias = (random.uniform(-bound, bound, shape) for shape in ((inputs, outputs), (outputs,)))
    return torch.from_numpy(weight), torch.from_numpy(bias)
