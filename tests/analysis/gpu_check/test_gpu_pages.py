"""README and docs quote of a GPU what the reference says: every number is computed from it, and a changed one is found."""

from __future__ import annotations

import json
import math
import re
import shutil
import statistics
from pathlib import Path

import pytest

from analysis.gpu_check import pages
from analysis.gpu_check.pages import FIGURE, H100, PAGES, ROOT, renewed, stale, values

FIRST_SCREEN = 20  # lines of README


def test_every_page_and_the_figure_are_what_the_reference_says():
    assert stale() == []


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    for name in (*PAGES, FIGURE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    assert stale(tmp_path) == []
    return tmp_path


@pytest.mark.parametrize("name", PAGES)
def test_a_number_changed_by_hand_is_found(copied: Path, name: str):
    text = (copied / name).read_text()
    changed = re.sub(r"(<!-- h100: [\w.-]+ -->\D*?)\d", r"\g<1>9", text, count=1)
    changed = changed if changed != text else re.sub(r"(<!-- h100: [\w.-]+ -->\D*?)\d", r"\g<1>8", text, count=1)
    (copied / name).write_text(changed)
    assert stale(copied) == [f"{name} is not what the reference runs say; renew it with: python -m analysis.gpu_check.pages"]


def test_a_figure_with_another_number_is_found(copied: Path):
    drawn = (copied / FIGURE).read_text()
    assert ">▲ 5.20×</text>" in drawn
    (copied / FIGURE).write_text(drawn.replace(">▲ 5.20×</text>", ">▲ 5.30×</text>", 1))
    assert [said.split(" ")[0] for said in stale(copied)] == [str(FIGURE)]
    (copied / FIGURE).unlink()
    assert [said.split(" ")[0] for said in stale(copied)] == [str(FIGURE)]


def test_a_name_that_nobody_knows_is_an_error():
    with pytest.raises(KeyError):
        renewed("<!-- h100: forward.al -->2<!-- end -->")


def test_a_mark_that_does_not_end_is_found():
    """Its text would not be renewed: every mark on every page has its end before the next."""
    for name in PAGES:
        text = (ROOT / name).read_text()
        found = re.findall(r"<!-- (h100: [\w.-]+|end) -->", text)
        starts = [index for index, mark in enumerate(found) if mark.startswith("h100")]
        assert starts and all(found[index + 1] == "end" for index in starts), name


def test_the_first_screen_shows_a_number_that_its_link_proves():
    top = (ROOT / "README.md").read_text().splitlines()[:FIRST_SCREEN]
    paragraph = "\n".join(top)
    assert "<!-- h100: forward.all -->2.18×<!-- end -->" in paragraph and f"({FIGURE})" in paragraph
    assert "(results/reference/2026-11-26-h100)" in paragraph and (H100 / "README.md").is_file()


def test_the_numbers_are_the_tables():
    """Recomputed here without the module's own functions."""
    rows = [row for row in json.loads((H100 / "tables/layer-grid.json").read_text()) if row["dtype"] == "torch.bfloat16"]
    assert all(row["modes"] == ["graph"] * 4 and row["T"] == 128 for row in rows)

    def mean(phase: str, sizes: range) -> float:
        logs = [math.log(row[f"cudnn_{phase}"] / row[f"ours_{phase}"]) for row in rows if row["H"] in sizes]
        return math.exp(statistics.fmean(logs))

    found = values()
    for name, phase in (("forward", "f"), ("training", "fb")):
        for size, sizes in (
            ("all", range(9999)),
            ("up-to-512", range(513)),
            ("768", range(768, 769)),
            ("from-1024", range(1024, 9999)),
        ):
            assert float(found[f"{name}.{size}"].removesuffix("×")) == pytest.approx(mean(phase, sizes), rel=6e-3)
    assert found["forward.won"] == "28 of 36" and found["training.won"] == "25 of 36" and found["correct"] == "144 of 144"
    lstm = [found[f"scaling.lstm.{steps}"] for steps in (64, 256, 1024, 4096)]
    transformer = [found[f"scaling.transformer.{steps}"] for steps in (64, 256, 1024, 4096)]
    assert lstm == ["5.27", "9.67", "48.0", "134"] and transformer == ["11.5", "11.2", "11.9", "14.5"]
    assert {found[f"scaling.lstm.{steps}.replicates"] for steps in (64, 256, 1024, 4096)} == {"1"}


def test_what_is_said_of_winning_and_losing_holds():
    """Sentences beside the numbers: where ours loses, and that it wins wherever it is said to."""
    lost = {phase: {(row["H"], row["B"]) for row in pages.grid() if pages.speedup(row, phase) < 1} for phase in ("f", "fb")}
    assert {at for at in lost["f"] if at[0] <= 768} == {(768, 256)}
    assert {at for at in lost["fb"] if at[0] <= 768} == {(768, 128), (768, 256)}
    assert min(batch for hidden, batch in lost["f"] if hidden == 1024) == 64
    assert min(batch for hidden, batch in lost["f"] if hidden == 2048) == 32
    streams = [row for row in pages.table("module-and-stream") if "stream" in row]
    assert len(streams) == 5 and all(row["ours"] < row["cudnn_graph"] for row in streams)
    points = pages.table("published-points")
    assert len(points) == 5 and all(row["ours_fb_rebuilt"] > row["ours_fb"] for row in points)
