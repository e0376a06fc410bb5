"""A device lock for each test: nothing is timed here, and test suites may run side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.machine import lock


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lock.FOLDER_VARIABLE, str(tmp_path))
