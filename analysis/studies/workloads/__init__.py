"""What each backend takes for the LSTMs of systems in use, in the unit of those who run them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.report.load import PRICE
from analysis.statistics.ratios import NOT_COMPARED, Ratio, aggregate, on, over_replicates
from analysis.studies.throughput.maps import margin
from results.record import NO_ENERGY
from results.workloads import BY_NAME, Part, Published, Shape, System

LIKE = "like-"  # begins the name of a workload that a user's model is
AUDIO = "s of audio"  # of which a rate is a multiple of real time


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds a call on one backend; without an interval where there is one replicate."""

    backend: str
    seconds: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a system's LSTM with what was measured of it, the fastest backend first."""

    system: System
    part: Part
    shape: Shape
    timings: tuple[Timing, ...]
    lead: Ratio | None  # speedup of the fastest over the second; None where there is one backend
    case: str  # its key
    first_call: float | None = None  # seconds of the fastest's first call, cold; None where it was not measured
    price: float | None = None  # of an hour of the machine, in the user's currency
    joules: float | None = None  # that a call of the fastest took; None where it was not measured
    no_energy: str = ""  # why it was not

    @property
    def rate(self) -> float:
        """Of the fastest, in the system's unit a second."""
        return self.shape.amount / self.timings[0].seconds

    @property
    def cost(self) -> float | None:
        """Of a million of the system's units by the fastest, or of an hour of audio; None without a price."""
        if self.price is None:
            return None
        return self.price / self.rate * (1.0 if self.system.unit == AUDIO else 1e6 / 3600)

    @property
    def energy(self) -> float | None:
        """Joules of one of the system's units by the fastest; None where energy was not measured."""
        return None if self.joules is None else self.joules / self.shape.amount

    @property
    def budget_share(self) -> float | None:
        """Of the time that a streaming call may take, by the fastest; None where there is no limit."""
        return self.timings[0].seconds / self.system.budget[0] if self.system.budget and self.shape.batch == 1 else None

    @property
    def published(self) -> tuple[Published, ...]:
        """Speeds that others published: of this very call, else those of no certain call."""
        own = (self.shape.batch, self.shape.phase)
        same = [each for each in self.system.published if (each.batch, each.phase) == own and not self.shape.scaled]
        return tuple(same or [each for each in self.system.published if each.seconds is None])


def measured(series: pd.DataFrame) -> list[Call]:
    """Every call that was timed, in the order of the table. series: rows of a section's `series`."""
    if "workload" not in series:
        return []
    of_study = series[(series["study"] == "workloads") & ~series["backend"].isin(NOT_COMPARED)]
    rows = of_study[of_study["metric"] == "time"]
    found: list[Call] = []
    for name, own in rows.groupby("workload", sort=False):
        system = BY_NAME.get(str(name))
        for part in system.parts if system else ():
            for shape in part.shapes:
                found += _calls(system, part, shape, own[_is(own, part, shape)]) if system else []
        if str(name).startswith(LIKE):
            found += _of_user(str(name), own)
    places = {name: place for place, name in enumerate(BY_NAME)}
    found.sort(key=lambda call: places.get(call.system.name, -1))
    return [_with_energy(_with_first_call(call, of_study), of_study) for call in found]


def _calls(system: System, part: Part, shape: Shape, timed: pd.DataFrame) -> list[Call]:
    """The call, where it was timed."""
    if timed.empty:
        return []
    timings = _timings(timed)
    names = [each.backend for each in timings]
    lead = margin(timed, names[0], names[1], "median") if len(names) > 1 else None
    price = float(timed[PRICE].iloc[0]) if PRICE in timed else None
    return [Call(system, part, shape, timings, lead, str(timed["case"].iloc[0]), price=price)]


def _with_first_call(call: Call, rows: pd.DataFrame) -> Call:
    first = (rows["metric"] == "first_call") & (rows["case"] == call.case) & (rows["backend"] == call.timings[0].backend)
    samples = list(rows.loc[first, "samples"])
    return replace(call, first_call=float(np.median(np.concatenate(samples)))) if samples else call


def _with_energy(call: Call, rows: pd.DataFrame) -> Call:
    own = rows[(rows["case"] == call.case) & (rows["backend"] == call.timings[0].backend)]
    samples = list(own.loc[own["metric"] == "energy", "samples"])
    if samples:
        return replace(call, joules=float(np.median([np.mean(each) for each in samples])))
    told = own[NO_ENERGY].dropna() if NO_ENERGY in own else pd.Series(dtype=object)
    return replace(call, no_energy=str(told.iloc[0]) if len(told) else "the run is older than this measurement")


def _of_user(name: str, rows: pd.DataFrame) -> list[Call]:
    """Of a user's model, whose shapes are known by its records alone."""
    title = f"Your model, {name.removeprefix(LIKE)}"
    system = System(name, title, "yours", "named with --like", "tokens", ())
    found = []
    for _, own in rows.groupby("case", sort=False):
        first = own.iloc[0]
        sizes = int(first["input_size"]), int(first["hidden_size"]), int(first["num_layers"])
        others = f" and {first['copies'] - 1:.0f} of its sizes" if first["copies"] > 1 else ""
        label = f"{first['module']}{others}{', as a CUDA graph' * (first['launch'] == 'graph')}"
        amount = first["batch"] * (1 if first["phase"] == "step" else first["steps"])
        shape = Shape(int(first["steps"]), int(first["batch"]), first["phase"], first["dtype"], first["device"], int(amount))
        found += _calls(system, Part(sizes, (shape,), label, int(first["proj_size"]), bool(first["bidirectional"])), shape, own)
    return found


def _is(rows: pd.DataFrame, part: Part, shape: Shape) -> pd.Series:
    """Which rows are of this call: sizes, phase, data type and device stand in every record."""
    wanted = dict(zip(("input_size", "hidden_size", "num_layers"), part.sizes, strict=True))
    wanted |= {"steps": shape.steps, "batch": shape.batch, "phase": shape.phase, "dtype": shape.dtype, "device": shape.device}
    return pd.Series(np.logical_and.reduce([rows[name] == value for name, value in wanted.items()]), index=rows.index)


def _timings(rows: pd.DataFrame) -> tuple[Timing, ...]:
    found = []
    for backend, own in rows.groupby("backend"):
        medians = np.array([aggregate(samples, "median") for samples in own["samples"]])
        time = over_replicates(np.log(medians), "median", on=on(own)) if len(medians) > 1 else None
        bounds = (time.value, time.low, time.high) if time else (float(medians[0]), None, None)
        found.append(Timing(str(backend), *bounds))
    return tuple(sorted(found, key=lambda each: each.seconds))
