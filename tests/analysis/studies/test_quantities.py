"""A topic's quantities are found where the topic lies, and judge a rule without another file naming them."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from analysis import AnalysisError, studies
from analysis.report.claims import measurements
from analysis.report.load import series_frame
from analysis.statistics import quantities
from results.claims import Claim, Test
from results.record import Header, Measurement, Record
from results.store import Run

TOY = """from analysis.statistics import seeds
from analysis.statistics.quantities import Quantity

QUANTITIES = {"%s": Quantity(lambda rows: seeds.first(rows, "toy_gain"), "gain", "dB")}
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Adds a topic `toy` with one quantity of the name given."""

    def add(name: str) -> None:
        folder = tmp_path / name / "toy"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(TOY % name)
        monkeypatch.setattr(studies, "__path__", [*studies.__path__, str(folder.parent)])
        monkeypatch.delitem(sys.modules, f"{studies.__name__}.toy", raising=False)
        quantities.quantities.cache_clear()

    yield add
    quantities.quantities.cache_clear()


def rows(*gains: float) -> pd.DataFrame:
    made = Measurement("toy_gain", "dB", gains, (1,) * len(gains))
    record = Record("toy", "case", "numpy", 0, "ok", {"steps": 4}, measurements=(made,))
    return series_frame([Run(Path("x"), Header("r", "2026-11-20T12:00:00Z", 1, "imaginary", {}, {}), (record,), None)])


@pytest.mark.parametrize(("low", "word"), [(2.0, "supported"), (9.0, "refuted"), (3.0, "inconclusive")])
def test_a_toy_study_with_a_quantity_gets_a_verdict(toy, low, word):
    toy("toy_gain")
    claim = Claim("toy", "It gains.", (Test("toy_gain", low=low),), (("numpy", "backend=numpy"),))
    verdict = quantities.judge(claim, rows(3.0, 3.1, 2.9))
    assert verdict.word == word
    assert measurements(verdict) == ["numpy: gain 3 dB [2.75, 3.25]"]
    assert quantities.judge(claim, rows(3.0).iloc[:0]).word == "not measured"


def test_two_topics_cannot_declare_one_name(toy):
    toy("half_life")
    with pytest.raises(AnalysisError, match="topic toy declares quantities that another has: half_life"):
        quantities.quantities()


def test_an_unknown_quantity_is_named_with_the_choices():
    with pytest.raises(quantities.UnknownQuantity, match=r"no quantity 'toy_gain'; choose from .*half_life"):
        quantities.named("toy_gain")


def test_no_two_topics_have_a_figure_of_one_name():
    """A claim's card finds its figure by the name alone."""
    names = [name for module in studies.with_figures() for name in module.FIGURES]
    assert len(names) == len(set(names)) > 20
