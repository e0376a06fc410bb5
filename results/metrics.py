"""Names and notes of measurements that carry numbers: each is built and read here and nowhere else."""

from __future__ import annotations

import re
from dataclasses import dataclass

_GAP = re.compile(r"(\w+) is (exactly zero|not finite)(?: at lag (\d+))? for seed (\d+)")


@dataclass(frozen=True, slots=True)
class NumberedMetric:
    """A metric of which there is one for each number, such as `hop_share_10`: the number's name is at the end."""

    stem: str

    def name(self, number: int) -> str:
        """The metric's name on disk."""
        return f"{self.stem}_{number}"

    def number(self, metric: str) -> int | None:
        """The number of a metric of this kind; None for any other."""
        stem, _, text = metric.rpartition("_")
        return int(text) if stem == self.stem and text.isdecimal() else None


HOP_SHARE = NumberedMetric("hop_share")  # by lag: shares of a gradient that left the cell 0, 1, 2 … times on the way
LOG_GRADIENT_AFTER = NumberedMetric("log_gradient_after")  # by updates of training


@dataclass(frozen=True, slots=True)
class Gap:
    """Where a seed's curve ends before the others'.

    Attributes:
        metric: of the curve.
        zero: the value is exactly zero there; else it is not finite.
        seed: whose curve it is.
        lag: at which it ends; None where the metric is not over lags.
    """

    metric: str
    zero: bool
    seed: int
    lag: int | None = None

    def note(self) -> str:
        """The note of the measurement, on disk."""
        at = "" if self.lag is None else f" at lag {self.lag}"
        return f"{self.metric} is {'exactly zero' if self.zero else 'not finite'}{at} for seed {self.seed}"

    @staticmethod
    def from_note(note: str) -> Gap | None:
        """The inverse of `note`; None for a note of another kind."""
        match = _GAP.fullmatch(note)
        if match is None:
            return None
        metric, what, lag, seed = match.groups()
        return Gap(metric, what == "exactly zero", int(seed), None if lag is None else int(lag))
