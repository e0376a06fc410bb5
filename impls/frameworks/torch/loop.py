"""The textbook LSTM loop in PyTorch: one call of a step function per step, layer and direction."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from impls.batch import Batch
from impls.frameworks.torch import network
from impls.specs.recurrent import Spec, require_recurrent

# x [B, I], h [B, R], c [B, H], W_ih, W_hh, b_ih or None, b_hh or None, W_hr or None, valid [B, 1] or None; to y, h, c
Step = Callable[..., tuple[Tensor, Tensor, Tensor]]
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


def step(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, valid) -> tuple[Tensor, Tensor, Tensor]:
    """One step of one layer; where a sequence is past its length, y is zero and the state stays."""
    z = x @ weight_ih.T + h @ weight_hh.T
    if bias_ih is not None:
        z = z + bias_ih + bias_hh
    i, f, g, o = z.chunk(4, dim=1)
    new_c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    new_h = torch.sigmoid(o) * torch.tanh(new_c)
    if weight_hr is not None:
        new_h = new_h @ weight_hr.T
    if valid is None:
        return new_h, new_h, new_c
    return new_h * valid, torch.where(valid, new_h, h), torch.where(valid, new_c, c)


def loop_run(spec: Spec, weights: dict[str, Tensor], batch: Batch, step: Step) -> network.Run:
    """The whole network as a loop over `step`."""
    layers = [[weights.get(f"{name}_{suffix}") for name in NAMES] for suffix in require_recurrent(spec).suffixes()]
    lengths = None if batch.lengths is None else torch.as_tensor(batch.lengths, device=spec.device)
    steps = torch.arange(batch.steps, device=spec.device)[:, None]
    valid = [None] * batch.steps if lengths is None else list((steps < lengths)[..., None])

    def layer(index: int, inputs: list[Tensor], h: Tensor, c: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        order = range(len(inputs))
        outputs = list(inputs)
        for t in reversed(order) if index % spec.num_directions else order:
            outputs[t], h, c = step(inputs[t], h, c, *layers[index], valid[t])
        return outputs, h, c

    def run(x: Tensor, state: network.State) -> tuple[Tensor, network.State]:
        below, (h0, c0) = list(x.unbind(0)), (value.unbind(0) for value in state)
        h_n, c_n = list(h0), list(c0)
        for depth in range(spec.num_layers):
            directions = []
            for index in range(depth * spec.num_directions, (depth + 1) * spec.num_directions):
                outputs, h_n[index], c_n[index] = layer(index, below, h0[index], c0[index])
                directions.append(outputs)
            if spec.bidirectional:
                below = [torch.cat(pair, dim=1) for pair in zip(*directions, strict=True)]
            else:
                below = directions[0]
        return torch.stack(below), (torch.stack(h_n), torch.stack(c_n))

    return run
