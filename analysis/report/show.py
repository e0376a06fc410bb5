"""A run at a glance for a terminal: plain rows, all with the same columns; the command line draws them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.report import words
from analysis.report.findings import Findings, find_out
from analysis.report.load import Section, choose, left_out, load, rows_of
from analysis.statistics.ratios import Location, Ratio, locate
from analysis.studies.gradients import statistics as gradients_statistics
from results.store import ROOT, read

STATUS_ORDER = ("ok", "failed", "skipped")
# Cases by what a reader looks for first, not in the shuffled order in which they ran.
CASE_ORDER = ["study", "phase", "launch", "cell", "dtype", "hidden_size", "batch", "steps", "case"]
NOT_SHOWN = ("null", "machine")  # they price the harness and the machine
Row = dict[str, str]
Values = dict[str, str | int | float | None]


def rows(
    paths: Sequence[Path] = (), baseline: str | None = None, location: Location = "median", root: Path = ROOT
) -> list[Row]:
    """One row per case and backend, as text to read; with a column for the host's time where it was measured apart."""
    found = values(paths, baseline, location, root)
    hosts = any(value["host_seconds"] is not None for value in found)
    return [_text(value, hosts) for value in found]


def values(
    paths: Sequence[Path] = (), baseline: str | None = None, location: Location = "median", root: Path = ROOT
) -> list[Values]:
    """The same rows as numbers in SI units for a program to read; None is what was not measured."""
    return [value for section in load(paths, root) for value in _section(section, baseline, location)]


def remarks(paths: Sequence[Path] = (), root: Path = ROOT) -> list[str]:
    """How many outcomes of these runs are left out, and why (see `results.exclusions`)."""
    return left_out(read(path) for path in choose(paths, root))


def _section(section: Section, baseline: str | None, location: Location) -> Iterator[Values]:
    found = find_out(section, baseline, location)
    timed = {(row["study"], row["case"], row["backend"]): row for row in rows_of(found.cases)}
    series = section.series[section.series["metric"] != "time"]
    other: dict[tuple[str, str, str], dict[str, Any]] = {}
    for (study, case, backend), rows in series.groupby(["study", "case", "backend"], sort=False):
        other[str(study), str(case), str(backend)] = rows_of(rows[:1])[0] | {"notes": gradients_statistics.of_case(rows)}
    records = section.records.assign(rank=section.records["status"].map(STATUS_ORDER.index))
    records = records[~records["backend"].isin(NOT_SHOWN)].sort_values("rank", kind="stable")
    shown: list[Values] = []
    for row in rows_of(records.drop_duplicates(["study", "case", "backend"]).sort_values(CASE_ORDER, key=_throughput_first)):
        key = (row["study"], row["case"], row["backend"])
        start: Values = (
            {"machine": section.title}
            | {name: row[name] for name in ("study", "case", "backend", "launch", "status")}
            | {"title": title(row)}
        )
        measured = _timed(timed[key], found) if key in timed else _other(other.get(key), location)
        shown.append(start | measured | ({"notes": row["reason"]} if row["status"] != "ok" else {}))
    for _, of_case in itertools.groupby(shown, key=lambda value: (value["study"], value["case"])):
        yield from sorted(of_case, key=_fastest_first)


def title(row: dict[str, Any]) -> str:
    """A case by its parameters: its study, phase, sizes, data type, device and factors."""
    phase, device = str(row.get("phase") or ""), str(row.get("device") or "")
    cell = str(row.get("cell") or "").replace("_", " ")
    network = " ".join(filter(None, [cell if len(cell) > 5 else cell.upper(), words.sizes(row, ("cell", "launch"))]))
    launch = words.LAUNCHES.get(str(row["launch"]), "") if row.get("launch") == "graph" else ""
    where = " on ".join(filter(None, [str(row.get("dtype") or ""), device]))
    factors = str(row["case"]).partition(f"-{device}-")[2] if device else str(row["case"])
    parts = [words.PHASES.get(phase, phase), network, where, launch, *(part for part in factors.split("-") if "=" in part)]
    return f"{row['study']}: " + (", ".join(filter(None, parts)) or str(row["case"]))


def _throughput_first(column: pd.Series) -> pd.Series:
    return column.where(column != "throughput", "") if column.name == "study" else column


def _fastest_first(value: Values) -> tuple[int, float]:
    """What was measured by its value, then what failed, then what was skipped."""
    number = _number(value["value"])
    return STATUS_ORDER.index(str(value["status"])), math.inf if number is None else number


def _timed(row: dict[str, Any], found: Findings) -> Values:
    ratio = row["ratio"] if isinstance(row["ratio"], Ratio) else None
    notes = row["notes"] if isinstance(row["notes"], tuple) else ()
    return {
        "metric": "time",
        "unit": "s",
        "value": _number(row["seconds"]),
        "low": _number(row["low"]),
        "high": _number(row["high"]),
        "host_seconds": _number(row["host_seconds"]),
        "tokens_per_second": _number(row["tokens_per_second"]),
        "ratio": None if ratio is None else ratio.value,
        "ratio_low": None if ratio is None else ratio.low,
        "ratio_high": None if ratio is None else ratio.high,
        "baseline": found.baseline,
        "location": found.location,
        "notes": ", ".join(str(note) for note in notes),
    }


def _other(series: dict[str, Any] | None, location: Location) -> Values:
    names = ("value", "low", "high", "host_seconds", "tokens_per_second", "ratio", "ratio_low", "ratio_high", "baseline")
    empty: Values = dict.fromkeys(names)
    said: Values = {"metric": "", "unit": ""} | empty | {"location": location, "notes": ""}
    if series is None:
        return said
    value = locate(series["samples"], location)
    return said | {"metric": series["metric"], "unit": series["unit"], "value": value, "notes": series["notes"]}


def _text(value: Values, hosts: bool) -> Row:
    number, low, high = (_number(value[name]) for name in ("value", "low", "high"))
    spread = f"±{words.percent((high - low) / 2 / number)}" if number and low is not None and high is not None else ""
    tokens, ratio = _number(value["tokens_per_second"]), _number(value["ratio"])
    bounds = [_number(value[name]) for name in ("ratio_low", "ratio_high")]
    own = value["backend"] == value["baseline"]
    host = _number(value["host_seconds"])
    interval = "" if None in bounds else f" [{', '.join(words.digits(bound) for bound in bounds if bound is not None)}]"
    return {
        "machine": str(value["machine"]),
        "study": str(value["study"]),
        "case": str(value["case"]),
        "title": str(value["title"]),
        "metric": str(value["metric"]),
        "baseline": str(value["baseline"] or ""),
        "backend": str(value["backend"]),
        "measured": str(value["status"]) if number is None else words.scaled(number, str(value["unit"])),
        "±": spread,
        **({"host": "" if host is None else words.scaled(host, "s")} if hosts else {}),
        "tokens/s": "" if tokens is None else words.scaled(tokens, "").strip(),
        "ratio": "" if ratio is None else "baseline" if own else f"{words.digits(ratio)}×{interval}",
        "notes": str(value["notes"]).replace("_", " ") if value["metric"] == "time" else str(value["notes"]),
    }


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not pd.isna(value) else None
