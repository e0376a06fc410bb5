"""README is short, and the numbers of a CPU in it are those of the run that it names."""

from __future__ import annotations

import re
from pathlib import Path

from analysis.report import words
from analysis.report.findings import find_out
from analysis.report.load import load

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_WORDS = 800


def test_readme_is_read_in_a_few_minutes():
    assert len(re.sub(r"<!--.*?-->", "", README).split()) <= MOST_WORDS


def test_the_speeds_of_backends_are_those_of_the_run():
    named = re.search(r"\]\((results/runs/[\w/.-]+)\)", README)
    assert named is not None
    found = find_out(load([ROOT / named[1]])[0])
    ratios = found.rankings["cpu", "forward", "eager"].ratios
    rows = dict(re.findall(r"^\| `(\w+)` \|[^|]*\| ([^|]+) \|$", README, re.MULTILINE))
    assert rows == {name: "baseline" if name == "torch" else words.format_ratio(ratio) for name, ratio in ratios.items()}
    assert f"{words.format_ratio(ratios['onnxruntime'])} the speed of PyTorch" in README.replace("\n", " ")


def test_every_file_that_readme_links_to_is_there():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert len(links) > 15 and [link for link in links if not (ROOT / link).exists()] == []
