"""The page in a real browser, at the width of a desk and of a phone: nothing overflows, sorts and filters, no errors."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

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


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on PATH")
@pytest.mark.parametrize("width", [1400, 768, 390])
def test_the_page_works(report: Report, tmp_path: Path, width: int) -> None:
    driver = (Path(__file__).parent / "driver.js").read_text()
    text = report.html.read_text(encoding="utf-8").replace("<head>", "<head>" + WATCH, 1)
    (tmp_path / "page.html").write_text(text.replace("</body>", f"<script>{driver}</script></body>"), encoding="utf-8")
    # A window cannot be as narrow as a phone, a frame can; the frame hands its title up.
    frame = f"<iframe src=page.html style='width:{width}px;height:900px;border:0'></iframe>"
    (tmp_path / "frame.html").write_text(
        f"<!DOCTYPE html><title>waiting</title>{frame}<script>onload = () => document.title = frames[0].document.title</script>"
    )
    command = [
        str(BROWSER),
        *FLAGS,
        f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1400,1000",
        "--virtual-time-budget=4000",
    ]
    run = subprocess.run(
        [*command, "--dump-dom", (tmp_path / "frame.html").as_uri()], capture_output=True, text=True, timeout=60, check=True
    )
    title = re.search(r"<title>(.*?)</title>", run.stdout, re.DOTALL)
    assert title and title[1] != "waiting", run.stdout[:500]
    seen = json.loads(html.unescape(title[1]))
    assert seen == {
        "errors": [], "overflow": 0, "width": width, "ascending": "ascending", "descending": "descending", "others": 1,
        "focusable": True, "filtered": True, "status": "14 of 120 rows", "theme": True,
        "panels": [24, "24 of 34 cases"], "matching": True, "hidden": True, "address": True, "deeplink": True, "unknown": True,
        "detail": True, "keyboard": True, "escape": True, "overlaps": 0, "outside": 0, "requests": 0, "eval": "EvalError",
        "first": True,
    }  # fmt: skip
