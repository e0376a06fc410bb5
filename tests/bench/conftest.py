"""What the tests of the harness share: misbehaving backends, a small case, and a listener that only collects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.harness.case import Case
from impls import LSTMSpec, backends
from results.record import Record

MISBEHAVING = Path(__file__).parent.parent / "backends"


SMALL = Case(LSTMSpec(4, 5), steps=32, batch=3)


@contextmanager
def visible_backends() -> Iterator[None]:
    """Makes `tests/backends` visible here and in workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSTM_BENCH_BACKENDS", str(MISBEHAVING))
        backends.__path__.append(str(MISBEHAVING))
        yield
        backends.__path__.remove(str(MISBEHAVING))


@pytest.fixture
def misbehaving() -> Iterator[None]:
    with visible_backends():
        yield


@pytest.fixture
def case() -> Case:
    return SMALL


class Collector:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.expected = 0

    def on_planned(self, study: str, records: int) -> None:
        self.expected += records

    def on_status(self, text: str) -> None:
        pass

    def on_records(self, records: Sequence[Record]) -> None:
        self.records.extend(records)


@pytest.fixture
def collector() -> Collector:
    return Collector()
