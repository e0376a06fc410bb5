"""The pages say what the newest stored run says, and the check finds one that does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from analysis.studies import pages

STALE = "docs/studies/{}.md is not what the newest run says; renew it with: python -m analysis.studies.pages"


@pytest.fixture(scope="module")
def copied(tmp_path_factory) -> Path:
    """The pages, a number in one of them changed by hand."""
    folder = tmp_path_factory.mktemp("docs")
    for study in pages.tables():
        shutil.copy(pages.DOCS / f"{study}.md", folder)
    page = folder / "cost.md"
    page.write_text(page.read_text().replace("| torch, LSTM |", "| torch, LSTM | 1.00", 1))
    return folder


def test_the_pages_are_current_and_an_edited_number_is_found(copied):
    assert pages.stale(copied) == [STALE.format("cost")]
    for study in set(pages.tables()) - {"cost"}:
        assert (copied / f"{study}.md").read_bytes() == (pages.DOCS / f"{study}.md").read_bytes()
    cost = (pages.DOCS / "cost.md").read_text()
    assert pages.renewed("cost", (copied / "cost.md").read_text()) == cost == pages.renewed("cost", cost)


def test_without_a_run_a_page_says_not_measured(tmp_path):
    page = pages.renewed("cost", "a\n<!-- measured: cost.ratios -->\n| 1 |\n<!-- end -->\nb", tmp_path)
    assert page == "a\n<!-- measured: cost.ratios -->\nNot measured.\n<!-- end -->\nb"


def test_every_table_has_its_place_on_its_page():
    studies = {
        "gradients", "horizon", "cost", "descendants", "direction", "translation", "agreement", "speech", "parallel",
        "transfer", "depth",
    }  # fmt: skip
    assert set(pages.tables()) == studies
    for study, tables in pages.tables().items():
        page = (pages.DOCS / f"{study}.md").read_text()
        assert [name for name in tables if f"<!-- measured: {study}.{name} -->" not in page] == []
