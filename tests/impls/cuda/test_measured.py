"""The measured table of kernel configurations: the reference's numbers, found for the very configuration and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from impls.cuda import select
from impls.cuda.runtime import BFLOAT16, FLOAT16, TENSORFLOAT32
from impls.cuda.select import FORWARD, choose
from impls.cuda.select.configurations import ForwardShape

REFERENCE = Path(__file__).parents[3] / "results/reference/2026-11-26-h100/tables/shipped-cuts.json"
WARPS = {64: 4, 128: 8, 256: 8, 384: 12, 512: 8, 768: 12}  # of the backward kernels that were measured
HOPPER = (9, 0)
SHAPE = ForwardShape(storage=BFLOAT16, hidden=256, cluster=16, split=4)


@pytest.fixture(autouse=True)
def as_measured(monkeypatch):
    """The kernels' sources as they were when the table was made, whatever has become of them since."""
    monkeypatch.setattr(select, "source_hash", lambda phase: json.loads(select.TABLE.read_text())["sources"][phase])


def test_the_table_is_the_references():
    kept = {}
    for row in json.loads(REFERENCE.read_text()):
        phase = {"f": "forward", "b": "backward"}[row["phase"]]
        cut = row["split"] if phase == "forward" else WARPS[row["H"]]
        kept[phase, row["H"], row["C"], row["N"], cut, row["resident"], row["B"]] = row["us"]
    table = json.loads(select.TABLE.read_text())
    found = {(*key, batch): time for *key, times in table["rows"] for batch, time in zip(table["batches"], times, strict=True)}
    assert found == pytest.approx(kept, abs=5.1e-4)


def test_shipped_forward_cuts_of_16_bits_were_measured():
    for storage in (BFLOAT16, FLOAT16):
        assert all(select.step_time(shape, 8, 7) for shape in FORWARD[storage])


def test_a_time_is_of_a_batch_with_as_many_waves_of_clusters():
    def batch(columns: int) -> int | None:
        found = select.step_time(SHAPE, columns, resident=7)
        return found and found.batch

    # 7 clusters of 8 columns run at once: 56 columns are one wave, 112 two, 168 three, 224 four, 256 five.
    assert [batch(columns) for columns in (1, 8, 9, 32)] == [8, 8, 32, 32]
    assert [batch(columns) for columns in (33, 56, 57, 112, 113, 128)] == [None, None, None, None, 128, 128]
    assert [batch(columns) for columns in (224, 225, 256, 257)] == [None, 256, 256, None]
    found = select.step_time(SHAPE, 32, 7)
    assert found is not None and found.microseconds == pytest.approx(0.66, abs=0.005)


def test_other_configurations_were_not_measured(monkeypatch):
    assert select.step_time(replace(SHAPE, storage=TENSORFLOAT32), 8, 7) is None
    assert select.step_time(replace(SHAPE, cluster=8, split=1), 8, 7) is None
    shipped = next(shape for shape in FORWARD[BFLOAT16] if (shape.hidden, shape.cluster) == (512, 8))
    assert select.step_time(shipped, 8, 7)
    assert select.step_time(replace(shipped, resident=8), 8, 7) is None
    monkeypatch.setattr(select, "source_hash", lambda phase: "another")
    assert select.step_time(SHAPE, 8, 7) is None, "the kernel was changed since"


def test_the_hash_is_of_the_kernel_and_its_headers(tmp_path, monkeypatch):
    monkeypatch.undo()
    for name in (*select.SOURCES.values(), *select.HEADERS):
        (tmp_path / name).write_bytes((select.FOLDER / name).read_bytes())
    before = {phase: select.source_hash(phase) for phase in select.SOURCES}
    monkeypatch.setattr(select, "FOLDER", tmp_path)
    fresh = select.source_hash.__wrapped__
    assert {phase: fresh(phase) for phase in select.SOURCES} == before
    (tmp_path / "cluster_forward.cu").write_text("changed")
    assert fresh("forward") != before["forward"] and fresh("backward") == before["backward"]
    (tmp_path / "device.cuh").write_text("changed")
    assert fresh("backward") != before["backward"]


def test_a_plan_says_which_of_its_times_were_measured():
    reason = choose(256, 32, 1, torch.bfloat16, HOPPER).reason
    assert "forward measured on H100: 0.66 µs a step at B = 32; backward modelled" in reason, (
        "the backward kernel is another now"
    )
    both = "forward modelled; backward modelled"
    assert both in choose(200, 32, 1, torch.bfloat16, HOPPER).reason, "padded to 256"
    assert both not in choose(256, 32, 1, torch.bfloat16, HOPPER).reason
    assert both in choose(256, 16, 2, torch.bfloat16, HOPPER).reason, "as many columns, of two directions"
    assert both in choose(256, 32, 1, torch.bfloat16, HOPPER, memory="rebuilt").reason
    assert both in choose(256, 32, 1, torch.bfloat16, (10, 0)).reason
    assert both in choose(256, 32, 1, torch.float32, HOPPER, tf32=True).reason
    assert (
        "asked for; forward modelled; backward measured on H100"
        in choose(64, 8, 1, torch.float16, HOPPER, design="cluster").reason
    )


@pytest.mark.parametrize("hidden", [64, 128, 256, 384, 512, 768])
@pytest.mark.parametrize("batch", [1, 8, 32, 64, 128, 256])
def test_measured_times_do_not_change_what_is_chosen(hidden, batch, monkeypatch):
    with_times = choose(hidden, batch, 1, torch.bfloat16, HOPPER)
    monkeypatch.setattr(select, "step_time", lambda *_: None)
    without = choose(hidden, batch, 1, torch.bfloat16, HOPPER)
    assert (with_times.forward, with_times.backward) == (without.forward, without.backward)
    assert "forward modelled; backward modelled" in without.reason
