"""README is short, its numbers of a CPU are those of the run that it names, and its question is one command."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
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


def test_the_question_on_a_kernel_is_asked_by_its_command():
    """Ours against cuDNN at H = 512, B = 32 in training: those backends, and no case of another size or phase."""
    (block,) = re.findall(r"^```\n(lstm-bench compare .*?)```", README, re.MULTILINE | re.DOTALL)
    words = shlex.split(block.replace("\\\n", " "))[1:]
    command = [sys.executable, "-m", "lstm_bench", *words, "--dry-run", "--json"]
    found = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert found["sides"] == ["backend:cudnn", "backend:cuda"] and found["device"] == "cuda"
    keys = [case["case"] for case in found["cases"]]
    assert keys and all(re.match(r"lstm-I512-H512-T\d+-B32-forward_backward-", key) for key in keys)
    assert all(sorted(case["backends"]) == ["cuda", "cudnn"] for case in found["cases"])
