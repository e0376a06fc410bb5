"""The page of a run while it fills: to this machine alone, cheap for what is measured, ended with the run however that ends."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from analysis.report.page import build
from bench.harness.case import Case
from bench.processes.code import ROOT
from impls import LSTMSpec
from lstm_bench import terminal
from lstm_bench.views.live import HOST, LivePage
from results.record import Measurement, Record
from tests.analysis.report.test_browser import BROWSER, FLAGS
from tests.analysis.synthetic import Synthetic, write

Answer = tuple[int, bytes]
ADDRESS = re.compile(rf"watch this run at (http://{HOST}:\d+/\S{{16,}}/)\n")
OPENER = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"


def get(url: str, path: str | None = None, host: str | None = None, method: str = "GET") -> Answer:
    """Ask as a browser does, past every proxy."""
    found = re.fullmatch(r"http://([^/]+)(/.*)", url)
    assert found
    connection = http.client.HTTPConnection(found[1], timeout=20)
    try:
        connection.request(method, found[2] if path is None else path, headers={"Host": host or found[1]})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def state(url: str) -> dict:
    return json.loads(get(f"{url}state.json")[1])


@contextmanager
def running(folder: Path, *options: str, browser: str = "/nowhere") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A smoke run with its page, and the page's address."""
    command = [sys.executable, "-m", "lstm_bench", "run", "smoke", "--backend", "numpy", "--threads", "1", "--out", "runs"]
    environment = os.environ | {"BROWSER": browser, "PYTHONPATH": str(ROOT), "LSTM_BENCH_LOCKS": str(folder)}
    errors = folder / "stderr"
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            [*command, "--open", *options], cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=stderr
        ) as process,
    ):
        try:
            until = time.monotonic() + 60
            while not (found := ADDRESS.search(errors.read_text())) and process.poll() is None and time.monotonic() < until:
                time.sleep(0.05)
            assert found, errors.read_text()
            yield process, found[1]
        finally:
            process.kill()


def test_the_page_fills_and_becomes_the_report(tmp_path: Path) -> None:
    (tmp_path / "opener.py").write_text(OPENER)
    opener = f"{sys.executable} {tmp_path / 'opener.py'} {tmp_path / 'opened'} %s &"
    with running(tmp_path, "--replicates", "4", browser=opener) as (process, url):
        until = time.monotonic() + 60
        while not 0 < (seen := state(url))["done"] < seen["total"] and time.monotonic() < until:
            time.sleep(0.1)
        assert seen["state"] == "Measuring." and "timings" in seen["count"] and seen["latest"].startswith("Newest: ")
        status, page = get(url)
        assert status == 200 and b'id="running"' in page and b"connect-src 'self'" in page
        while (seen := state(url))["state"] != "Done.":
            time.sleep(0.2)
        _, last = get(url)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, (tmp_path / "stderr").read_text()
    assert last == (tmp_path / "report" / "report.html").read_bytes() and b'id="running"' not in last
    assert out.splitlines()[-1] == "report/report.html"
    assert (tmp_path / "opened").read_text() == url
    with pytest.raises(ConnectionRefusedError):
        get(url)


def test_an_interrupted_run_ends_its_page(tmp_path: Path) -> None:
    with running(tmp_path, "--replicates", "50") as (process, url):
        while not state(url)["done"]:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        err = (tmp_path / "stderr").read_text()
        assert process.returncode == 130 and "finish it with: lstm-bench run --resume" in err
        assert "no web browser could be opened" in err
        with pytest.raises(ConnectionRefusedError):
            get(url)


@pytest.fixture
def page() -> Iterator[LivePage]:
    with LivePage() as made:
        yield made


def test_only_this_page_is_served_and_only_to_this_machine(page: LivePage) -> None:
    port = int(page.url.split(":")[2].split("/")[0])
    assert [get(page.url)[0], get(page.url, host=f"localhost:{port}")[0]] == [200, 200]
    for path in ("/", "/state.json", "/report.html", page.url.split(str(port))[1] + "../", "/" + "a" * 22 + "/"):
        assert get(page.url, path)[0] == 404
    for host in ("evil.example", f"evil.example:{port}", HOST, f"{HOST}:{port + 1}"):
        assert get(page.url, host=host)[0] == 403, "a name of somebody else's that leads here"
    assert get(page.url, method="POST")[0] == 501
    with LivePage() as other:
        assert other.url.split("/")[3] != page.url.split("/")[3], "another address for each run"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=5).close()


