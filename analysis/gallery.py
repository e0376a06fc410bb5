"""The figures of a section in the report's order; what has nothing to show says so instead."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from analysis.findings import Findings


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure ready for the page: `inline` for HTML, `alone` for a file of its own."""

    title: str
    caption: str
    file: str
    inline: Markup
    alone: str
    least_width: int


@dataclass(frozen=True, slots=True)
class Group:
    """Figures under one heading; `missing` has a sentence for each that could not be drawn."""

    name: str
    title: str
    text: str
    figures: tuple[Picture, ...]
    missing: tuple[str, ...]


def groups(found: Findings, prefix: str) -> list[Group]:
    return []
