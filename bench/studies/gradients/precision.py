"""The precision horizon: how far back a gradient is still a number in float16, bfloat16 or float32.

Here nothing is scaled on the way, as in any backward pass: trajectory and sweep are computed in the case's own format, once
with the loss as it is and once with the loss multiplied by `LOSS_SCALE`, and divided by nothing afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bench.harness.case import Case
from bench.studies.gradients import curves, setup
from bench.studies.gradients.cells import Path, State
from results.record import Measurement

LOSS_SCALE = 2.0**16  # where PyTorch's GradScaler begins (its documentation: init_scale)


def measure(case: Case) -> Iterator[Measurement]:
    """`lags_not_zero` first: at how many lags anything of dL/ds is other than zero, by seed.

    `log_largest` and `log_largest_scaled`: ln of the largest |element| of dL/ds over units and sequences, by seed, at every
    lag. A seed's curve ends before the lag at which all of it is exactly zero; a note says so.
    """
    path, cotangent = setup.path(case, getattr(torch, case.spec.dtype))
    lags = list(range(case.steps))
    by_scale = {
        name: curves.measurement(
            name, "nat", setup.by_seed(largest(path, tuple(part * scale for part in cotangent)).double().log()), lags
        )
        for name, scale in (("log_largest", 1.0), ("log_largest_scaled", LOSS_SCALE))
    }
    yield Measurement("lags_not_zero", "step", tuple(map(float, by_scale["log_largest"].blocks)))
    yield Measurement("lag", "step", tuple(map(float, lags)))
    yield from by_scale.values()


def largest(path: Path, grads: State) -> Tensor:
    """The largest |element| of the gradient at every lag, [T, S], in the path's own format."""
    found = []
    for t in reversed(range(path.steps)):
        found.append(torch.stack([part.abs().amax((-2, -1)) for part in grads]).amax(0))
        grads = path.pull(t, grads)[2]
    return torch.stack(found)
