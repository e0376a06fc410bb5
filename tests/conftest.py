"""Folders of this test run: nothing is timed here, test runs may go side by side, and what killed runs of before left in the
usual temporary folder is not this run's to remove or to speak of."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator

import pytest

from bench.machine import lock

CACHE = "LSTM_BENCH_CACHE"


@pytest.fixture(autouse=True, scope="session")
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(lock.FOLDER_VARIABLE, str(tmp_path_factory.mktemp("locks")))
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))
        patch.setattr(tempfile, "tempdir", None)  # what was found before; asked anew from here on
        if CACHE not in os.environ:  # what is compiled once serves all tests, and is not put into the user's own cache
            patch.setenv(CACHE, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> None:
    """A shell that starts these tests in the background has the commands that they start ignore Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
