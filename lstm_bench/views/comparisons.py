"""What a comparison has found: in the terminal, for a pull request, and for a program to read."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.regression import comparison, comparison_markdown
from lstm_bench import terminal
from lstm_bench.commands.compare import Outcome
from lstm_bench.views import tables

if TYPE_CHECKING:
    from lstm_bench.commands.fleet_jobs import Failed


def as_markdown(outcome: Outcome, image: Path) -> str:
    """For a pull request, with its chart beside it."""
    drawn = comparison_markdown.chart(outcome.rows, image)
    return comparison_markdown.markdown(
        outcome.base, outcome.new, outcome.rows, outcome.overall, outcome.remarks, image.name if drawn else ""
    )


def values(outcome: Outcome) -> dict[str, Any]:
    """For a program to read."""
    found = comparison.values(outcome.base, outcome.new, outcome.rows, outcome.overall, outcome.remarks)
    return found | {"runs": [str(path) for path in outcome.paths]}


def show(outcome: Outcome) -> None:
    """In the terminal."""
    tables.comparison(comparison.texts(outcome.rows))
    summary = "\n".join([comparison.headline(outcome.rows, outcome.overall), *outcome.remarks])
    print(terminal.wrapped(summary, sys.stdout))


# Several, as a fleet makes them.


@dataclass(frozen=True, slots=True)
class Compared:
    """A comparison on machines of one kind: what was found, or what kept it from being measured."""

    pair: tuple[str, str]
    machine: str
    outcome: Outcome | None = None
    failed: Failed | None = None

    @property
    def reason(self) -> str:
        """Why there is no outcome."""
        return self.failed.reason if self.failed else ""

    @property
    def title(self) -> str:
        """`a1b2c3d → d4e5f6a on MACHINE`."""
        return f"{' → '.join(self.pair)} on {self.machine}"


def all_as_markdown(compared: Sequence[Compared], path: Path) -> str:
    """One after the other, with their charts beside the file."""
    parts = []
    for number, one in enumerate(compared):
        image = path.with_name(path.stem + (f"-{number + 1}" if number else "") + ".png")
        text = as_markdown(one.outcome, image) if one.outcome else f"Not measured: {one.reason}\n"
        parts.append(f"{text}\nOf {one.title}.\n")
    return "\n".join(parts)


def values_of_all(compared: Sequence[Compared]) -> list[dict[str, Any]]:
    """For a program to read."""
    return [
        {"pair": one.pair, "machine": one.machine} | (values(one.outcome) if one.outcome else {"reason": one.reason})
        for one in compared
    ]


def show_all(compared: Sequence[Compared]) -> None:
    """In the terminal."""
    for one in compared:
        print(one.title + "\n")
        if one.outcome:
            show(one.outcome)
        else:
            print(f"not measured: {one.reason}")
        print()
