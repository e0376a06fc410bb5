"""The page is complete in itself and valid; its twin has the same numbers; what was not measured says so."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analysis import AnalysisError
from analysis.report.findings import find_out
from analysis.report.load import InvalidPrice, load, priced
from analysis.report.page import Report, build
from analysis.report.tables import cases
from results.store import REFERENCE, ROOT, StoreError
from tests.analysis.synthetic import ENVIRONMENT, Synthetic, write

VOID = {"meta", "link", "input", "br", "hr", "img"}


class Page(HTMLParser):
    """Collects ids, what is loaded, texts of table cells, and checks that elements close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: Counter[str] = Counter()
        self.loads: list[str] = []
        self.references: list[str] = []
        self.cells: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if identifier := values.get("id"):
            self.ids[identifier] += 1
        self.loads += [value for name in ("src", "href", "srcset", "action", "poster", "data") if (value := values.get(name))]
        self.references += [
            word for name in ("aria-labelledby", "aria-describedby", "for") for word in (values.get(name) or "").split()
        ]
        if tag in ("td", "th"):
            self.cells.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data


@pytest.fixture(scope="module")
def text(report: Report) -> str:
    return report.html.read_text(encoding="utf-8")


def test_the_page_loads_nothing(text: str) -> None:
    assert all(value.startswith("#") or value == "data:," for value in Page(text).loads)
    assert "@import" not in text
    assert all(found.startswith("#") for found in re.findall(r"url\(\s*['\"]?([^)]*)", text))
    assert not re.search(r"https?://(?!www\.w3\.org/(2000/svg|2000/xmlns|1999/xhtml|1999/xlink|XML/1998))", text)


def test_the_page_is_well_formed_and_every_reference_resolves(text: str) -> None:
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>") and page.open == []
    assert [name for name, number in page.ids.items() if number > 1] == []
    missing = {value[1:] for value in page.loads if value.startswith("#")} | set(page.references)
    assert missing - set(page.ids) == set()


def test_the_twin_has_the_same_numbers(report: Report, text: str) -> None:
    markdown = report.markdown.read_text(encoding="utf-8")
    twin = [cell.strip() for line in markdown.splitlines() if line.startswith("| ") for cell in line.strip("| ").split(" | ")]
    number = re.compile(r"\d")
    ours = Counter(
        cell
        for cell in (
            re.sub(r"(steps|batch|hidden|geometric mean.*|as torch|of what.*)$", "", c).strip() for c in Page(text).cells
        )
        if number.search(cell)
    )
    theirs = Counter(cell for cell in (re.sub(r" \(.*", "", c) if "geometric" in c else c for c in twin) if number.search(cell))
    assert ours == theirs
    for figure in re.findall(r"!\[[^]]*]\(([^)]+)\)", markdown):
        starts = (report.markdown.parent / figure).read_bytes()[:4]
        assert starts == (b"\x89PNG" if figure.endswith(".png") else b"<svg")


def test_the_first_answers_are_the_truth_of_the_synthetic_run(report: Report) -> None:
    markdown = report.markdown.read_text(encoding="utf-8")
    found = re.search(
        r"\*\*Inference\.\*\* onnxruntime is fastest: speedup over torch ([\d.]+)× \[([\d.]+), ([\d.]+)]", markdown
    )
    assert found and float(found[2]) <= 1.4 * 1.005 and float(found[3]) >= 1.4 * 0.995
    assert "numpy" in markdown and "no answer within 60 s; choose smaller sizes" in markdown
    assert "lstm-bench run quick --backend torch --backend jax --backend onnxruntime --backend numpy --replicates 3" in markdown


def test_one_replicate_says_that_it_has_no_interval(tmp_path: Path) -> None:
    page = build(
        [write(Synthetic(replicates=1, phases=("forward",), hiddens=(64,), batches=(8,), lengths=(64,)), tmp_path)],
        tmp_path / "out",
    ).html.read_text()
    assert "one replicate: no interval" in page


def test_every_output_names_its_location(small_run: Path, tmp_path: Path) -> None:
    report = build([small_run], tmp_path, statistic="lower_quartile")
    assert "lower quartile of its samples" in report.html.read_text()
    assert "Statistic: lower quartile" in report.markdown.read_text()


