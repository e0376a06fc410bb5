"""The measured cells of docs/studies/*.md, written from the newest stored run of each study: nothing on a page is typed twice.

    python -m analysis.studies.pages          renews them
    python -m analysis.studies.pages --check  says which are not those of the newest run

A page marks where a table goes: `<!-- measured: gradients.lstm -->` up to `<!-- end -->`; what lies between is replaced.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from analysis.report import words
from analysis.report.load import series_frame
from analysis.statistics import quantities
from analysis.statistics.seeds import Estimate
from analysis.studies import modules, topics
from results.store import Run, find, read

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "studies"
RUNS = ROOT / "results" / "runs"
Measured = Callable[[pd.DataFrame], Estimate]
_BLOCK = re.compile(r"(<!-- measured: (\w+)\.(\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def tables() -> dict[str, Mapping[str, Callable[[pd.DataFrame], str]]]:
    """Of each study with measured cells in its page: `TABLES` of its package or of its `tables.py`."""
    found = [*topics(), *modules("tables")]
    return {topic: module.TABLES for topic, module in found if hasattr(module, "TABLES")}


def estimated(quantity: str, selection: str) -> Measured:
    """A cell: a quantity over the records that a selection picks."""
    return lambda series: quantities.estimate(quantity, series, selection)


def markdown_table(series: pd.DataFrame, head: Sequence[str], rows: Sequence[tuple[str, Sequence[Measured | None]]]) -> str:
    """A table in Markdown, each row with its label; None leaves a cell empty."""
    body = [(label, *("" if cell is None else _text(cell(series)) for cell in cells)) for label, cells in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *body))


def _text(found: Estimate) -> str:
    return words.format_estimate(found, exact=True).replace("-", "−")


def newest(study: str, root: Path = RUNS) -> tuple[Path, Run] | None:
    """The newest finished run of a study at its CPU scale that measured anything of it."""
    for path in reversed(find(root)):
        run = read(path)
        plan = run.header.plan
        if plan.get("suite") == "cpu" and run.finished and any(record.study == study for record in run.records):
            return path, run
    return None


def renewed(study: str, page: str, root: Path = RUNS) -> str:
    """The page's text with its blocks filled from the newest run. Raises `KeyError` for a block that nobody knows."""
    found = newest(study, root)
    if found is None:
        return _BLOCK.sub(lambda match: f"{match[1]}Not measured.\n{match[4]}", page)
    path, run = found
    series = series_frame([run])
    series, known = series[series["study"] == study], tables()

    def fill(match: re.Match[str]) -> str:
        return f"{match[1]}{known[match[2]][match[3]](series)}\n\nRun {path.parent.parent.name}/{path.stem}.\n{match[4]}"

    return _BLOCK.sub(fill, page)


def stale(docs: Path = DOCS, root: Path = RUNS) -> list[str]:
    """A sentence for each page that is not what the newest run says."""
    sentences = []
    for study in tables():
        text = (docs / f"{study}.md").read_text(encoding="utf-8")
        if renewed(study, text, root) != text:
            sentences.append(
                f"docs/studies/{study}.md is not what the newest run says; renew it with: python -m analysis.studies.pages"
            )
    return sentences


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m analysis.studies.pages", description="Renew the measured cells of docs/studies."
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 where a page is not up to date")
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the runs (default: the project's own)")
    asked = parser.parse_args()
    if not asked.check:
        for study in tables():
            page = DOCS / f"{study}.md"
            page.write_text(renewed(study, page.read_text(encoding="utf-8"), asked.runs), encoding="utf-8")
    sentences = stale(root=asked.runs)
    print("\n".join(sentences) or "every page is what the newest runs say", file=sys.stderr if sentences else sys.stdout)
    return 1 if sentences else 0


if __name__ == "__main__":
    sys.exit(main())
