"""The newest stored runs at cpu scale kept to the time that their studies have together, on the machine that measured them."""

from __future__ import annotations

from pathlib import Path

import pytest

from results import store
from results.store import Run

ARCHITECTURES = ("scaling", "decode", "stream", "quality", "context")
STORED = Path(__file__).parents[2] / "results/runs"
LEARNING = ("gradients", "horizon", "cost")


def newest(study: str) -> Run:
    """The newest finished run of one study at cpu scale. Skips where none is stored: nothing was claimed."""
    runs = [store.read(path) for path in store.find(STORED)]
    found = [run for run in runs if run.finished and (run.header.plan["suite"], run.header.plan["studies"]) == ("cpu", [study])]
    whole = [run for run in found if not run.header.plan["filters"]]
    if not whole:
        pytest.skip(f"no finished run of all of {study} at cpu scale is stored below {STORED}")
    return max(whole, key=lambda run: run.header.started)


@pytest.mark.parametrize(("studies", "limit"), [(ARCHITECTURES, 480), (LEARNING, 240)])
def test_studies_of_one_question_stay_within_their_time(studies: tuple[str, ...], limit: int):
    seconds = {study: run.footer.seconds for study in studies if (run := newest(study)).footer is not None}
    assert len(seconds) == len(studies) and sum(seconds.values()) < limit, seconds
