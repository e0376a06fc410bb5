"""What a section says, computed once: time per case, ratios to the baseline, rankings per device, phase and launch mode."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import AnalysisError
from analysis.report import words
from analysis.report.drawing import ordered
from analysis.report.load import Section, load, rows_of
from analysis.report.words import LAUNCHES
from analysis.report.words import PHASES as PHASE_WORDS
from analysis.statistics import CONFIDENCE
from analysis.statistics.hosts import HOST, Between
from analysis.statistics.rankings import At, Part, Ranking, by_phase
from analysis.statistics.rankings import further_replicates as ranked_by_need
from analysis.statistics.ratios import (
    NOT_COMPARED,
    Ratio,
    Statistic,
    aggregate,
    among,
    case_ratios,
    log_ratios,
    median_interval,
    on,
    over_replicates,
    two_modes,
)

DEFAULT_BASELINES = ("torch", "cudnn")  # the first of them that can be compared
PHASES = ("forward", "forward_backward", "step")
CASE = ["study", "case", "backend"]
UNSTEADY = 1.25  # a ratio over turns that differs by more than this factor from the quotient of the two times


class UnknownBaseline(AnalysisError):
    """A baseline that no section has measured."""


@dataclass(frozen=True, slots=True)
class Findings:
    """cases: one row per study, case and backend with `seconds`, `low`, `high`, rates, `ratio` (None if not compared), `notes`;
    `host_seconds` is what the host took to enqueue a call, NaN where it was not measured apart.

    rankings: (device, phase, launch) → geometric means over shared cases, so that no ratio compares an eager call with one
    that was launched from a CUDA graph. baseline is None where nothing was timed.
    """

    section: Section
    baseline: str | None
    statistic: Statistic
    cases: pd.DataFrame
    rankings: dict[At, Ranking]

    @property
    def ordered_rankings(self) -> list[At]:
        """Device by device, the phases in their usual order."""
        devices = list(dict.fromkeys(device for device, _, _ in self.rankings))
        place = {phase: number for number, phase in enumerate(PHASES)}
        return sorted(self.rankings, key=lambda at: (devices.index(at[0]), place.get(at[1], len(place)), at[2]))

    @property
    def launches(self) -> list[str]:
        """The launch modes of what was asked of a backend, eager first."""
        records = self.section.records
        asked = set(records.loc[~records["backend"].isin(NOT_COMPARED), "launch"])
        return [name for name in LAUNCHES if name in asked]

    def named(self, device: str, phase: str, launch: str) -> str:
        """What a ranking is of: the phase, with the device where there are several, the launch mode where any is a graph."""
        where = f" on {device}" if len({its for its, _, _ in self.rankings}) > 1 else ""
        how = f" ({LAUNCHES[launch]})" if "graph" in self.launches else ""
        return PHASE_WORDS.get(phase, phase) + where + how

    @property
    def asks_for_speed(self) -> bool:
        """Whether any backend was timed. Where nothing at all came of what was asked, its speed is what is missing."""
        records = self.section.records
        return not self.cases.empty or not ((records["status"] == "ok") & ~records["backend"].isin(("null", "machine"))).any()

    @property
    def compares(self) -> bool:
        """Whether speeds of several backends stand beside each other, or should."""
        return self.asks_for_speed and (self.cases.empty or self.cases["backend"].nunique() > 1)

    @property
    def backends(self) -> list[str]:
        """Every backend of the records: the baseline, then the others in the order of all legends."""
        names = [name for name in self.section.records["backend"].unique() if name not in NOT_COMPARED]
        first = [self.baseline] if self.baseline is not None else []
        return list(dict.fromkeys([*first, *ordered(names)]))


def choose_baseline(section: Section, asked: str | None = None) -> str | None:
    """The asked backend, else the one that can be compared in most cases, torch before others that can; None where nothing was
    timed."""
    timed = list(timings(section)["backend"].unique())
    if asked is not None:
        if asked in timed or not timed:
            return asked if timed else None
        raise UnknownBaseline(f"baseline {asked!r} was not timed on {section.title}; choose from {', '.join(sorted(timed))}")
    times = timings(section).drop_duplicates(["study", "case", "backend"])
    beside = times[times.duplicated(["study", "case"], keep=False)]["backend"].value_counts()
    comparable = [name for name in timed if name in beside] or timed
    preferred = [name for name in DEFAULT_BASELINES if name in comparable]
    return preferred[0] if preferred else max(comparable, key=lambda name: beside.get(name, 0), default=None)


def fixed_replicates(section: Section) -> int | None:
    """Replicates that its runs had before they looked where a ranking was open; None where none of them did."""
    plans = [run.header.plan for run in section.runs]
    return sum(plan["replicates"] for plan in plans) if any(plan.get("ranking_seconds") for plan in plans) else None


def further_replicates(path: Path, seconds: float, longer: float) -> list[tuple[set[Part], float]]:
    """What further replicates of a run that goes on should measure; see `rankings.further_replicates`.

    Args:
        path: the run's file.
        seconds: that are left.
        longer: how many times as long as before a further replicate samples.
    """
    (section,) = load([path])
    times, baseline = timings(section), choose_baseline(section)
    if baseline is None:
        return []
    rankings = by_phase(times, baseline, "median", fixed_replicates(section))
    cases: dict[At, set[tuple[str, str]]] = defaultdict(set)
    for row in rows_of(times[["device", "phase", "launch", "study", "case"]].drop_duplicates()):
        device, phase, launch, *key = map(str, row.values())
        cases[device, phase, launch].add((key[0], key[1]))
    spent: dict[Part, list[float]] = defaultdict(list)
    for record in section.runs[0].records:
        if record.status == "ok" and record.replicate:  # the first compiles; that of a process that starts is longer
            spent[record.study, record.case, record.backend].append(record.seconds)
    return ranked_by_need(rankings, cases, {part: longer * min(each) for part, each in spent.items()}, seconds)


def timings(section: Section) -> pd.DataFrame:
    """The rows of `series` that time a backend."""
    series = section.series
    return series[(series["metric"] == "time") & ~series["backend"].isin(NOT_COMPARED)]


def machine_name(section: Section) -> str:
    """The GPUs, or the processor with its cores and memory, as a reader knows them."""
    environment = section.runs[-1].header.environment
    gpus = [str(gpu.get("name", "GPU")) for gpu in environment.get("gpus") or () if isinstance(gpu, dict)]
    cpu, memory = environment.get("cpu") or {}, environment.get("memory_bytes")
    parts = [str(cpu.get("model") or section.title), f"{cpu['cores']} cores" if cpu.get("cores") else ""]
    parts += [f"{memory / 1e9:.0f} GB" if memory else ""]
    return words.join_list(gpus) or ", ".join(part for part in parts if part)


def find_out(section: Section, baseline: str | None = None, statistic: Statistic = "median") -> Findings:
    """Compute everything the report says of one section."""
    times, chosen = timings(section), choose_baseline(section, baseline)
    ratios: dict[tuple[str, str, str], Ratio] = {}
    rankings: dict[At, Ranking] = {}
    if chosen is not None:
        logs = log_ratios(times, chosen, statistic)
        ratios = case_ratios(logs, statistic)
        rankings = by_phase(times, chosen, statistic, fixed_replicates(section))
    return Findings(section, chosen, statistic, _cases(section, times, ratios, chosen, statistic), rankings)


def times(section: Section, statistic: Statistic = "median") -> pd.DataFrame:
    """`Findings.cases` of a section without any speedup."""
    return _cases(section, timings(section), {}, None, statistic)


def _cases(
    section: Section,
    times: pd.DataFrame,
    ratios: dict[tuple[str, str, str], Ratio],
    baseline: str | None,
    statistic: Statistic,
) -> pd.DataFrame:
    hosts = section.series[section.series["metric"] == "host_time"]
    host = {
        tuple(map(str, key)): float(np.median([aggregate(samples, statistic) for samples in part]))
        for key, part in hosts.groupby(CASE)["samples"]
    }
    first_calls = section.series[section.series["metric"] == "first_call"]
    first = {
        tuple(map(str, key)): float(np.median(np.concatenate(list(part)))) for key, part in first_calls.groupby(CASE)["samples"]
    }
    # Made for all cases at once: for one case it costs far more than all that is computed of it.
    plain = rows_of(times.drop_duplicates(CASE).drop(columns=["samples", "blocks", "notes"]))
    own = {tuple(str(row[name]) for name in CASE): row for row in plain}
    rows: list[dict[str, Any]] = []
    apart = {str(name): _among(part, statistic) for name, part in times.groupby("backend")}
    for (study, case, backend), part in times.groupby(CASE, sort=False):
        key = (str(study), str(case), str(backend))
        row = own[key]
        row |= _time(part, statistic, apart[key[2]])
        seconds = float(row["seconds"])
        row |= {
            "tokens_per_second": row.get("count_tokens", np.nan) / seconds,
            "flops_per_second": row.get("count_flops", np.nan) / seconds,
            "first_call": first.get(key, np.nan),
            "host_seconds": host.get(key, np.nan),
            "ratio": ratios.get(key),
            "notes": tuple(sorted({note for notes in part["notes"] for note in notes})),
            "modes": next((modes for samples in part["samples"] if (modes := two_modes(samples)) is not None), None),
        }
        rows.append(row)
    _note_unsteady_ratios(rows, baseline)
    columns = [*CASE, "phase", "launch", "device", "dtype", "steps", "batch", "hidden_size"]
    columns += ["seconds", "low", "high", "replicates", "tokens_per_second", "flops_per_second", "host_seconds"]
    columns += ["ratio", "notes", "modes"]
    return pd.DataFrame(rows, columns=list(dict.fromkeys([*columns, *(name for row in rows for name in row)])))


def _note_unsteady_ratios(rows: list[dict[str, Any]], baseline: str | None) -> None:
    """Where the machine was so unsteady that turn by turn says another thing than all in all, the reader must know."""
    reference = {(row["study"], row["case"]): row["seconds"] for row in rows if row["backend"] == baseline}
    for row in rows:
        if row["ratio"] is not None:
            quotient = reference[row["study"], row["case"]] / row["seconds"]
            if abs(np.log(row["ratio"].value / quotient)) > np.log(UNSTEADY):
                row["notes"] += ("unsteady_ratio",)


def _among(times: pd.DataFrame, statistic: Statistic) -> Between | None:
    """What the hosts of a fleet differ by in the time of a case; None of other runs, and where no two measured the same."""
    if HOST not in times or times[HOST].nunique() < 2:
        return None
    seconds = np.array([aggregate(samples, statistic) for samples in times["samples"]])
    positive = times[seconds > 0]
    return among(positive.assign(log_seconds=np.log(seconds[seconds > 0])), "log_seconds")


def _time(part: pd.DataFrame, statistic: Statistic, apart: Between | None = None) -> dict[str, object]:
    """Seconds a call: over replicates with a t-interval; from one replicate with that of the median of its own samples.

    apart: what the hosts of a fleet differ by, which the interval then holds.
    """
    medians = np.array([aggregate(samples, statistic) for samples in part["samples"]])
    samples = sum(len(samples) for samples in part["samples"])
    if len(part) == 1:
        _, low, high = median_interval(part["samples"].iloc[0])
        bounds = (low, high) if statistic == "median" else (None, None)
        if apart is not None:
            bounds = _widened(float(medians[0]), *bounds, apart)
        return {
            "seconds": float(medians[0]),
            "low": bounds[0],
            "high": bounds[1],
            "replicates": 1,
            "sample_count": samples,
        }
    if (medians <= 0).any():
        return {
            "seconds": float(medians.mean()),
            "low": None,
            "high": None,
            "replicates": len(part),
            "sample_count": samples,
        }
    time = over_replicates(np.log(medians), statistic, on=on(part), among=apart)
    return {"seconds": time.value, "low": time.low, "high": time.high, "replicates": len(part), "sample_count": samples}


def _widened(value: float, low: float | None, high: float | None, apart: Between) -> tuple[float | None, float | None]:
    """The bounds of a single replicate, which lies on one of several hosts."""
    if low is None or high is None or low <= 0:
        return None, None
    half = apart.half_width([1.0], CONFIDENCE)
    return (value * float(np.exp(-np.hypot(np.log(value / low), half))),
            value * float(np.exp(np.hypot(np.log(high / value), half))))  # fmt: skip
