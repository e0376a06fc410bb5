"""What the page's script reads is what the table says; the library it draws with is the one that is named."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from analysis.report.data import embedded, section_data
from analysis.report.findings import Findings
from analysis.report.load import rows_of
from analysis.report.page import Report
from analysis.statistics.ratios import Ratio

VENDOR = Path(__file__).parents[3] / "analysis" / "report" / "vendor"
PLOT_SHA256 = "bce6f7bfab31f082f606ae02d6c8906d35388fde52886eb196573c67b451d672"


def test_the_page_holds_every_case_and_backend_of_the_table(report: Report, found: Findings):
    page = report.html.read_text(encoding="utf-8")
    held = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert held is not None
    data = json.loads(held[1])
    assert data == json.loads(embedded(section_data(found)))
    pairs = {(case["id"], backend) for case in data["cases"] for backend in case["of"]}
    assert pairs == {(row["case"], row["backend"]) for row in rows_of(found.cases)}


def test_times_speedups_and_quantiles_are_those_of_the_findings(found: Findings):
    cases = {case["id"]: case for case in section_data(found)["cases"]}
    for row in rows_of(found.cases):
        own = cases[row["case"]]["of"][row["backend"]]
        assert own["time"] == pytest.approx([row["seconds"], row["low"], row["high"]], rel=1e-3)
        ratio = row["ratio"]
        assert isinstance(ratio, Ratio)
        assert own["speedup"][found.baseline or ""] == pytest.approx([ratio.value, ratio.low, ratio.high], rel=1e-3)
        assert own["quantiles"] == sorted(own["quantiles"])
    case = cases[found.cases["case"].iloc[0]]["of"]
    other = case["jax"]["speedup"]["onnxruntime"]
    assert other[0] == pytest.approx(1 / case["onnxruntime"]["speedup"]["jax"][0], rel=1e-2), "any of them is a baseline"


def test_nothing_in_the_data_ends_the_script():
    text = embedded({"name": "</script><b>", "value": 1.5})
    assert "</" not in text and json.loads(text) == {"name": "</script><b>", "value": 1.5}
    with pytest.raises(ValueError, match="JSON compliant"):
        embedded({"value": math.nan})


def test_the_library_is_the_one_that_is_named():
    assert hashlib.sha256((VENDOR / "plot.js").read_bytes()).hexdigest() == PLOT_SHA256
    assert "Permission to use, copy, modify" in (VENDOR / "LICENSE.plot").read_text(encoding="utf-8")
    assert json.loads((VENDOR / "package.json").read_text())["dependencies"] == {"@observablehq/plot": "0.6.17"}


@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm on PATH")
def test_the_library_is_built_from_its_package(tmp_path: Path):
    for name in ("package.json", "package-lock.json", "entry.js"):
        shutil.copy(VENDOR / name, tmp_path)
    for command in (["npm", "ci", "--no-audit", "--no-fund"], ["npm", "run", "build"]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        if done.returncode and any(word in done.stderr for word in ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT")):
            pytest.skip("no npm registry can be reached")
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "plot.js").read_bytes() == (VENDOR / "plot.js").read_bytes()
