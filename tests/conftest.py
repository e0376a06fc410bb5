"""A device lock for this test run: nothing is timed here, and test runs may go side by side."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def own_locks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSTM_BENCH_LOCKS", str(tmp_path_factory.mktemp("locks")))
        yield
