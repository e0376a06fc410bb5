"""A comparison as people and programs read it: rows of text, Markdown for a pull request, plain values for JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from analysis.regression.comparison import Row
from analysis.report.words import digits, scaled
from analysis.statistics.decision import Decision
from results.text import in_markdown

MARKS = {"SLOWER": "🔴", "FASTER": "🟢", "SAME": "⚪", "UNDECIDED": "🟡", "UNCOMPARABLE": "⚫"}
# A verdict is about time; the other metrics have words of their own.
WORDS = {
    "B": {"SLOWER": "MORE", "FASTER": "LESS"},
    "1": {"SLOWER": "LESS ACCURATE", "FASTER": "MORE ACCURATE"},
}
NAMES = {"first_call": "first call", "rss_peak": "peak resident memory", "device_peak": "peak device memory"}


def change(value: float | None) -> str:
    """New over base as people say it: +3.1 %, −12 %, or a factor from twice on."""
    if value is None or math.isnan(value):
        return ""
    if value >= 2 or value <= 0.5:
        return f"×{digits(value)}"
    share = 100 * (value - 1)
    return f"{'−' if share < 0 else '+'}{digits(abs(share), 2) if abs(share) >= 0.005 else '0'} %"


def interval(decision: Decision) -> str:
    if decision.low is None or decision.high is None:
        return change(decision.change)
    return f"{change(decision.change)} [{change(decision.low)}, {change(decision.high)}]"


def verdict(row: Row) -> str:
    return WORDS.get(row.unit, {}).get(row.decision.verdict, row.decision.verdict)


def note(decision: Decision) -> str:
    """Why, and what it would take."""
    needed = ""
    if decision.verdict == "UNDECIDED" and not decision.next:
        needed = f"about {decision.needed} pairs would decide" if decision.needed else ""
    return "; ".join(filter(None, [decision.reason, needed]))


def texts(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Time in full; of the other metrics what got better or worse."""
    shown = [row for row in rows if row.metric == "time" or row.decision.verdict in ("SLOWER", "FASTER")]
    order = {name: index for index, name in enumerate(MARKS)}
    return [_text(row) for row in sorted(shown, key=lambda row: (row.metric != "time", order[row.decision.verdict]))]


def _text(row: Row) -> dict[str, str]:
    return {
        "case": row.key.case,
        "backend": row.key.backend,
        "metric": NAMES.get(row.metric, row.metric),
        "base": "" if row.base is None else _value(row.base, row.unit),
        "new": "" if row.new is None else _value(row.new, row.unit),
        "change": interval(row.decision),
        "pairs": str(row.decision.pairs or ""),
        "verdict": verdict(row),
        "note": note(row.decision),
    }


def _value(value: float, unit: str) -> str:
    return f"{value:.2g}" if unit == "1" else scaled(value, unit)


def headline(rows: Sequence[Row], overall: Decision | None) -> str:
    """One sentence: how many of each verdict on time, and the geometric mean."""
    counted = Counter(row.decision.verdict for row in rows if row.metric == "time")
    parts = [f"{count} {name}" for name in MARKS if (count := counted.get(name))] or ["nothing was compared"]
    mean = f" Geometric mean of the time: {interval(overall)}." if overall is not None and sum(counted.values()) > 1 else ""
    return ", ".join(parts) + "." + mean


def markdown(base: str, new: str, rows: Sequence[Row], overall: Decision | None, remarks: Sequence[str]) -> str:
    """For a pull request: the sentence and what changed in sight, everything else folded away."""
    lines = [f"### lstm-bench: `{new}` against `{base}`", "", headline(rows, overall), ""]
    found = texts(rows)
    loud = [text for text in found if text["verdict"] not in ("SAME", "UNDECIDED", "UNCOMPARABLE")]
    quiet = [text for text in found if text not in loud]
    if loud:
        lines += [*_table(loud), ""]
    if quiet:
        summary = f"{len(quiet)} more: the same, undecided or not comparable"
        lines += [f"<details><summary>{summary}</summary>", "", *_table(quiet), "", "</details>", ""]
    return "\n".join([*lines, *(f"- {remark}" for remark in remarks)]).rstrip() + "\n"


def _table(found: Sequence[dict[str, str]]) -> list[str]:
    columns = ("case", "backend", "metric", "base", "new", "change", "pairs", "verdict", "note")
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return head + ["| " + " | ".join(_cell(text, column) for column in columns) + " |" for text in found]


def _cell(text: dict[str, str], column: str) -> str:
    value = in_markdown(text[column])
    return f"{MARKS[value]} {value}" if column == "verdict" and value in MARKS else value


def values(base: str, new: str, rows: Sequence[Row], overall: Decision | None, remarks: Sequence[str]) -> dict[str, Any]:
    """Everything, in SI units; `change`, `low` and `high` are new over base."""
    return {
        "base": base,
        "new": new,
        "overall": None if overall is None else _decision(overall),
        "rows": [
            {**row.key._asdict(), "metric": row.metric, "unit": row.unit, "base": row.base, "new": row.new}
            | _decision(row.decision) | {"verdict": verdict(row)}
            for row in rows
        ],
        "remarks": list(remarks),
    }  # fmt: skip


def _decision(decision: Decision) -> dict[str, Any]:
    return {name: value for name, value in asdict(decision).items() if name != "next"}
