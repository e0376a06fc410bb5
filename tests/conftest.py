"""A device lock for this test run: nothing is timed here, and test runs may go side by side."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.machine import lock


@pytest.fixture(autouse=True, scope="session")
def own_locks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(lock.FOLDER_VARIABLE, str(tmp_path_factory.mktemp("locks")))
        yield
