"""Attenuation through training: the curve before networks learn to recall, on the way, and after.

The networks, the task and the training, in the case's format, are those of study `horizon`; the curve is the gradient studies',
in float64, of the weights as they then are.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from bench.harness.case import Case
from bench.studies.gradients import attenuation, cells, curves, setup
from bench.studies.horizon import tasks
from bench.studies.horizon.draws import draw
from bench.studies.horizon.training import Networks
from results.record import Measurement

TASK = "recall"
BATCH, TESTED = 32, 256  # sequences an update, and at the end
LOOKS = (0.0, 0.25, 1.0)  # of the updates, at which the curve is taken


def measure(case: Case) -> Iterator[Measurement]:
    """`accuracy` first, at the end and the lag that was trained, by seed; then `log_gradient_after_<updates>` by seed at the
    kept lags, on sequences of the task T steps long."""
    lag, updates, seeds = (int(case.factor(name)) for name in ("lag", "updates", "seeds"))
    setup.require_lag(lag, case)
    task, init, lags = tasks.get(TASK), str(case.factor("init")), setup.lags(case.steps)
    networks = Networks(case.spec, init, range(seeds), task, float(case.factor("rate")))
    generator = torch.Generator(case.spec.device).manual_seed(case.seed)
    dtype = networks.parameters[0].dtype
    x = draw(task, case.steps - 1, seeds, case.batch, generator)[0].double()
    u = torch.from_numpy(np.stack([setup.readout(case, seed) for seed in range(seeds)])).to(x)
    found, done = [], 0
    for after in sorted({round(share * updates) for share in LOOKS}):
        for _ in range(after - done):
            inputs, wanted = draw(task, lag, seeds, BATCH, generator)
            networks.update(inputs.to(dtype), wanted, 0)
        done = after
        path = cells.kind(case.spec, init)(cells.Weights(*(each.double() for each in networks.parameters[:4])), x)
        cotangent = (u, *(torch.zeros_like(u) for _ in range(path.parts - 1)))
        logs = attenuation.sweep(path, cotangent, lags)["log_gradient"]
        found.append(curves.measurement(f"log_gradient_after_{after}", "nat", setup.by_seed(logs), lags))
    inputs, wanted = draw(task, lag, seeds, TESTED, generator)
    accuracy, _ = networks.gradients(inputs.to(dtype), wanted, 0)
    yield Measurement("accuracy", "1", tuple(accuracy.tolist()), (1,) * seeds)
    yield curves.lags_measured(lags)
    yield from found
