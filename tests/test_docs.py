"""The documentation: the site fails on a warning and asks no other host for anything, and the pages agree with the code."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from analysis.statistics.decision import ALPHA
from bench.harness.suites import SUITES
from bench.regression.comparison import PACES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
CONCEPTS = ("case", "run", "round", "replicate", "study", "backends", "comparison", "history")
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
PLANTED = {  # a defect, and what is said of it
    "[a page](nowhere.md)": r"index.md:\d+: WARNING: 'myst' cross-reference target not found: 'nowhere.md'",
    "[a section](case.md#nowhere)": r"index.md:\d+: WARNING: local id not found in doc 'case': 'nowhere'",
    "[a file](../impls/nowhere.py)": r"index.*: WARNING: index links to ../impls/nowhere.py, which does not exist",
}
OUTSIDE = r"lost.md: WARNING: document isn't included in any toctree"


class Built(NamedTuple):
    """The site in `folder`, and how building it ended."""

    folder: Path
    code: int
    said: list[str]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A checkout in which each kind of defect was planted once, built by the recipe of `make docs`."""
    checkout = tmp_path_factory.mktemp("checkout")
    for entry in ROOT.iterdir():
        if entry.name not in ("docs", "build", ".git", ".venv"):
            (checkout / entry.name).symlink_to(entry)
    shutil.copytree(DOCS, checkout / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    with (checkout / "docs/index.md").open("a") as index:
        index.writelines(f"\n{text}\n" for text in PLANTED)
    (checkout / "docs/lost.md").write_text("# A page outside of the navigation\n")
    recipe = re.search(r"^docs: .*\n\t\$\(BIN\)/sphinx-build (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    command = [sys.executable, "-m", "sphinx", *shlex.split(recipe[1])]
    run = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=120)
    return Built(checkout / "build/docs", run.returncode, run.stderr.splitlines())


def test_each_planted_defect_of_the_site_is_an_error(built: Built):
    warnings = [line for line in built.said if "WARNING" in line or "ERROR" in line]
    expected = [*PLANTED.values(), OUTSIDE]
    assert built.code != 0
    assert [pattern for pattern in expected if not any(re.search(pattern, line) for line in warnings)] == []
    assert len(warnings) == len(expected), warnings  # the pages as they are have none


def test_the_site_requests_nothing_from_other_hosts(built: Built):
    pages, styles = sorted(built.folder.rglob("*.html")), sorted(built.folder.rglob("*.css"))
    assert len(pages) > 30 and styles
    for page in pages:
        text = page.read_text()
        loaded = re.findall(r"<(?:link|script|img|iframe|source)\b[^>]*?(?:href|src)=\"([^\"]+)", text)
        assert loaded and [url for url in loaded if re.match(r"(https?:)?//", url)] == [], page
    for style in styles:
        assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style.read_text()) == [], style


@pytest.mark.parametrize("page", CONCEPTS)
def test_the_example_of_a_concept_holds(page: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / f"{page}.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    monkeypatch.chdir(ROOT)
    for block in blocks:
        assert "assert " in block
        (tmp_path / "example.py").write_text(block)
        runpy.run_path(str(tmp_path / "example.py"))


@pytest.mark.parametrize("page", [*(DOCS / f"{name}.md" for name in CONCEPTS), *TUTORIALS], ids=lambda page: page.stem)
def test_the_paths_that_a_page_names_are_there(page: Path):
    named = re.findall(r"`((?:bench|impls|results|analysis|lstm_bench|tests|docs)/[\w./-]*)`", page.read_text())
    written = {"results/comparisons", "results/history"}  # by commands
    assert [path for path in named if path not in written and not (ROOT / path).exists()] == []
    if page.stem in CONCEPTS:
        assert all(part in page.read_text() for part in ("**In code**", "**On disk**", "**On the command line**"))


def test_the_index_leads_to_every_tutorial_and_concept():
    links = set(re.findall(r"\]\(([\w/-]+)\.md\)", (DOCS / "index.md").read_text()))
    assert links >= {*CONCEPTS, *(f"tutorials/{page.stem}" for page in TUTORIALS)}


def test_pages_on_concepts_are_short():
    lengths = {page: len((DOCS / f"{page}.md").read_text().split()) for page in CONCEPTS}
    assert all(words <= 800 for words in lengths.values()), lengths


@pytest.mark.parametrize("page", ["README.md", "docs/comparison.md", "docs/tutorials/compare-two-backends-on-my-gpu.md"])
def test_pages_name_the_confidence_of_a_comparison(page: str):
    text = " ".join((ROOT / page).read_text().split())
    named = re.findall(r"(\d+) % (?:interval\b|a look)", text)
    assert {int(percent) for percent in named} == {round(100 * (1 - 2 * ALPHA))}


def test_compare_has_a_pace_for_every_suite():
    """As the tutorial on a GPU says: `--suite goal`, whose usual scale is the grid's."""
    assert set(PACES) == set(SUITES)
