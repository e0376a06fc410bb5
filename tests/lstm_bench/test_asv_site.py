"""asv's site of an exported history in a real browser: the list of regressions, and a series with its step.

asv's pages load their libraries from public networks. Here they come from asv_libraries.zip, so that the test needs none.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import re
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.regression.revisions import Repository
from lstm_bench.views import history
from tests.analysis import history_synthetic
from tests.analysis.report.test_browser import BROWSER, FLAGS
from tests.lstm_bench.history_repository import hundred_commits

LIBRARIES = Path(__file__).parent / "asv_libraries.zip"
REMOTE = re.compile(r'(src|href)="https://[^"]*/([^"/]+\.(?:js|css))" integrity="(sha\d+)-([^"]+)"[^>]*>')


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the site of 100 commits, with every library beside it."""
    folder = tmp_path_factory.mktemp("site")
    root, repository = hundred_commits(folder)
    history.export(root, repository, folder / "asv")
    first = history.publish(folder / "asv", Repository(repository.folder), folder / "html")
    with zipfile.ZipFile(LIBRARIES) as libraries:
        libraries.extractall(folder / "html")
    first.write_text(REMOTE.sub(r'\1="\2">', first.read_text()))
    serve = functools.partial(Quiet, directory=str(folder / "html"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/index.html"
        server.shutdown()
        thread.join()


def seen(address: str, folder: Path) -> str:
    """The page as the browser has it once its scripts are done."""
    profile = (f"--user-data-dir={folder / 'profile'}", "--window-size=1400,1000", "--virtual-time-budget=8000")
    command = [str(BROWSER), *FLAGS, *profile, "--dump-dom", address]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on PATH")
def test_the_page_lists_the_regressions_with_their_commits(page: str, tmp_path: Path):
    text = seen(f"{page}#/regressions", tmp_path)
    rows = re.findall(r"<tr id=\"asv-r-.*?</tr>", text)
    factors = {re.findall(r"'(step-\d+)'", row)[0]: re.findall(r"<td>(1\.\d+)x</td>", row)[0] for row in rows}
    assert factors == {f"step-{100 * size:.0f}": f"{1 + size:.2f}" for _, size in history_synthetic.STEPS.values()}


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on PATH")
def test_the_page_draws_the_series(page: str, tmp_path: Path):
    text = seen(f"{page}#throughput.seconds?p-case='step-10'&p-backend='torch'", tmp_path)
    graph = text.partition('id="main-graph"')[2].partition('id="overview"')[0]
    assert "flot-base" in graph and "case-step-10" in graph, "a canvas and its legend"
    ticks = {float(tick) for tick in re.findall(r"tickLabel[^>]*>([\d.]+)<", graph)}
    assert {0.0, 10.0, 12.0} <= ticks, "11 ms lies between them"


def test_the_libraries_are_those_asv_asks_for(page: str):
    """Every one is there; where npm has the very file that asv pins, it is that one."""
    import asv

    asked = REMOTE.findall((Path(asv.__file__).parent / "www" / "index.html").read_text())
    with zipfile.ZipFile(LIBRARIES) as libraries:
        found = {name: libraries.read(name) for name in libraries.namelist()}
    same = {
        name: base64.b64encode(hashlib.new(kind, found[name]).digest()).decode() == digest for _, name, kind, digest in asked
    }
    assert len(same) == 10 and {name for name, equal in same.items() if equal} == {
        "jquery-3.3.1.min.js", "jquery.flot.orderBars.js", "md5.min.js", "bootstrap.min.js", "bootstrap.min.css",
    }  # fmt: skip
