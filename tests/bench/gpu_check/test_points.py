"""The table of points: cuDNN's times are the measured ones, and a point counts as won only by the bound."""

from __future__ import annotations

import json
import re

import pytest

from bench.gpu_check import points
from impls.cuda.select import model
from impls.cuda.select.model import Estimate


def test_the_tables_of_the_page_are_up_to_date():
    page = points.PAGE.read_text(encoding="utf-8")
    assert points.renewed(page) == page, "renew them with: python -m bench.gpu_check.points"
    assert points.renewed(page.replace("won (modelled)", "won (measured)")) == page
    with pytest.raises(ValueError, match="one place for the tables"):
        points.renewed(page.replace(points.END, ""))


def test_every_point_has_a_state():
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", points.tables(), re.MULTILINE)
    cells = [cell for _, row in rows for cell in row.split(" | ")]
    assert len(cells) == 6 * 7 * 6
    assert all(re.fullmatch(r"\*\*won \(modelled\) ≥ [\d.]+×\*\*|open a|open [bc], [\d.]+×", cell) for cell in cells)
    won = sum(cell.startswith("**won") for cell in cells)
    assert f"Of 252 points {won} are won (modelled), none is won (measured)" in points.tables()


@pytest.mark.parametrize("time, text", [
    (Estimate(2.0, 2.5, "modelled"), "**won (modelled) ≥ 1.2×**"), (Estimate(2.0, 3.5, "modelled"), "open c, 1.5×"),
    (Estimate(1.0, 1.2, "extrapolated"), "open b, 3×"), (Estimate(2.0, 3.0, "measured"), "open c, 1.5×"),
])  # fmt: skip
def test_a_point_is_won_by_the_bound_within_what_was_measured(monkeypatch, time, text):
    monkeypatch.setattr(points, "ours", lambda *_: time)
    measured = {("bf16", "forward", 512, 8): 3.0}
    assert points.cell("bf16", "forward", 512, 8, measured) == text
    assert points.cell("TF32", "forward", 512, 8, measured) == "open a"


def test_opponents_are_measured_and_ours_are_whole_layers():
    (row,) = [row for row in json.loads(points.MEASURED.read_text())
              if (row["H"], row["B"], row["dtype"]) == (512, 32, "torch.bfloat16")]  # fmt: skip
    assert points.cudnn()["bf16", "training", 512, 32] == row["cudnn_fb"] / 128
    forward = points.ours("bf16", "forward", 512, 32)
    recurrence = model.estimate("cluster_forward", hidden=512, cluster=16, columns=5, tail_bytes=0)
    assert forward.upper == pytest.approx(recurrence.upper + model.rest("forward", 512, 512, 32).upper)
    assert points.ours("bf16", "training", 512, 32).upper > forward.upper
