"""Standard output and error as they are: any encoding, and a reader that may leave before the end."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import select
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterator
from typing import TextIO

READABLE = "lstm-bench-readable"  # the name of the error handler that `write_any_encoding` registers
IN_ASCII = {"×": "x", "±": "+-", "µ": "u", "μ": "u", "–": "-", "—": "-", "−": "-", "…": "...", "→": "->", "·": "*", "≤": "<=",
            "≥": ">=", "∞": "inf", "λ": "lambda", "σ": "sigma", "★": "*", "‘": "'", "’": "'", "“": '"', "”": '"'}  # fmt: skip


class OutputClosed(Exception):
    """Nobody reads standard output or error any more, as after `| head -1`."""


def write_any_encoding() -> None:
    """Let a character that the terminal's encoding lacks be written as the nearest ASCII, and not end the command."""
    codecs.register_error(READABLE, _readable)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=READABLE)


def _readable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_in_ascii, error.object[error.start : error.end])), error.end


def _in_ascii(character: str) -> str:
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return IN_ASCII.get(character) or plain or "?"


class Interrupted(Exception):
    """Ctrl-C, as an exception that Typer passes on; it would turn `KeyboardInterrupt` into a silent exit."""


@contextlib.contextmanager
def passed_through_typer() -> Iterator[None]:
    """Raise what Typer passes on where it would answer itself: Ctrl-C with silence, a closed pipe or an `EOFError` with exit
    code 1, which is a verdict."""
    try:
        with closed_output_told():
            yield
    except KeyboardInterrupt as stop:
        raise Interrupted from stop
    except EOFError as error:
        raise RuntimeError(f"a file or pipe ended too early: {error}") from error


@contextlib.contextmanager
def closed_output_told() -> Iterator[None]:
    """Raise `OutputClosed` for a `BrokenPipeError` of standard output or error, also where Rich has made it an exit.

    That of another pipe becomes a `RuntimeError`, lest Typer take it for one of these.
    """
    try:
        yield
    except BrokenPipeError as error:
        if not any(map(_unread, _outputs())):
            raise RuntimeError(f"a pipe to another process is broken: {error}") from error
        raise OutputClosed from error
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):
            raise OutputClosed from stop
        raise


def redraws() -> bool:
    """Whether standard error is a terminal on which a line can be drawn again."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def wrapped(text: str, stream: TextIO) -> str:
    """Text whose lines break at words where `stream` is a terminal; a line that names a command stays whole, to be copied."""
    if not stream.isatty():
        return text
    lines = textwrap.TextWrapper(shutil.get_terminal_size().columns, break_long_words=False, break_on_hyphens=False)
    return "\n".join(line if "lstm-bench " in line else lines.fill(line) for line in text.splitlines())


def say(sentence: str) -> None:
    """Tell a sentence on standard error, beside what a command prints."""
    print(wrapped(sentence, sys.stderr), file=sys.stderr, flush=True)


def open_page(address: str, shown: str, foreground: bool = True) -> bool:
    """Open a page in the web browser, or say on standard error what to open by hand.

    Args:
        address: of the page.
        shown: how to name it to a person.
        foreground: whether a browser that takes this terminal, as w3m does, may be opened.

    Returns:
        Whether a browser was started.
    """
    import webbrowser

    try:
        browser = webbrowser.get()
    except webbrowser.Error:  # there is none
        browser = None
    takes_terminal = isinstance(browser, webbrowser.GenericBrowser) and not isinstance(browser, webbrowser.BackgroundBrowser)
    opened = browser is not None and (foreground or not takes_terminal) and browser.open(address)
    if not opened:
        say(f"no web browser could be opened; open {shown} yourself")
    return opened


def discard_unwritten() -> None:
    """Send what standard output and error still hold and cannot write to the null device, lest Python fail on it at exit."""
    for stream in _outputs():
        try:
            if not _unread(stream):
                stream.flush()
                continue
        except OSError:
            pass
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _outputs() -> list[io.TextIOWrapper]:
    return [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, io.TextIOWrapper)]


def _unread(stream: io.TextIOWrapper) -> bool:
    if sys.platform == "win32":  # tells it by an error of another kind
        return False
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return any(events & (select.POLLERR | select.POLLNVAL) for _, events in poll.poll(0))
