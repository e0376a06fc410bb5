"""Fit the models of `model.py` to their measurements, and say how far they are off at each shape that was left out.

    python -m impls.cuda.select.fit          fits the constants anew
    python -m impls.cuda.select.fit --check  exits with 1 where the stored constants are not those of the measurements

The constants are at least 0 and minimise the squared relative error.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from impls.cuda.select.model import FAMILIES, TABLE, Features, stored


@dataclass(frozen=True, slots=True)
class Fit:
    """constants: of the features. ratios: measured over modelled time, where each is predicted without its own shape."""

    constants: Features
    ratios: tuple[float, ...]

    def errors(self) -> list[float]:
        """Relative errors of the predictions, sorted."""
        return sorted(abs(1 / ratio - 1) for ratio in self.ratios)

    def bound(self) -> float:
        """Nine of ten measured times were at most so many times what was predicted; at least 1."""
        return max(1.0, _quantile(sorted(self.ratios), 0.9))


def fit(family: str) -> Fit:
    """Fitted to the stored measurements. A shape is a batch and hidden size."""
    rows = [tuple(row) for row in stored()[family]["rows"]]
    shapes = [(row[0], row[1]) for row in rows]
    features = [FAMILIES[family].features(*row[1:-1]) for row in rows]
    times = [row[-1] for row in rows]
    ratios = []
    for left, own, time in zip(shapes, features, times, strict=True):
        seen = [index for index, shape in enumerate(shapes) if shape != left]
        constants = _solved([features[index] for index in seen], [times[index] for index in seen])
        ratios.append(time / sum(map(math.prod, zip(constants, own, strict=True))))
    return Fit(_solved(features, times), tuple(ratios))


def _solved(features: Sequence[Features], times: Sequence[float]) -> Features:
    relative = np.array(features) / np.array(times)[:, None]
    return tuple(float(value) for value in nnls(relative, np.ones(len(times)))[0])


def _quantile(ordered: Sequence[float], part: float) -> float:
    """The least value that at least this part of the values does not exceed."""
    return ordered[math.ceil(part * len(ordered)) - 1]


def stored_values(found: Fit) -> dict[str, object]:
    """A family's constants and bound, rounded as they are stored."""
    return {"constants": [float(f"{value:.5g}") for value in found.constants], "bound": float(f"{found.bound():.4g}")}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m impls.cuda.select.fit", description="Fit the times of kernels.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 where constants are not up to date")
    check = parser.parse_args().check
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    stale = False
    for name, family in table["families"].items():
        found = fit(name)
        middle, most = (_quantile(found.errors(), part) for part in (0.5, 0.9))
        print(f"{name:22} {len(found.ratios):3} points, error {middle:.1%} in the median, {most:.1%} for nine of ten")
        stale |= family != family | stored_values(found)
        family |= stored_values(found)
    if check:
        return int(stale)
    TABLE.write_text(written(table), encoding="utf-8")
    return 0


def written(table: Mapping[str, object]) -> str:
    """As JSON, a row a line."""
    text = json.dumps(table, indent=1)
    return re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda found: "[" + re.sub(r"\s+", " ", found[1]) + "]", text) + "\n"


if __name__ == "__main__":
    sys.exit(main())
