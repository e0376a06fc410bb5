"""The history as a page: changes with the comparison that judged them, their commits, and the page in a real browser."""

from __future__ import annotations

import html
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from analysis.regression import history_page
from analysis.report import page as reports
from analysis.report.rendering import covers
from bench.processes.code import ROOT
from bench.regression.revisions import Repository
from lstm_bench.commands import tracking
from lstm_bench.views import history
from tests.analysis import history_synthetic
from tests.analysis.report.test_browser import BROWSER, FLAGS, WATCH
from tests.analysis.report.test_report import Page
from tests.analysis.synthetic import Synthetic, write
from tests.lstm_bench.history_repository import hundred_commits


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Repository]:
    """The history, comparisons that confirm one of its changes and refute another, and some that say nothing of any."""
    folder = tmp_path_factory.mktemp("history")
    _, repository = hundred_commits(folder)
    commits, root = repository.order(), folder / "comparisons"
    history_synthetic.write_comparison(root, commits[59], commits[60], "step-5", 1.05)
    history_synthetic.write_comparison(root, commits[70], commits[85], "step-10", 1.0)  # farther apart, across the change
    history_synthetic.write_comparison(root, commits[39], commits[40], "step-3", 1.03, machine="another-machine")
    history_synthetic.write_comparison(root, commits[50], commits[55], "step-3", 1.03)  # both on the new level
    return folder, repository


@pytest.fixture(scope="module")
def written(place: tuple[Path, Repository]) -> Path:
    """The page, as the command writes it."""
    folder, repository = place
    run = command(folder, repository)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == str(folder / "report" / "history.html")
    return folder / "report" / "history.html"


def command(folder: Path, repository: Repository, *more: str) -> subprocess.CompletedProcess[str]:
    named = {"out": "history", "comparisons": "comparisons", "to": "report"}
    options = [part for name, path in named.items() for part in (f"--{name}", str(folder / path))]
    call = [sys.executable, "-m", "lstm_bench", "history", *options, "--repository", str(repository.folder), *more]
    return subprocess.run(call, capture_output=True, text=True, cwd=ROOT)


def outcomes(place: tuple[Path, Repository]) -> dict[str, str]:
    folder, repository = place
    found = tracking.findings(tracking.read(folder / "history", repository).series)
    judged = tracking.judged(found, folder / "comparisons", folder / "none", repository.order())
    return {f"{each.series.key.case} {each.change.mark}": each.outcome for each in judged}


def test_a_change_has_the_comparison_that_judged_it(place: tuple[Path, Repository]) -> None:
    assert outcomes(place) == {
        "step-5 red": "confirmed", "step-10 red": "refuted", "step-3 red": "not compared", "dip grey": "not compared",
    }  # fmt: skip