def test_what_was_not_measured_says_so(tmp_path: Path) -> None:
    what = Synthetic(
        phases=("forward",), batches=(8,), hiddens=(64,), lengths=(64,), memory=False, ceilings=False, overhead=False
    )
    text = build([write(what, tmp_path)], tmp_path / "out").markdown.read_text()
    for sentence in (
        "**Training.** Not measured.",
        "Memory over length: not measured",
        "Peaks: not measured",
        "Overhead: not measured",
    ):
        assert sentence in text


def test_names_from_a_run_cannot_break_the_page(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>|x"
    what = Synthetic(
        backends=("torch", evil), phases=("step",), hiddens=(64,), batches=(8,), lengths=(64,), machine="a<b>&c", refusals=False
    )
    report = build([write(what, tmp_path)], tmp_path / "out")
    text = report.html.read_text()
    assert "<script>alert" not in text and "a&lt;b&gt;&amp;c" in text
    assert Page(text).open == []


def test_each_machine_has_a_page_and_links_to_the_others(tmp_path: Path) -> None:
    small = Synthetic(phases=("forward",), hiddens=(64,), batches=(1,), lengths=(64,), backends=("torch", "jax"))
    paths = [write(small, tmp_path), write(replace(small, machine="other: a/b", run="b"), tmp_path)]
    report = build(paths, tmp_path / "out")
    names = [path.name for path in (report.html, *report.others)]
    assert names[0] == "report.html" and names[1] in ("report-other-a-b.html", "report-imaginary-cpu.html")
    for own, other in (names, reversed(names)):
        page = Page((tmp_path / "out" / own).read_text())
        assert max(page.ids.values()) == 1 and [value for value in page.loads if value.endswith(".html")] == [other]
        assert (tmp_path / "out" / own).with_suffix(".md").exists()


def test_older_runs_are_compared_with_and_no_further_sections(tmp_path: Path) -> None:
    what = Synthetic(phases=("forward",), hiddens=(64,), batches=(1,), lengths=(64,), backends=("torch", "jax"))
    older = replace(
        what, run="a", environment=ENVIRONMENT | {"git": {"commit": "a" * 40}}, started="2026-11-19T08:00:00Z", seed=4
    )
    text = build([write(what, tmp_path), write(older, tmp_path)], tmp_path / "out").html.read_text()
    held = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert held is not None
    data = json.loads(held[1])
    assert [run["label"] for run in data["older"]] == ["2026-11-19 08:00, commit " + "a" * 7]
    (case,) = data["cases"]
    times = data["older"][0]["cases"][case["id"]]
    assert times.keys() == {"torch", "jax"} and times["torch"] != case["of"]["torch"]["time"]
    assert text.count("<h1>") == 1 and "d6ad839" in text[text.index("<h1>") - 200 : text.index("<h1>")]


def test_the_page_of_all_stored_runs_is_below_3_megabytes(tmp_path: Path) -> None:
    report = build([ROOT, REFERENCE], tmp_path)
    sizes = {path.name: path.stat().st_size for path in (report.html, *report.others)}
    assert len(sizes) == 3 and max(sizes.values()) < 3e6, sizes


def test_mistakes_say_what_to_do(small_run: Path, tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match=r"baseline 'trch' was not timed on imaginary-cpu; choose from jax, torch"):
        build([small_run], tmp_path, baseline="trch")
    with pytest.raises(AnalysisError, match="no statistic 'mean'"):
        build([small_run], tmp_path, statistic="mean")  # pyright: ignore[reportArgumentType]
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="choose another folder"):
        build([small_run], tmp_path / "file")


def test_a_price_adds_the_cost_of_a_million_tokens(tmp_path: Path):
    """At 7.2 an hour a second costs 0.002; without a price there is no such column."""
    path = write(Synthetic(replicates=2, batches=(8,), hiddens=(64,), lengths=(16,)), tmp_path / "runs")
    (section,) = priced(load([path]), 7.2)
    found = find_out(section)
    table = cases(found)
    place = [column.label for column in table.columns].index("Cost")
    rates = found.cases["tokens_per_second"]
    assert sorted(row[place].sort or 0 for row in table.rows) == pytest.approx(sorted(2000 / rates))
    assert "Cost" not in [column.label for column in cases(find_out(load([path])[0])).columns]
    assert "of 1 M tokens" in build([path], tmp_path / "priced", price=7.2).html.read_text()
    for price in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InvalidPrice, match="must be a number above 0"):
            build([path], tmp_path / "none", price=price)
    assert not (tmp_path / "none").exists()
