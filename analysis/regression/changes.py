"""Where a series of times steps up or down: two detectors that must agree, and what is no step though it looks like one."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import Literal, NamedTuple

import numpy as np

from analysis import AnalysisError

Mark = Literal["red", "amber", "grey"]
Kind = Literal["step", "drift", "recovered"]

LEAST_MAGNITUDE = 0.02  # relative; smaller changes are not looked for
OTAVA_P = 1e-5  # at its default of 1e-3 one series of noise in ten alarms (simulated)
OTAVA_WINDOW = 50
AGREE_WITHIN = 3  # commits
LEAST_POINTS = 8
FENCE_POINTS = 30  # rustc-perf's: changes that say what is usual


@dataclass(frozen=True, slots=True)
class Change:
    """`index` is the first point of the new level. change: new level over old.

    mark: red where both detectors see a step that lasts; amber where one of them does, or where it is rather a drift; grey
    where the level came back.
    """

    index: int
    change: float
    mark: Mark
    kind: Kind

    @property
    def slower(self) -> bool:
        return self.change > 1


class _Detector(NamedTuple):
    """A package that finds change points. It is no dependency of lstm-bench, and is looked for when it is needed."""

    name: str
    module: str
    install: str

    def load(self) -> ModuleType:
        return importlib.import_module(self.module)


INSTALL_ASV = "pip install asv==0.6.6 asv_runner==0.3.2"
_OTAVA = _Detector("Apache Otava", "otava.analysis", "pip install --no-deps apache-otava==0.8.0")  # asks for older NumPy, SciPy
_ASV = _Detector("asv", "asv.step_detect", INSTALL_ASV)


class NoDetector(AnalysisError):
    """A package that finds change points is not there; the message says which, and how to get it."""


def require_detectors() -> None:
    """Raise `NoDetector` where a package that finds change points is not there, with one sentence on all that is missing."""
    reasons, commands = [], []
    for detector in (_OTAVA, _ASV):
        try:
            detector.load()
        except ImportError as error:
            absent = isinstance(error, ModuleNotFoundError) and error.name == detector.module.partition(".")[0]
            reasons.append(f"{detector.name} {'is not installed' if absent else f'cannot be imported ({error})'}")
            commands.append(detector.install)
    if reasons:
        raise NoDetector(f"change points are not searched: {' and '.join(reasons)}; get it with: {' && '.join(commands)}")


def find(values: Sequence[float]) -> list[Change]:
    """Changes of level, in order. Values are times, one a commit, of one fingerprint. Raises `NoDetector`."""
    if len(values) < LEAST_POINTS:
        return []
    require_detectors()
    by_otava, by_asv = otava(values), asv(values)
    both = {index: _near(index, by_asv) for index in by_otava}
    alone = [index for index in by_asv if _near(index, by_otava) is None]
    indices = sorted([*by_otava, *alone])
    edges = [0, *indices, len(values)]
    found = []
    for position, index in enumerate(indices):
        before, after = np.array(values[edges[position] : index]), np.array(values[index : edges[position + 2]])
        change = float(np.median(after) / np.median(before))
        if abs(change - 1) < LEAST_MAGNITUDE:
            continue
        agreed = both.get(index) is not None
        kind: Kind = "drift" if _is_rather_a_line(before, after) else "step"
        found.append(Change(index, change, "red" if agreed and kind == "step" else "amber", kind))
    return _without_recovered(found)


def otava(values: Sequence[float]) -> list[int]:
    """Change points by Apache Otava (Hunter, https://doi.org/10.1145/3578244.3583719)."""
    # Lists, not arrays: of an array Otava 0.8 asks whether it is true as soon as there is a step, and raises ValueError.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a level without any spread divides by zero inside
        points, _ = _OTAVA.load().compute_change_points(
            [float(value) for value in values],
            window_len=OTAVA_WINDOW,
            max_pvalue=OTAVA_P,
            min_magnitude=LEAST_MAGNITUDE,
        )
    return sorted(point.index for point in points)


def asv(values: Sequence[float]) -> list[int]:
    """First points of new levels by asv's detector (a piecewise constant fit), those of at least 2 %."""
    steps = _ASV.load().detect_steps([float(value) for value in values])
    return [int(new[0]) for old, new in pairwise(steps) if abs(new[2] / old[2] - 1) >= LEAST_MAGNITUDE]


def beyond_the_usual(values: Sequence[float]) -> float | None:
    """The last change, as new over old, where it lies beyond Q3 + 3·IQR of the last 30 changes and beyond 2 %; else None.

    Too little for an alarm, enough for a paired comparison (rustc-perf's fence).
    """
    if len(values) < LEAST_POINTS:
        return None
    changes = np.diff(np.log(np.array(values, dtype=float)))
    sizes = np.abs(changes[:-1][-FENCE_POINTS:])
    first, third = np.quantile(sizes, (0.25, 0.75))
    last = float(changes[-1])
    fence = max(float(third + 3 * (third - first)), float(np.log1p(LEAST_MAGNITUDE)))
    return float(np.exp(last)) if abs(last) > fence else None


def _near(index: int, others: Sequence[int]) -> int | None:
    nearest = min(others, key=lambda other: abs(other - index), default=None)
    return nearest if nearest is not None and abs(nearest - index) <= AGREE_WITHIN else None


def _is_rather_a_line(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether one straight line leaves smaller residuals than two levels do: both have two parameters and an edge."""
    both = np.concatenate([before, after])
    if len(both) < LEAST_POINTS:
        return False
    steps = np.arange(len(both))
    line = np.polyval(np.polyfit(steps, both, 1), steps)
    levels = np.concatenate([np.full(len(before), before.mean()), np.full(len(after), after.mean())])
    return float(np.sum((both - line) ** 2)) < float(np.sum((both - levels) ** 2))


def _without_recovered(found: list[Change]) -> list[Change]:
    """Two neighbouring changes that cancel to within 2 % are an episode, not a level."""
    kept = list(found)
    for position in range(len(kept) - 1):
        one, two = kept[position], kept[position + 1]
        if one.kind != "recovered" and one.slower != two.slower and abs(one.change * two.change - 1) < LEAST_MAGNITUDE:
            kept[position] = Change(one.index, one.change, "grey", "recovered")
            kept[position + 1] = Change(two.index, two.change, "grey", "recovered")
    return kept
