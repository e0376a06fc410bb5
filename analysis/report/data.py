"""The numbers of a section as the page's script reads them; the table, the figures and the files to download have the same."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from analysis.report import words
from analysis.report.charts import SYMBOLS, rounded
from analysis.report.drawing import colour, ordered, style
from analysis.report.findings import CASE, Findings, times, timings
from analysis.report.load import Section, commit_of, rows_of, run_name
from analysis.statistics.ratios import Ratio, case_ratios, log_ratios
from results.output import visible_in

SCHEMA = 1
# A baseline costs a pass over all samples and a ratio a case: of more backends, those that ran most cases can be chosen.
MOST_BASELINES = 8
QUANTILES = (0.05, 0.5, 0.95, 0.99)


def section_data(found: Findings, older: Sequence[Section] = ()) -> dict[str, Any]:
    """Every case with what each backend took, in SI units, rounded to four digits; null where nothing is known.

    Args:
        found: of the page's own section.
        older: further sections of the same machine, the newest first: what a reader can compare with.

    Returns:
        schema, baseline, baselines; backends: name, colour, symbol, in the order of all legends; cases: id, phase, sizes, and
        by backend seconds with its interval, quantiles of the samples, tokens and FLOP a second, notes, and the speedup over
        each baseline as [value, low, high]. older: run, label, and by case and backend the seconds with their interval.
    """
    names = ordered(found.cases["backend"])
    baselines = _baselines(found)
    samples = timings(found.section)
    ratios = {name: case_ratios(log_ratios(samples, name, found.statistic), found.statistic) for name in baselines}
    quantiles = {
        tuple(map(str, key)): np.quantile(np.concatenate(list(part)), QUANTILES)
        for key, part in samples.groupby(CASE)["samples"]
    }
    cases: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows_of(found.cases):
        key = str(row["study"]), str(row["case"])
        case = cases.setdefault(key, _case(row, several_studies=found.cases["study"].nunique() > 1))
        backend = str(row["backend"])
        own = (*key, backend)
        case["of"][backend] = {
            "time": [rounded(row[name]) for name in ("seconds", "low", "high")],
            "quantiles": [rounded(value) for value in quantiles[own]],
            "tokens": rounded(row.get("tokens_per_second")),
            "flops": rounded(row.get("flops_per_second")),
            "notes": [words.format_note(str(note)) for note in row["notes"]],
            "speedup": {name: _bounds(each[own]) for name, each in ratios.items() if own in each},
        }
    looks = [{"name": name, "colour": colour(name), "symbol": SYMBOLS.get(style(name).marker, "circle")} for name in names]
    listed = sorted(cases.values(), key=_place)
    names = {case["id"] for case in listed}
    runs = [told for section in older if (told := _older(section, names, found)) is not None]
    return {
        "schema": SCHEMA, "run": run_name(found.section.runs[-1].header), "baseline": found.baseline, "baselines": baselines,
        "backends": looks, "cases": listed, "older": runs,
    }  # fmt: skip


def _older(section: Section, names: Collection[str], found: Findings) -> dict[str, Any] | None:
    """The times of an older section in the cases of a newer one, None where they share none."""
    cases: dict[str, dict[str, list[float | None]]] = {}
    for row in rows_of(times(section, found.statistic)):
        if row["case"] in names:
            bounds = [rounded(row[name]) for name in ("seconds", "low", "high")]
            cases.setdefault(str(row["case"]), {})[str(row["backend"])] = bounds
    if not cases:
        return None
    header = section.runs[-1].header
    other = "" if header.protocol == found.section.protocol else f", protocol {header.protocol}"
    commit = f", commit {commit}" if (commit := commit_of(header)) else ""
    return {"run": run_name(header), "label": f"{header.started[:16].replace('T', ' ')}{commit}{other}", "cases": cases}


def embedded(data: Any) -> Markup:
    """As JSON that can stand in a script element, with characters that cannot be seen written out."""
    text = json.dumps(visible_in(data), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def _baselines(found: Findings) -> list[str]:
    counts = found.cases["backend"].value_counts()
    common = sorted(counts.index, key=lambda name: (name != found.baseline, -counts[name]))[:MOST_BASELINES]
    return ordered(str(name) for name in common)


def _case(row: dict[str, Any], several_studies: bool) -> dict[str, Any]:
    sizes = {"T": row.get("steps"), "B": row.get("batch"), "H": row.get("hidden_size")}
    return {
        "id": str(row["case"]), "study": str(row["study"]) if several_studies else "",
        "phase": words.PHASES.get(str(row["phase"]), str(row["phase"])), "launch": str(row["launch"]),
        "device": str(row["device"]), "dtype": str(row["dtype"]), "cell": str(row.get("cell", "")),
        **{name: None if value is None or pd.isna(value) else int(value) for name, value in sizes.items()}, "of": {},
    }  # fmt: skip


def _place(case: dict[str, Any]) -> tuple[object, ...]:
    phases = list(words.PHASES.values())
    sizes = [case[name] or 0 for name in ("H", "B", "T")]
    phase = phases.index(case["phase"]) if case["phase"] in phases else len(phases)
    return case["study"], case["device"], case["launch"], case["dtype"], case["cell"], phase, *sizes, case["id"]


def _bounds(ratio: Ratio) -> list[float | None]:
    return [rounded(value) for value in (ratio.value, ratio.low, ratio.high)]
