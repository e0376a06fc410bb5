"""From curves by seed to measurements, naming every lag at which a gradient was exactly zero or not finite."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from results.record import Measurement

SIGNIFICANT = 7  # digits kept of a value: a tenth of what float32 resolves, and half the file


def measurement(metric: str, unit: str, seeds: Sequence[np.ndarray], lags: Sequence[int] | np.ndarray = ()) -> Measurement:
    """`samples` holds the seeds one after the other, `blocks` how many values each has.

    With lags, a seed's curve ends before its first value that is no number: −inf (a gradient exactly zero), inf or NaN; the
    note says at which lag and for which seed, and the other seeds go on.
    """
    samples: list[float] = []
    blocks, notes = [], []
    for number, values in enumerate(seeds):
        flat = np.asarray(values, float).ravel()
        bad = np.flatnonzero(~np.isfinite(flat))
        if len(bad):
            what = "exactly zero" if flat[bad[0]] == -np.inf else "not finite"
            at = f" at lag {lags[bad[0]]}" if len(lags) else ""
            notes.append(f"{metric} is {what}{at} for seed {number}")
            flat = flat[: bad[0]]
        samples += [float(f"{value:.{SIGNIFICANT}g}") for value in flat]
        blocks.append(len(flat))
    return Measurement(metric, unit, tuple(samples), tuple(blocks), tuple(notes))


def lags_measured(lags: np.ndarray) -> Measurement:
    return Measurement("lag", "step", tuple(float(lag) for lag in lags))


def decay(lags: np.ndarray, curve: np.ndarray) -> float:
    """Slope from a tenth of the way to the last lag whose gradient is a number other than zero; NaN where none is."""
    known = np.flatnonzero(np.isfinite(curve))
    if not len(known):
        return float("nan")
    last = int(known[-1])
    tenth = int(np.searchsorted(lags, lags[last] / 10))
    return float((curve[last] - curve[tenth]) / (lags[last] - lags[tenth])) if last > tenth else 0.0
