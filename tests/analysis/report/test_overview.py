"""The first screen: a winner is named only where its interval against the runner-up excludes 1."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from analysis.report import tables, words
from analysis.report.findings import Findings, find_out
from analysis.report.load import load
from analysis.report.overview import LONGEST_HEADLINE, Overview, overview, ranking_lines
from analysis.report.page import Report
from analysis.statistics.ratios import Ratio
from tests.analysis.synthetic import Synthetic, write


def shown(tmp_path: Path, **values) -> Overview:
    what = Synthetic(batches=(1, 8), hiddens=(64, 128), memory=False, ceilings=False, **values)
    return overview(find_out(load([write(what, tmp_path)])[0]))


def test_a_separated_leader_is_named_with_the_rankings_numbers(found: Findings):
    made = overview(found)
    ranking = found.rankings["cpu", "forward", "eager"]
    ratio = ranking.ratios["onnxruntime"]
    card = made.cards[0]
    assert (card.name, card.clear) == ("onnxruntime", True) and card.value == f"{ratio.value:.2f}×"
    assert ratio.low and ratio.high and card.detail == f"the speed of torch, 95 % CI {ratio.low:.2f}–{ratio.high:.2f}"
    assert made.headline == f"Inference: onnxruntime, {ratio.value:.1f}× torch. Training: torch, 1.4× jax."
    assert made.cards[1].name == "torch" and "Separated from jax" in made.cards[1].verdict
    assert len(made.cards) == 3 and len(made.headline) <= LONGEST_HEADLINE


def test_the_lead_over_the_runner_up_is_their_own_ratio(tmp_path: Path):
    """torch is the baseline and slower than both: 1.4 and 2.2 times its speed, so that cuda has 1.57 times onnxruntime's."""
    what = {"backends": ("torch", "onnxruntime", "cuda"), "phases": ("forward",), "between": 0.001, "noise": 0.001}
    (card,) = shown(tmp_path, **what).cards
    found = re.fullmatch(r"Separated from onnxruntime: ([\d.]+)× \[([\d.]+), ([\d.]+)\]", card.verdict)
    assert found and card.name == "cuda"
    value, low, high = map(float, found.groups())
    assert low <= value <= high and low > 1
    assert value == pytest.approx(float(card.value[:-1]) / 1.4, rel=0.15)


def test_backends_within_the_noise_have_no_winner(tmp_path: Path):
    made = shown(tmp_path, backends=("torch", "cudnn"), phases=("forward",), between=0.05, seed=4)
    (card,) = made.cards
    assert card.clear is False and card.name in ("torch or cudnn", "cudnn or torch")
    assert made.headline == "Inference: no clear winner." and card.verdict.startswith("Not separated from ")


def test_backends_within_5_percent_are_called_so(tmp_path: Path):
    what = {"backends": ("torch", "cudnn"), "phases": ("forward",), "between": 0.0005, "noise": 0.001, "replicates": 5}
    (card,) = shown(tmp_path, **what).cards
    assert card.clear is False and re.match(r"Within 5 % of (torch|cudnn): ", card.verdict)


def ranked(tmp_path: Path, **values) -> list[str]:
    what = Synthetic(batches=(1, 8), hiddens=(64, 128), memory=False, ceilings=False, **values)
    return ranking_lines(find_out(load([write(what, tmp_path)])[0]))


def test_open_pairs_are_named_with_what_decides_them(tmp_path: Path):
    lines = ranked(tmp_path, backends=("torch", "cudnn", "onnxruntime"), phases=("forward",), between=0.15, seed=4)
    assert max(map(len, lines)) <= 80 and lines[0].startswith("Rankings: ")
    rows = [line.split() for line in lines if re.match(r" +\d  ", line)]
    assert [row[0] for row in rows] == ["1", "2", "3"] and any("not separated" in line for line in lines)
    text = " ".join(" ".join(lines).split())
    found = re.search(r"About (\d+) replicates would .*: (lstm-bench run .*--replicates (\d+))", text)
    assert found and found[1] == found[3] and int(found[1]) > 3 and "--where phase=forward" in found[2]


def test_what_is_decided_asks_for_no_more(tmp_path: Path):
    lines = ranked(tmp_path, backends=("torch", "onnxruntime", "cuda"), phases=("forward",), between=0.001, noise=0.001)
    assert "3 of 3 pairs of backends ranked or within 5 %" in lines[0] and not any("replicates would" in line for line in lines)
    assert ranked(tmp_path / "one", replicates=1, phases=("forward",)) == []


def test_one_replicate_separates_nothing_and_says_so(tmp_path: Path):
    made = shown(tmp_path, replicates=1, phases=("forward",))
    assert made.headline == "Inference: no clear winner." and made.level == "unknown"
    assert "--replicates" in made.remedy and "one replicate: no interval" in made.cards[0].detail


def test_a_backend_alone_has_a_card_and_no_headline(tmp_path: Path):
    made = shown(tmp_path, backends=("torch",), phases=("forward",))
    assert made.headline == "" and [card.clear for card in made.cards] == [None]


@pytest.mark.parametrize("between, level", [(0.001, "high"), (0.02, "medium"), (0.2, "low")])
def test_precision_is_that_of_half_of_the_speedups(between: float, level: str, tmp_path: Path):
    what = Synthetic(batches=(1, 8), hiddens=(64, 128), memory=False, ceilings=False, between=between, noise=0.001)
    found = find_out(load([write(what, tmp_path)])[0])
    made = overview(found)
    assert made.level == level and bool(made.remedy) == (level != "high")
    halves = sorted((ratio.high / ratio.low) ** 0.5 for ratio in found.cases["ratio"]
                    if isinstance(ratio, Ratio) and ratio.low and ratio.high and ratio.low != ratio.high)  # fmt: skip
    middle = (halves[len(halves) // 2] + halves[(len(halves) - 1) // 2]) / 2
    assert {"high": middle <= 1.05, "medium": 1.05 < middle <= 1.21, "low": middle > 1.19}[level]


def test_the_table_of_rankings_has_their_order_and_numbers(report: Report, found: Findings):
    table = tables.rankings(found)
    ranking = found.rankings["cpu", "forward", "eager"]
    rows = [[cell.text for cell in row] for row in table.rows if row[0].text == "Inference"]
    assert [row[2] for row in rows] == list(ranking.ratios) and rows[0][-1] == "fastest"
    first, last = rows[0][2], rows[-1][2]
    assert rows[-1][3] == words.format_ratio(ranking.pair(last, first).speedup)
    assert rows[-1][3] in report.html.read_text(encoding="utf-8")


def test_the_page_opens_with_it(report: Report, found: Findings):
    page = report.html.read_text(encoding="utf-8")
    assert f"<h1>{overview(found).headline}</h1>" in page
    assert page.index('class="cards"') < page.index("<figure") < page.index('class="answers"')
