"""Records as study `horizon` writes them, with successes drawn from a known logistic and gradients of a known decay."""

from __future__ import annotations

import numpy as np

from results.record import Measurement, Record

LADDER = (5.0, 7.0, 10.0, 14.0, 20.0, 28.0, 40.0, 57.0, 80.0, 113.0, 160.0)


def learnt(lag: float, steep: float, networks: int, seed: int, lags: tuple[float, ...] = LADDER) -> list[np.ndarray]:
    """Successes at each lag tried, as the study climbs: it ends after a lag that none learnt, from the third on."""
    random, found = np.random.default_rng(seed), []
    for tried in lags:
        found.append((random.random(networks) < 1 / (1 + (tried / lag) ** steep)).astype(float))
        if len(found) >= 3 and not found[-1].any():
            break
    return found


def record(
    cell: str, init: str, successes: list[np.ndarray], horizon: float, truncation: int = 0, task: str = "recall"
) -> Record:
    """horizon: the lag at which ln A passes ln 10⁻³."""
    random = np.random.default_rng(11)
    at = np.arange(300)
    curves = -np.log(1e3) / horizon * at + 0.01 * random.standard_normal((5, 300)).cumsum(1)
    parameters = {
        "probe": "learning", "task": task, "init": init, "cell": cell, "truncation": truncation, "hidden_size": 32,
        "steps": 161, "phase": "forward_backward", "seeds": len(successes[0]), "updates": 400, "device": "cpu",
        "dtype": "float32", "batch": 32,
    }  # fmt: skip
    lags = tuple(LADDER[: len(successes)])
    measured = (
        Measurement("trained_lag", "step", lags),
        Measurement("learnt", "1", tuple(np.concatenate(successes).tolist()), tuple(len(own) for own in successes)),
        Measurement("lag", "step", tuple(at.astype(float).tolist())),
        Measurement("log_gradient", "nat", tuple(curves.ravel().tolist()), (300,) * 5),
    )
    name = f"{cell}-{init}-{task}-{truncation}"
    return Record("horizon", name, "reference", 0, "ok", parameters, measurements=measured)
