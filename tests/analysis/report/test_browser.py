"""The page in a real browser, at the width of a desk and of a phone: nothing overflows, sorts and filters, no errors."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from analysis.report.page import Report

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (path := shutil.which(name))), None
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--allow-file-access-from-files",
)  # fmt: skip
WATCH = "<script>window.errors = []; addEventListener('error', (event) => errors.push(event.message));</script>"


pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on PATH")


def browse(page: Path, profile: Path, *more: str) -> str:
    """What the browser prints of a page."""
    command = [
        str(BROWSER),
        *FLAGS,
        f"--user-data-dir={profile}",
        "--window-size=1400,1000",
        "--virtual-time-budget=8000",
        *more,
    ]
    return subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=90, check=True).stdout


def drive(text: str, folder: Path, width: int, driver: str = "") -> dict[str, Any]:
    """What a script, driver.js without another, saw of a page at a width and left as the page's title.

    A window cannot be as narrow as a phone, a frame can, and hands its title up.
    """
    driver = driver or (Path(__file__).parent / "driver.js").read_text()
    text = text.replace("<head>", "<head>" + WATCH, 1).replace("</body>", f"<script>{driver}</script></body>")
    (folder / "page.html").write_text(text, encoding="utf-8")
    frame = f"<iframe src=page.html style='width:{width}px;height:900px;border:0'></iframe>"
    wait = "setInterval(() => { if (frames[0].document.title.startsWith('{')) document.title = frames[0].document.title; }, 50)"
    (folder / "frame.html").write_text(f"<!DOCTYPE html><title>waiting</title>{frame}<script>{wait}</script>")
    printed = browse(folder / "frame.html", folder / "profile", "--dump-dom")
    title = re.search(r"<title>(.*?)</title>", printed, re.DOTALL)
    assert title and title[1] != "waiting", printed[:500]
    return json.loads(html.unescape(title[1]))


@pytest.mark.parametrize("width", [1400, 768, 390])
def test_the_page_works(report: Report, tmp_path: Path, width: int) -> None:
    seen = drive(report.html.read_text(encoding="utf-8"), tmp_path, width)
    assert seen == {
        "errors": [], "overflow": 0, "width": width, "ascending": "ascending", "descending": "descending", "others": 1,
        "focusable": True, "filtered": True, "status": "14 of 120", "theme": True,
        "panels": [24, "24 of 34 cases"], "matching": True, "hidden": True, "address": True, "deeplink": True, "unknown": True,
        "detail": True, "keyboard": True, "escape": True, "overlaps": 0, "outside": 0, "requests": 0, "eval": "EvalError",
        "first": True, "redrawn": True, "figure": True, "static": True, "clipped": [], "faint": [], "cards": [3, 0],
        "rows": True, "csv": True,
    }  # fmt: skip


def test_what_the_driver_looks_for_it_finds(report: Report, tmp_path: Path) -> None:
    wrong = """<style>main p { color: #aaa } .live svg text { transform: translateX(-300px) } main { width: 2000px }
      .static { display: block !important }</style><script>missing()</script>"""
    text = report.html.read_text(encoding="utf-8").replace("</main>", wrong + "</main>")
    text = re.sub(r'(<p class="value">)[\d.]+', r"\g<1>9.99", text).replace('data-sort="0.0', 'data-sort="0.9')
    seen = drive(text, tmp_path, 1400)
    assert seen["cards"][1] > 0 and not seen["rows"]
    assert seen["faint"] and seen["clipped"] and seen["overflow"] > 0 and not seen["static"] and seen["errors"]


def test_without_scripts_the_static_figures_and_all_is_seen(report: Report, tmp_path: Path) -> None:
    text = report.html.read_text(encoding="utf-8")
    for script in re.findall(r"<script>.*?</script>", text, re.DOTALL):
        text = text.replace(script, "")
    probe = """<script>
      const seen = (each) => each.getClientRects().length;
      document.title = JSON.stringify({
      figures: [...document.querySelectorAll("figure .static svg")].filter((svg) => svg.clientHeight > 50).length,
      every: document.querySelectorAll("figure").length,
      rows: [...document.querySelector("#table-cases").tBodies[0].rows].filter(seen).length,
      controls: [...document.querySelectorAll(":not(th) > button, select, input")].filter(seen).length,
      overflow: document.documentElement.scrollWidth - innerWidth })</script>"""
    (tmp_path / "page.html").write_text(text.replace("</body>", probe + "</body>"), encoding="utf-8")
    printed = browse(tmp_path / "page.html", tmp_path / "profile", "--dump-dom")
    found = re.search(r"<title>(.*?)</title>", printed, re.DOTALL)
    seen = json.loads(html.unescape(found[1] if found else ""))
    assert seen["figures"] == seen["every"] > 4 and seen["rows"] == 120
    assert seen["controls"] == 0 and seen["overflow"] <= 0


def test_in_print_there_are_static_figures_and_no_controls(report: Report, tmp_path: Path) -> None:
    browse(report.html, tmp_path / "profile", f"--print-to-pdf={tmp_path / 'page.pdf'}", "--no-pdf-header-footer")
    pages = re.findall(rb"/Type\s*/Page\b", (tmp_path / "page.pdf").read_bytes())
    assert len(pages) > 1
