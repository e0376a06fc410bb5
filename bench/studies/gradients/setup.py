"""What a case means to the gradient studies: its seeds' weights, inputs, cotangents, and the lags that are kept."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bench.harness.case import Case, InvalidCase
from bench.studies.gradients import cells, inits
from impls import Params, Spec

DENSE_LAGS, LAGS_PER_OCTAVE = 64, 16  # every lag up to the first, then so many per doubling


def weights(spec: Spec, init: str, seeds: int) -> list[Params]:
    return [inits.params(spec, init, seed) for seed in range(seeds)]


def inputs(case: Case, seed: int) -> np.ndarray:
    """Normal inputs of one seed, [T, B, I]."""
    return np.random.default_rng([seed, 4]).standard_normal((case.steps, case.batch, case.spec.input_size))


def readout(case: Case, seed: int) -> np.ndarray:
    """A random unit cotangent of the last output for each sequence of one seed, [B, D·R]."""
    drawn = np.random.default_rng([seed, 5]).standard_normal((case.batch, case.spec.output_size))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def path(case: Case, dtype: torch.dtype = torch.float64) -> tuple[cells.Path, cells.State]:
    """All seeds' trajectories, and the cotangent of their last states: u for h, nothing for c."""
    if case.spec.num_layers > 1 or case.spec.bidirectional:
        raise InvalidCase("the sweep over states is of one layer in one direction; ask for the probe `inputs` instead")
    seeds = range(int(case.factor("seeds")))
    init = str(case.factor("init"))
    x = torch.from_numpy(np.stack([inputs(case, seed) for seed in seeds], 1)).to(case.spec.device, dtype)
    walked = cells.run(case.spec, init, weights(case.spec, init, len(seeds)), x)
    u = torch.from_numpy(np.stack([readout(case, seed) for seed in seeds])).to(x)
    return walked, (u, *(torch.zeros_like(u) for _ in range(walked.parts - 1)))


def lags(steps: int) -> np.ndarray:
    """The lags that are kept of T steps: 0 … T − 1, thinned evenly in the logarithm beyond `DENSE_LAGS`."""
    dense = np.arange(min(steps, DENSE_LAGS))
    octaves = np.log2(max(steps - 1, DENSE_LAGS) / DENSE_LAGS)
    sparse = np.round(DENSE_LAGS * 2 ** np.linspace(0, octaves, int(np.ceil(octaves * LAGS_PER_OCTAVE)) + 1)).astype(int)
    return np.unique(np.concatenate([dense, sparse[sparse < steps]]))


def require_lag(lag: int, case: Case) -> None:
    """Raise `InvalidCase` where a lag lies beyond the sequence."""
    if not 0 <= lag < case.steps:
        raise InvalidCase(f"lag {lag} lies beyond the {case.steps} steps of {case.key}; ask for a lag below T or more steps")


def by_seed(values: Tensor) -> list[np.ndarray]:
    """[K, S, ...] as one array per seed."""
    return [np.array(each) for each in np.moveaxis(values.cpu().numpy(), 1, 0)]
