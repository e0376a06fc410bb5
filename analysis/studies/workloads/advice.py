"""Which way of running an LSTM to take, by a run's measurements: faster than PyTorch's own module, by how much, at what error.

Nothing is advised that this run did not measure with the right answer, or whose interval reaches a speedup of 1. The intervals
hold for all ways of a call together (Bonferroni), since the fastest of several is chosen by the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from analysis.statistics import CONFIDENCE
from analysis.statistics.ratios import NOT_COMPARED, Ratio, aggregate, log_ratio, over_replicates

# PyTorch's own module: what a model has before any advice is taken, by device.
OWN = {"cpu": "torch", "cuda": "cudnn"}
OWN_DTYPE = "own_dtype"  # the factor of a case that is in another data type than its model
# Of ways that are equally fast the one that changes least of a program is advised.
EFFORT = ("torch", "cudnn", "cuda", "onnxruntime")
COLUMNS = ("replicate_key", "samples", "blocks")
SIZES = ("cell", "input_size", "hidden_size", "num_layers", "bias", "bidirectional", "proj_size", "device", "steps", "batch",
         "phase", "ragged", "initial_state", "workload", "module")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Way:
    """A backend in a data type and a launch mode, with what was measured of it.

    Attributes:
        seconds: of a call, the median over replicates.
        error: of its outputs against float64, relative to the largest of them; None where it was not measured.
        gain: its speed over PyTorch's own module; of that itself None.
    """

    backend: str
    dtype: str
    launch: str
    seconds: float
    error: float | None
    gain: Ratio | None


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do about one call.

    Attributes:
        call: its parameters, in the model's own data type.
        own: PyTorch's own module; None where it was not measured, and then nothing is advised.
        best: the way to take that computes in the model's own data type; None where nothing measured is surely faster.
        nearest: where there is no best, the way of the largest gain above 1, which no interval proves; else None.
        tied: ways that no interval tells from the best.
        changing: of each other data type the fastest way, where it is surely faster than what is advised else: it changes
            the numbers.
        compared: how many ways were compared with PyTorch's own module.
        failed: ways that gave a wrong answer or none, with the reason.
    """

    call: dict[str, Any]
    own: Way | None
    best: Way | None
    nearest: Way | None
    tied: tuple[Way, ...]
    changing: tuple[Way, ...]
    compared: int
    failed: tuple[tuple[str, str], ...]


def advise(records: pd.DataFrame, series: pd.DataFrame) -> list[Advice]:
    """One piece of advice for each call of an LSTM in a run. records, series: those of a section of one run."""
    times = series[(series["metric"] == "time") & ~series["backend"].isin(NOT_COMPARED) & (series["cell"] == "lstm")]
    times = times[[bool(samples.min() > 0) for samples in times["samples"]]]
    made = []
    for call, rows in _calls(times):
        same = records[records["case"].isin(set(rows["case"]))]
        failed = same[(same["status"] == "failed") & ~same["backend"].isin(NOT_COMPARED)]
        reasons = {f"{row.backend} in {row.dtype}": str(row.reason) for row in failed.itertuples()}
        made.append(_of_call(call, rows, series, tuple(reasons.items())))
    return made


def _calls(times: pd.DataFrame) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """The rows of each call: all data types and launch modes of it."""
    keys = []
    for row in times.to_dict("records"):
        own = row.get(OWN_DTYPE)
        sizes = {name: value for name in SIZES if (value := row.get(name)) is not None and value == value}
        keys.append(sizes | {"dtype": own if isinstance(own, str) else row["dtype"]})
    places: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(repr(key), []).append(place)
    return [(keys[own[0]], times.iloc[own]) for own in places.values()]


def _of_call(call: dict[str, Any], rows: pd.DataFrame, series: pd.DataFrame, failed: tuple[tuple[str, str], ...]) -> Advice:
    groups = {key: part for key, part in rows.groupby(["backend", "dtype", "launch"], sort=False)}
    own_key = OWN[call["device"]], call["dtype"], "eager"
    own_rows = groups.get(own_key)
    compared = len(groups) - (own_rows is not None)
    if own_rows is None:
        return Advice(call, None, None, None, (), (), compared, failed)
    level = 1 - (1 - CONFIDENCE) / max(1, compared)
    ways = {key: _way(part, series, None if key == own_key else gain(own_rows, part, level)) for key, part in groups.items()}
    faster = sorted((way for way in ways.values() if way.gain and way.gain.verdict == "faster"), key=lambda way: way.seconds)
    exact = [way for way in faster if way.dtype == call["dtype"]]
    alike = [way for way in exact if way is exact[0] or _verdict(groups, exact[0], way, level) is None]
    best = min(alike, key=_effort) if alike else None
    first = best or ways[own_key]
    others = [way for way in faster if way.dtype != call["dtype"] and _verdict(groups, first, way, level) == "faster"]
    changing = [next(of_one) for _, of_one in groupby(sorted(others, key=lambda way: way.dtype), key=lambda way: way.dtype)]
    changing.sort(key=lambda way: way.seconds)
    gains = {way.gain.value: way for way in ways.values() if way.gain and way.dtype == call["dtype"] and way.gain.value > 1}
    nearest = gains[max(gains)] if gains and not best else None
    tied = tuple(way for way in alike if way is not best)
    return Advice(call, ways[own_key], best, nearest, tied, tuple(changing), compared, failed)


def _effort(way: Way) -> tuple[int, bool, float]:
    place = EFFORT.index(way.backend) if way.backend in EFFORT else len(EFFORT)
    return place, way.launch == "graph", way.seconds


def _verdict(groups: dict[Any, pd.DataFrame], first: Way, way: Way, level: float) -> str | None:
    """Whether the way is surely faster or slower than the first; None where no interval tells, "incomparable" where none is."""
    rows = [groups[each.backend, each.dtype, each.launch] for each in (first, way)]
    ratio = gain(rows[0], rows[1], level)
    return "incomparable" if ratio is None or ratio.low is None else ratio.verdict


def gain(own: pd.DataFrame, other: pd.DataFrame, confidence: float) -> Ratio | None:
    """Speed of the other over `own`, in the replicates that have both; None where none has."""
    baseline, ours = (
        {key: (samples, blocks) for key, samples, blocks in zip(*(rows[name] for name in COLUMNS), strict=True)}
        for rows in (own, other)
    )
    logs = [
        log_ratio(baseline[key][0], samples, baseline[key][1], blocks, "median")
        for key, (samples, blocks) in ours.items()
        if key in baseline
    ]
    return over_replicates(logs, "median", confidence=confidence) if logs else None


def _way(rows: pd.DataFrame, series: pd.DataFrame, ratio: Ratio | None) -> Way:
    first = rows.iloc[0]
    same = (series["case"] == first["case"]) & (series["backend"] == first["backend"]) & (series["metric"] == "error")
    errors: Sequence[np.ndarray] = list(series.loc[same, "samples"])
    return Way(
        str(first["backend"]), str(first["dtype"]), str(first["launch"]),
        float(np.median([aggregate(samples, "median") for samples in rows["samples"]])),
        max(float(np.max(samples)) for samples in errors) if errors else None, ratio,
    )  # fmt: skip
