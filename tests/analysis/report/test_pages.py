"""The pages say what the newest stored run says, every difference from the pilot has a reason, and the check bites."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from analysis.statistics.seeds import Estimate
from analysis.studies import pages
from analysis.studies.beside_pilot import NEVER, NOT_EXPLAINED, Cell, Notes, inside, text


def test_every_page_is_what_the_newest_run_says():
    assert pages.stale() == []


@pytest.fixture(scope="module")
def copied(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    for study in pages.STUDIES:
        shutil.copy(pages.DOCS / f"{study}.md", folder)
    return folder


def test_a_number_changed_by_hand_is_found(copied):
    page = copied / "cost.md"
    page.write_text(page.read_text().replace("| torch, LSTM |", "| torch, LSTM | 1.00", 1))
    assert pages.stale(copied) == [
        "docs/studies/cost.md is not what the newest run says; renew it with: python -m analysis.studies.pages"
    ]


def test_without_a_run_a_page_says_not_measured(tmp_path):
    page = pages.renewed("cost", "a\n<!-- measured: cost.ratios -->\n| 1 |\n<!-- end -->\nb", tmp_path)
    assert page == "a\n<!-- measured: cost.ratios -->\nNot measured.\n<!-- end -->\nb"


def test_every_table_has_its_place_on_its_page():
    for study, tables in pages.STUDIES.items():
        page = (pages.DOCS / f"{study}.md").read_text()
        assert [name for name in tables if f"<!-- measured: {study}.{name} -->" not in page] == []


@pytest.mark.parametrize(
    ("pilot", "found", "met"),
    [
        ("12", Estimate(12, 11, 13, 5), True),
        ("14", Estimate(12, 11, 13, 5), False),
        ("−0.489", Estimate(-0.474, -0.4885, -0.462, 5), True),  # as exact as it was printed
        ("−0.489", Estimate(-0.474, -0.486, -0.462, 5), False),
        ("10 %", Estimate(0.11, 0.104, 0.12, 5), True),
        ("10 %", Estimate(0.11, 0.106, 0.12, 5), False),
        ("3.3–4.0", Estimate(2.9, 2.6, 3.22, 5), False),
        ("3.3–4.0", Estimate(3.7, 3.3, 4.1, 5), True),
        (NEVER, Estimate(None, 399, None, 5, beyond=399), True),
        (NEVER, Estimate(120, 110, 130, 5), False),
        ("> 400", Estimate(None, 399, None, 5, beyond=399), True),
        ("> 400", Estimate(120, 110, 130, 5), False),
        ("12", Estimate(None, why="not measured"), None),
    ],
)
def test_a_pilots_number_meets_our_interval_or_not(pilot, found, met):
    assert inside(pilot, found) is met


def test_what_does_not_meet_needs_a_reason(pilot="14"):
    found, notes = Estimate(12, 11, 13, 5), Notes()
    assert text(Cell(lambda _: found, pilot), None, notes) == f"14 / 12 [11, 13] {NOT_EXPLAINED}"  # pyright: ignore[reportArgumentType]
    assert text(Cell(lambda _: found, pilot, "it rained"), None, notes) == "14 / 12 [11, 13] (a)"  # pyright: ignore[reportArgumentType]
    assert notes.lines() == ["(a) it rained"]


def test_a_page_with_an_unexplained_difference_is_not_done(monkeypatch, tmp_path):
    page = f"<!-- measured: cost.ratios -->\nsaid {NOT_EXPLAINED}\n\nRun a/b.\n<!-- end -->"
    (tmp_path / "cost.md").write_text(page)
    monkeypatch.setattr(pages, "STUDIES", {"cost": pages.STUDIES["cost"]})
    monkeypatch.setattr(pages, "renewed", lambda *_: page)
    assert pages.stale(tmp_path) == [
        "docs/studies/cost.md differs from the pilot without a reason; write one in analysis/studies/cost/page.py"
    ]
