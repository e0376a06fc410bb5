"""The same attenuation through any backend that has gradients: by lag, from its own backward pass."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.harness.case import Case
from bench.studies.gradients import curves, setup, twin
from bench.studies.gradients.pieces import walked_back
from impls import Params, Spec
from results.record import Measurement


def measure(backend: str, case: Case) -> Iterator[Measurement]:
    """`decay` first, as in `attenuation`, of the inputs' curve; `log_input` by seed at the kept lags, as `attenuation` has it
    from the float64 sweep over states; of an LSTM of one layer also `log_hidden` and `log_cell` (see `twin`)."""
    lags = setup.lags(case.steps)
    init, seeds = str(case.factor("init")), int(case.factor("seeds"))
    each = [(setup.inputs(case, s), setup.readout(case, s), own) for s, own in enumerate(setup.weights(case.spec, init, seeds))]
    found = [curve(backend, case.spec, params, x, readout) for x, readout, params in each]
    yield curves.measurement("decay", "nat/step", [np.array([curves.decay(lags, own[lags])]) for own in found])
    yield curves.measurement("log_input", "nat", [own[lags] for own in found], lags)
    yield curves.lags_measured(lags)
    if twin.has_one(case.spec):
        states = [twin.curves_of_states(backend, case.spec, params, x, readout) for x, readout, params in each]
        for name in states[0]:
            yield curves.measurement(name, "nat", [own[name][lags] for own in states], lags)


def curve(backend: str, spec: Spec, params: Params, x: np.ndarray, readout: np.ndarray) -> np.ndarray:
    """Mean over sequences of ln‖dL/dx_{T−k}‖ for every lag k, for a loss readout · y_T; [T]."""
    with np.errstate(divide="ignore"):
        parts = [
            piece.log + np.log(np.linalg.norm(piece.gradients["x"], axis=-1))
            for piece in walked_back(backend, spec, params, x, readout)
        ]
    return np.concatenate(parts[::-1])[::-1].mean(1)