def test_an_error_ends_the_page() -> None:
    with pytest.raises(RuntimeError, match="of the run"), LivePage() as page:
        assert get(page.url)[0] == 200
        raise RuntimeError("of the run")
    with pytest.raises(ConnectionRefusedError):
        get(page.url)


def record(study: str = "throughput") -> Record:
    parameters = Case(LSTMSpec(8, 8), 1, 8).to_dict()
    return Record(study, "case", "numpy", 0, "ok", parameters, measurements=(Measurement("time", "s", (0.001,)),), seconds=1.0)


def test_the_page_is_built_between_cases_and_seldom(page: LivePage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    built: list[int] = []
    clock = [100.0]
    monkeypatch.setattr("lstm_bench.views.live.time.monotonic", lambda: clock[0])

    def render(path: Path, values: dict) -> str:
        built.append(values["done"])
        clock[0] += 1.0  # a page that takes a second is due again after 50
        return "page"

    monkeypatch.setattr(page, "_render", render)
    page.on_planned("throughput", 100)
    page.begin(tmp_path)
    for seconds, due in ((1, 0), (40, 0), (10, 1), (49, 0), (2, 1)):
        clock[0] += seconds
        before = len(built)
        page.on_status("a status builds nothing")
        page.on_records([record()])
        assert len(built) - before == due, seconds
    clock[0] += 1000
    page.on_records([record("gradients")])
    assert len(built) == 3, "of cases measured side by side another may still be going"
    assert state(page.url)["done"] == 5 and state(page.url)["latest"] == "Newest: case: numpy 1.00 ms"


def test_answering_takes_little_processor_time() -> None:
    with LivePage() as page:
        for _ in range(200):
            state(page.url)
    assert page.server_seconds / 200 < 0.005, "a question every 5 s takes less than a thousandth of a processor"


def test_a_browser_in_the_terminal_is_not_opened_beside_a_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import webbrowser

    class Console(webbrowser.GenericBrowser):
        def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:
            opened.append(url)
            return True

    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "get", lambda: Console("w3m"))
    assert not terminal.open_page("http://here", "that address", foreground=False)
    assert "no web browser could be opened; open that address yourself" in capsys.readouterr().err and not opened
    assert terminal.open_page("http://here", "that address") and opened == ["http://here"]


def test_the_report_that_is_served_links_to_no_files(page: LivePage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"phases": ("forward",), "hiddens": (64,), "batches": (1,), "lengths": (64,), "backends": ("torch", "jax")}
    machines = [write(Synthetic(machine=name, **small), tmp_path) for name in ("one", "another")]
    written = build(machines, tmp_path / "report").html
    monkeypatch.setattr("lstm_bench.views.live.ASK_SECONDS", 0.1)
    page.finish(written)
    links = [set(re.findall(rb'href="([^"#][^"]*)"', text)) for text in (written.read_bytes(), get(page.url)[1])]
    assert links[0] - links[1] == {b"report-another.html"} and not any(link.endswith(b".html") for link in links[1])


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on PATH")
def test_a_browser_sees_the_run_go_on_and_then_its_end(page: LivePage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"phases": ("forward",), "hiddens": (64,), "batches": (1,), "lengths": (64,), "backends": ("torch", "jax")}
    page.on_planned("throughput", 10)
    page.begin(write(Synthetic(**small), tmp_path))
    assert b"Nothing is measured yet." in get(page.url)[1]
    page.on_records([record()])
    shown = dump(page.url, tmp_path)
    assert "Newest: case: numpy 1.00 ms" in shown and "1 of 10 timings" in shown and 'class="panel"' in shown
    (tmp_path / "report.html").write_text("<!DOCTYPE html><title>done</title><p>the written report")
    gone = tmp_path / "gone.html"  # a page whose run has ended: it cannot ask any more
    gone.write_text(get(page.url)[1].decode(), encoding="utf-8")
    assert "The run has ended, or was interrupted." in dump(gone.as_uri(), tmp_path)
    monkeypatch.setattr("lstm_bench.views.live.ASK_SECONDS", 0.1)  # nobody asks in this test: do not wait for it
    page.finish(tmp_path / "report.html")
    assert "the written report" in dump(page.url, tmp_path)


def dump(url: str, folder: Path) -> str:
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=9000", "--dump-dom", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
