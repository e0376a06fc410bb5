"""The page of a run while it fills: served to this machine alone, built between measurements, ended with the run.

What it costs the measurement: the page is built in `on_records`, between cases, while no worker samples, at most every
`BUILD_SECONDS` and for at most a fiftieth of the time; where cases are measured side by side, so that others still run, it is
not built at all. A thread of the lowest priority answers with what has been built already. A browser on the same machine takes
processor time of its own, of which none of this is aware.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from lstm_bench import terminal
from lstm_bench.views.progress import Display, Forecast, result
from results.record import Record

HOST = "127.0.0.1"
ASK_SECONDS = 5.0  # between two questions of the page, as in live.js
BUILD_SECONDS, FIRST_SECONDS = 20.0, 5.0  # between two pages; the first ones follow sooner
LEAST_BETWEEN = 50  # times what the last page took to build
LONGEST_REQUEST = 2.0  # seconds after which a connection that says nothing is closed
LATEST = 200  # characters of the newest result
# Of a written report: links to pages beside it, which are files, and not served.
BESIDE = re.compile(rb'<li class="machine">.*?</li>\n')


@dataclass(frozen=True, slots=True)
class State:
    """What the page asks for. version: of the page; another one is to be loaded."""

    version: int
    state: str
    count: str
    latest: str
    done: int
    total: int


class _Server(HTTPServer):
    """One address, known to nobody who was not told it: the page, and the state that it asks for."""

    def __init__(self) -> None:
        super().__init__((HOST, 0), _Handler)
        self.path = f"/{secrets.token_urlsafe(16)}/"
        self.page = self.state = b""
        self.last = False  # whether `page` is the written report
        self.asked = 0.0
        self.delivered = threading.Event()  # the written report

    @property
    def hosts(self) -> tuple[str, ...]:
        return f"{HOST}:{self.server_port}", f"localhost:{self.server_port}"

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}{self.path}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that went away is no concern of the run; any other error is shown."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]
    timeout = LONGEST_REQUEST

    def do_GET(self) -> None:
        if self.headers.get("Host") not in self.server.hosts:  # a name of somebody else's that leads here (DNS rebinding)
            self._answer(403, "text/plain", b"this page is served to this machine alone\n")
        elif self.path == self.server.path:
            self.server.asked = time.monotonic()
            last = self.server.last
            self._answer(200, "text/html", self.server.page)
            if last:
                self.server.delivered.set()
        elif self.path == f"{self.server.path}state.json":
            self.server.asked = time.monotonic()
            self._answer(200, "application/json", self.server.state)
        else:
            self._answer(404, "text/plain", b"no such page\n")

    def _answer(self, status: int, type: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", f"{type}; charset=utf-8"), ("Content-Length", str(len(body))), ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"),
            ("Content-Security-Policy", "frame-ancestors 'none'"), ("Cross-Origin-Resource-Policy", "same-origin"),
        ):  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *values: object) -> None:
        """Nothing: standard error is the display's."""


class LivePage:
    """A listener that shows a run on a page beside the display that it is given; open it with `with`.

    Attributes:
        url: of the page.
        server_seconds: processor time that answering has taken so far.
    """

    def __init__(self) -> None:
        from analysis.report import page  # before anything is measured: it takes a second

        self._render = page.live
        self._server = _Server()
        self._thread = threading.Thread(target=self._serve, name="live page", daemon=True)
        self._forecast = Forecast()
        self._display: Display | None = None
        self._file: Path | None = None
        self._latest = "Nothing is measured yet."
        self._version, self._built, self._took = 0, float("-inf"), 0.0
        self.server_seconds = 0.0

    @property
    def url(self) -> str:
        return self._server.url

    def __enter__(self) -> LivePage:
        self._tell("Starting.")
        self._server.page = b"<!DOCTYPE html><meta http-equiv=refresh content=2><title>lstm-bench</title><p>Starting."
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def beside(self, display: Display) -> LivePage:
        """This page as a listener that tells the display too."""
        self._display = display
        return self

    def begin(self, file: Path) -> None:
        """Take the run's file, which is there and holds no outcome yet, or those of an interrupted run."""
        self._file = file
        self._build()

    def on_planned(self, study: str, records: int) -> None:
        self._forecast.on_planned(study, records)
        if self._display:
            self._display.on_planned(study, records)
        self._tell("Measuring.")

    def on_status(self, text: str) -> None:
        if self._display:
            self._display.on_status(text)

    def on_records(self, records: Sequence[Record]) -> None:
        """Build the page anew where that is due and no other case is being measured meanwhile."""
        self._forecast.on_records(records)
        if self._display:
            self._display.on_records(records)
        self._latest = f"Newest: {records[0].case}: {' · '.join(result(records).split('  '))}"[:LATEST]
        between = max(min(BUILD_SECONDS, FIRST_SECONDS * self._version), LEAST_BETWEEN * self._took)
        due = time.monotonic() - self._built >= between
        if self._file and due and not _side_by_side(records):
            self._build()
        self._tell("Measuring.")

    def finish(self, report: Path) -> None:
        """Let the written report take the page's place, and wait until a browser that has asked lately has it."""
        self._server.page, self._server.last = BESIDE.sub(b"", report.read_bytes()), True
        self._version += 1
        self._tell("Done.")
        if time.monotonic() - self._server.asked < 2 * ASK_SECONDS:
            self._server.delivered.wait(2 * ASK_SECONDS)

    def _build(self) -> None:
        started = time.monotonic()
        self._version += 1
        assert self._file is not None
        self._server.page = self._render(self._file, asdict(self._state("Measuring."))).encode()
        self._built = time.monotonic()
        self._took = self._built - started

    def _tell(self, state: str) -> None:
        self._server.state = json.dumps(asdict(self._state(state))).encode()

    def _state(self, state: str) -> State:
        forecast = self._forecast
        remaining = forecast.remaining() if state == "Measuring." else ""
        count = f"{forecast.done} of {forecast.total} timings" if forecast.total else ""
        said = ", ".join(filter(None, [count, "estimating the time left" if remaining == "estimating" else remaining]))
        return State(self._version, state, said, self._latest, forecast.done, forecast.total)

    def _serve(self) -> None:
        if sys.platform == "linux":  # of this thread alone: workers come first
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        self._server.serve_forever()
        self.server_seconds = time.thread_time()


def _side_by_side(records: Sequence[Record]) -> bool:
    """Whether cases like these are measured by processes of their own, of which others may still be going."""
    from bench.harness import study
    from bench.harness.case import Case

    return any(
        record.study in study.names() and study.get(record.study).is_standalone(Case.from_dict(record.parameters))
        for record in records
    )


def watched(page: LivePage) -> None:
    """Say where the page is, and open it in a browser that leaves this terminal alone."""
    terminal.say(f"watch this run at {page.url}")
    terminal.open_page(page.url, "that address", foreground=False)
