"""A comparison as Markdown for a pull request, and its chart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from analysis.regression.comparison import MARKS, Row, change, counted_verdicts, interval, texts, timed_rows
from analysis.report import pull_request
from analysis.report.pull_request import MOST_ROWS, Dot, Panel, document, table
from analysis.report.words import format_count
from analysis.statistics.decision import Decision

MOST_LOUD = 8  # rows in sight of a pull request; the others are folded
LOOKS = {"SLOWER": ("#a13a12", ">"), "FASTER": ("#1c6b45", "<")}  # in the chart; the rest is grey


def markdown(
    base: str, new: str, rows: Sequence[Row], overall: Decision | None, remarks: Sequence[str], image: str = ""
) -> str:
    """For a pull request: the verdict and what changed in sight, everything else folded away. image: file of `chart`."""
    found = texts(rows)
    loud = [text for text in found if text["verdict"] not in ("SAME", "UNDECIDED", "UNCOMPARABLE")]
    mark = next(
        (mark for name, mark in MARKS.items() if any(row.metric == "time" and row.decision.verdict == name for row in rows)), ""
    )
    facts = [f"Geometric mean of the time: {interval(overall)}."] if overall is not None and timed_rows(rows) > 1 else []
    facts += [f"{len(loud) - MOST_LOUD} more below."] if len(loud) > MOST_LOUD else []
    seen, every = (("case", "backend", "metric", "change", "verdict"), ("case", "backend", "metric", "base", "new", "change",
                   "pairs", "verdict", "note"))  # fmt: skip
    folded = [(f"{format_count(len(found), 'row')} in full", "\n".join(_table(found, every)))] if found else []
    folded += [("How it was compared", "\n".join(f"- {remark}" for remark in remarks))] if remarks else []
    return document(
        f"{mark} {counted_verdicts(rows)}: `{_short(new)}` against `{_short(base)}`".strip(), facts,
        ("Change of the time, new over base, with its interval", image) if image else None,
        _table(loud[:MOST_LOUD], seen) if loud else (), folded,
    )  # fmt: skip


def _short(side: str) -> str:
    """A run on disk by its name, whatever its folder."""
    return Path(side).stem if side.endswith(".jsonl") else side


def _table(found: Sequence[dict[str, str]], columns: Sequence[str]) -> list[str]:
    return table(columns, [[_cell(text, column) for column in columns] for text in found])


def _cell(text: dict[str, str], column: str) -> str:
    value = text[column]
    return f"{MARKS[value]} {value}" if column == "verdict" and value in MARKS else value


def chart(rows: Sequence[Row], path: Path) -> bool:
    """Draw the times' changes as PNG, what is surest first; returns whether there was any to draw."""
    order = list(MARKS)
    timed = [row for row in rows if row.metric == "time" and row.decision.change]
    timed.sort(key=lambda row: (order.index(row.decision.verdict), -abs(math.log(row.decision.change or 1))))
    dots = tuple(_dot(row) for row in timed[:MOST_ROWS])
    if not dots:
        return False
    more = f" ({len(dots)} of {len(timed)})" if len(timed) > len(dots) else ""
    pull_request.chart(
        [Panel(f"Time, new against base{more}", dots)], "change of the time, with its interval", "no change", path, change
    )
    return True


def _dot(row: Row) -> Dot:
    decision = row.decision
    colour, marker = LOOKS.get(decision.verdict, ("#5d626b", "o"))
    return Dot(f"{row.key.case}  {row.key.backend}", decision.change or 1.0, decision.low, decision.high, colour, marker)
