"""One more token after so many: its time by context on each model's fastest backend, and what that context takes in bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.report import words
from analysis.statistics import seeds
from analysis.statistics.quantities import Quantity
from analysis.statistics.seeds import NOT_MEASURED, Estimate, exact, missing

NAMES = {"attention": "Attention", "grouped": "Grouped queries", "windowed": "Window", "lstm": "LSTM"}
GIGABYTE = 1e9


@dataclass(frozen=True, slots=True)
class Stream:
    """A model on its fastest backend, in the launch mode it is fastest in.

    contexts [C]; seconds [R, C] of each replicate, its median; the rest [C], per stream.

    least_bytes: what has to cross memory for a token: weights, state, input and output.
    """

    model: str
    backend: str
    contexts: np.ndarray
    seconds: np.ndarray
    state_bytes: np.ndarray
    least_bytes: np.ndarray
    parameter_bytes: float

    @property
    def middle(self) -> np.ndarray:
        """Geometric mean over replicates, seconds."""
        return np.exp(np.log(self.seconds).mean(0))

    def streams(self, memory: float = GIGABYTE) -> np.ndarray:
        """How many fit in so many bytes with the weights, by their states alone (closed form)."""
        return np.floor(max(memory - self.parameter_bytes, 0.0) / self.state_bytes)

    def fitting(self, context: float, memory: float) -> float | None:
        """How many fit after so many tokens; None where that context was not asked for."""
        return next((float(fit) for at, fit in zip(self.contexts, self.streams(memory), strict=True) if at == context), None)

    def time_over_context(self) -> Estimate:
        """Time at the longest context over that at the shortest."""
        if len(self.contexts) < 2:
            return missing("one context only")
        return seeds.geometric_mean(np.log(self.seconds[:, -1] / self.seconds[:, 0]))

    def state_exponent(self) -> Estimate:
        """d ln bytes / d ln T between the two: 1 for what grows in proportion, 0 for what stays. Counted, so exact."""
        if len(self.contexts) < 2:
            return missing("one context only")
        ratio = np.log(self.state_bytes[-1] / self.state_bytes[0]) / np.log(self.contexts[-1] / self.contexts[0])
        return exact(ratio, len(self.seconds))


def streams(series: pd.DataFrame, batch: int | None = None) -> list[Stream]:
    """Of study `decode`, in the order of `NAMES`; of the smallest batch unless another is asked for."""
    rows = series[(series["study"] == "decode") & (series["metric"] == "time")]
    if rows.empty or "model" not in rows:
        return []
    rows = rows[rows["batch"] == (rows["batch"].min() if batch is None else batch)]
    return [found for model in NAMES if (found := stream(rows[rows["model"] == model])) is not None]


def stream(rows: pd.DataFrame) -> Stream | None:
    """Of one model's rows: the backend and launch mode that is fastest at the longest context, where all its replicates have
    every context."""
    rows = rows[rows["metric"] == "time"]
    if rows.empty:
        return None
    times = rows.assign(seconds=[float(np.median(samples)) for samples in rows["samples"]], ran=_launched(rows))
    longest = times[times["steps"] == times["steps"].max()].groupby("ran")["seconds"].median()
    backend = str(longest.idxmin())
    own = times[times["ran"] == backend]
    table = own.pivot_table(index="replicate_key", columns="steps", values="seconds").dropna()
    if table.empty:
        return None
    first = own.drop_duplicates("steps").set_index("steps").loc[table.columns]
    return Stream(
        str(first["model"].iloc[0]),
        backend,
        table.columns.to_numpy(float),
        table.to_numpy(float),
        (first["count_state_bytes"] / first["batch"]).to_numpy(float),
        first["count_least_bytes"].to_numpy(float),
        float(first["count_parameter_bytes"].iloc[0]),
    )


def _launched(rows: pd.DataFrame) -> list[str]:
    """Of each row its backend with its launch mode, so that neither is averaged with another."""
    return [
        words.with_launch_mode(str(backend), str(launch))
        for backend, launch in zip(rows["backend"], rows["launch"], strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Energy:
    """Joules of a token. contexts [C]; joules [R, C] of each replicate."""

    model: str
    backend: str
    contexts: np.ndarray
    joules: np.ndarray

    @property
    def middle(self) -> np.ndarray:
        """Geometric mean over replicates, joules."""
        return np.exp(np.log(self.joules).mean(0))


def energies(series: pd.DataFrame) -> list[Energy]:
    """Of study `decode`, in the order of `NAMES`, of the models whose energy was measured, on the backend that took least."""
    rows = series[(series["study"] == "decode") & (series["metric"] == "energy")]
    found = []
    for model in NAMES if "model" in rows else ():
        own = rows[rows["model"] == model]
        own = own.assign(
            joules=[float(np.median(samples)) / batch for samples, batch in zip(own["samples"], own["batch"], strict=True)],
            ran=_launched(own),
        )
        if own.empty:
            continue
        backend = str(own.groupby("ran")["joules"].median().idxmin())
        table = own[own["ran"] == backend].pivot_table(index="replicate_key", columns="steps", values="joules").dropna()
        if not table.empty:
            found.append(Energy(model, backend, table.columns.to_numpy(float), table.to_numpy(float)))
    return found


@dataclass(frozen=True, slots=True)
class Held:
    """How many streams a GPU was seen to hold, each `context` tokens in: the most that ran; `memory` bytes were free."""

    model: str
    context: float
    streams: float
    memory: float


def held(series: pd.DataFrame) -> list[Held]:
    """Of study `decode`, in the order of `NAMES`; none where nobody counted."""
    rows = series[series["study"] == "decode"]
    found = []
    for model in NAMES if "model" in rows else ():
        own = rows[rows["model"] == model]
        free = own[own["metric"] == "free_bytes"].set_index(["steps", "replicate_key"])["samples"]
        for _, count in own[own["metric"] == "streams"].iterrows():
            if (key := (count["steps"], count["replicate_key"])) in free.index:
                found.append(Held(model, float(count["steps"]), float(count["samples"][0]), float(free[key][0])))
    return found


def _of_stream(estimate: Callable[[Stream], Estimate]) -> Callable[[pd.DataFrame], Estimate]:
    def quantity(rows: pd.DataFrame) -> Estimate:
        of = stream(rows)
        return NOT_MEASURED if of is None else estimate(of)

    return quantity


QUANTITIES = {
    "time_over_context": Quantity(
        _of_stream(Stream.time_over_context), "time at the longest over the shortest context",
        compares_cases=True, separates_launches=True,
    ),
    "state_exponent": Quantity(
        _of_stream(Stream.state_exponent), "scaling exponent of the state's bytes", compares_cases=True, separates_launches=True
    ),
}  # fmt: skip
