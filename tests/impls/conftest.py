"""What the float64 reference and the naive implementations answer to a case is computed once in these tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from bench.worker import agreement
from impls.frameworks.numpy import arithmetic


@pytest.fixture(autouse=True, scope="session")
def shared_references() -> Iterator[None]:
    answers: dict[object, agreement.Answer] = {}
    in_folder = agreement.remembered

    def remembered(name: str, compute: Callable[[], agreement.Answer]) -> agreement.Answer:
        if os.environ.get(agreement.REFERENCES):
            return in_folder(name, compute)
        key = name, arithmetic.off()
        if key not in answers:
            answers[key] = compute()
        return {array: value.copy() for array, value in answers[key].items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agreement, "remembered", remembered)
        yield


@pytest.fixture
def fresh_references(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that change what the reference computes: nothing is read from other tests, nothing is left to them."""
    monkeypatch.setattr(agreement, "remembered", lambda name, compute: compute())