def test_the_page_names_commit_author_and_comparison(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    page = Page(text)
    assert "<h1>1 slow-down confirmed, 1 change refuted and 1 change not compared</h1>" in text
    rows = [page.cells[at : at + 9] for at, cell in enumerate(page.cells) if cell.startswith("step-") and at < 50]
    row = next(row for row in rows if row[0] == "step-5")
    assert re.fullmatch(r"confirmed: \+(4\.9|5\.0|5\.1) % \[.*], \d+ pairs", row[4]), row
    assert row[6:] == ["2026-01-01", "A", "commit 60"]
    assert text.count("lstm-bench compare") == 1, "only what no comparison has judged yet is to be confirmed"
    assert page.open == [] and max(page.ids.values()) == 1
    assert all(value.startswith("#") or value == "data:," for value in page.loads)


def test_points_have_intervals_over_replicates(place: tuple[Path, Repository]) -> None:
    folder, repository = place
    series = tracking.read(folder / "history", repository).series[0]
    logs = [math.log(value) for value in series.points[3].replicates]
    value, low, high = history_page.relative(series)[3]
    error = stats.tstd(logs) / math.sqrt(len(logs)) * stats.t.ppf(0.975, len(logs) - 1)
    assert (low, high) == (pytest.approx(value * math.exp(-error)), pytest.approx(value * math.exp(error)))


def test_a_commit_that_git_does_not_have_is_unknown(place: tuple[Path, Repository], tmp_path: Path) -> None:
    folder, repository = place
    series = tracking.read(folder / "history", repository).series[:1]
    data = history_page.page_data(series, [], {})
    assert data["commits"][0] == {
        "short": series[0].points[0].commit[:7], "author": "unknown", "date": "unknown", "subject": "unknown",
    }  # fmt: skip
    text = history_page.build(series, [], [], tmp_path, not_searched="no detector").read_text()
    assert "dates unknown" in text and "changes not searched" in text and "<p>Not searched.</p>" in text


def test_short_series_and_points_beyond_the_usual_say_so(place: tuple[Path, Repository], tmp_path: Path) -> None:
    folder, repository = place
    read = tracking.read(folder / "history", repository).series
    step = next(one for one in read if one.key.case == "step-10")
    short = [replace(step, points=step.points[:3])]
    text = history_page.build(short, [], tracking.commits_of(repository), tmp_path).read_text()
    assert "too few of them to search for changes" in text and "1 of 1 series, of fewer than 8 commits" in text
    newest = [replace(step, points=step.points[60:81])]  # the last of these is the first of a new level
    suspected = tracking.judged(tracking.suspicions(newest), folder / "comparisons", folder, repository.order())
    text = history_page.build(newest, [], tracking.commits_of(repository), tmp_path, suspected=suspected).read_text()
    assert "Newest points beyond the usual" in text and "commit 80" in text and "No lasting change in 1 series" in text


def test_report_and_history_of_a_machine_link_to_each_other(
    place: tuple[Path, Repository], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, repository = place
    series = tracking.read(folder / "history", repository).series
    small = {"phases": ("forward",), "hiddens": (64,), "batches": (1,), "lengths": (64,), "backends": ("torch", "jax")}
    linked = {}
    for machine in ("old-machine", "elsewhere"):
        run, pages = write(Synthetic(machine=machine, run=machine, **small), tmp_path), tmp_path / f"pages-{machine}"
        report = reports.build([run], pages).html
        page = history.write_page(series, [], [], repository, pages, [None])
        told = "has no link to this page yet" in capsys.readouterr().err
        before = 'href="history.html"' in report.read_text()
        reports.build([run], pages)
        linked[machine] = (before, 'href="history.html"' in report.read_text(), 'href="report.html"' in page.read_text(), told)
    assert linked == {"old-machine": (False, True, True, True), "elsewhere": (False, False, False, False)}
    assert not covers(tmp_path / "nowhere.html", ["old-machine"])


def test_json_goes_alone_to_standard_output(place: tuple[Path, Repository], tmp_path: Path) -> None:
    folder, repository = place
    run = command(folder, repository, "--to", str(tmp_path), "--json")
    assert json.loads(run.stdout)["series"] and run.stderr.splitlines()[-1] == str(tmp_path / "history.html")


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on PATH")
@pytest.mark.parametrize(("width", "scripts"), [(1400, True), (390, True), (1400, False)])
def test_the_page_works_in_a_browser(written: Path, tmp_path: Path, width: int, scripts: bool) -> None:
    text = written.read_text(encoding="utf-8").replace("<head>", "<head>" + WATCH, 1)
    if not scripts:
        text = text.replace("<script>\n", '<script type="text/plain">\n')
    (tmp_path / "page.html").write_text(text.replace("</body>", f"<script>{DRIVER}</script></body>"), encoding="utf-8")
    frame = f"<iframe src=page.html style='width:{width}px;height:900px;border:0'></iframe>"
    (tmp_path / "frame.html").write_text(
        f"<!DOCTYPE html><title>waiting</title>{frame}<script>onload = () => document.title = frames[0].document.title</script>"
    )
    call = [str(BROWSER), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,1000"]
    call += ["--virtual-time-budget=4000", "--dump-dom", (tmp_path / "frame.html").as_uri()]
    run = subprocess.run(call, capture_output=True, text=True, timeout=60, check=True)
    title = re.search(r"<title>(.*?)</title>", run.stdout, re.DOTALL)
    assert title and title[1] != "waiting", run.stdout[:500]
    seen = json.loads(html.unescape(title[1]))
    fixed = {"errors": [], "overflow": 0, "requests": 0, "figure": not scripts, "first": True}
    live = {"panels": 6, "changed": 3, "address": "#history?show=changed", "again": 3, "overlaps": 0, "outside": 0,
            "keyboard": True, "unknown": 6}  # fmt: skip
    assert seen == fixed | (live if scripts else {})


DRIVER = """
(() => {
  const seen = { errors: window.errors, overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth };
  const figure = document.getElementById("static-history");
  seen.figure = figure.getBoundingClientRect().height > 0;
  const panels = () => document.querySelectorAll(".panel").length;
  const first = document.querySelector(seen.figure ? "figure svg" : ".panel svg").getBoundingClientRect().top + scrollY;
  seen.first = first <= 700 || first;
  if (!seen.figure) {
    seen.panels = panels();
    const texts = (svg) => [...svg.querySelectorAll("text")].filter((text) => text.textContent);
    const boxes = (svg) => texts(svg).map((text) => text.getBoundingClientRect());
    const apart = (a, b) => a.right <= b.left + 1 || b.right <= a.left + 1 || a.bottom <= b.top + 2 || b.bottom <= a.top + 2;
    const drawn = [...document.querySelectorAll(".panel svg")];
    seen.overlaps = drawn.filter((svg) => boxes(svg).some((a, i) => boxes(svg).slice(i + 1).some((b) => !apart(a, b)))).length;
    seen.outside = drawn.flatMap(boxes).filter((box) => box.right > innerWidth + 1).length;
    const chart = document.querySelector(".chart");
    chart.focus();
    const key = (name) => chart.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
    key("ArrowRight");
    key("ArrowRight");
    const tip = document.getElementById("tip");
    const spoken = /commit 1; A, 2026-01-01; .*95 % CI/.test(document.getElementById("live").textContent) && !tip.hidden;
    key("Escape");
    seen.keyboard = spoken && tip.hidden;
    const show = [...document.querySelectorAll("select")].find((box) => box.getAttribute("aria-label") === "Show");
    show.value = "changed";
    show.dispatchEvent(new Event("change"));
    seen.changed = panels();
    seen.address = location.hash;
    const there = location.hash;
    for (const [name, hash] of [["", ""], ["again", there], ["unknown", "#history?show=nonsense&count=-1"]]) {
      location.hash = hash;
      dispatchEvent(new Event("hashchange"));
      if (name) seen[name] = panels();
    }
  }
  seen.requests = performance.getEntriesByType("resource").length;
  document.title = JSON.stringify(seen);
})();
"""
