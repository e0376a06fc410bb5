"""The times by which kernels are chosen: the reference's measurements, and a model that predicts shapes it has not seen."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from impls.cuda.runtime import BFLOAT16, TENSORFLOAT32
from impls.cuda.select import RESIDENT_CLUSTERS, choose, fit, model
from impls.cuda.select.cluster import BACKWARD, FORWARD
from impls.cuda.select.grid import GRID
from impls.cuda.select.steps import GemmSteps, TensorSteps

TABLES = Path(__file__).parents[3] / "results/reference/2026-11-26-h100/tables"
HOPPER = (9, 0)


def table(name: str) -> list[dict]:
    return json.loads((TABLES / f"{name}.json").read_text(encoding="utf-8"))


def cut(row: dict) -> int:
    """Columns of a batch in one phase of a block of the grid probes."""
    return min(8 * row["tiles"], math.ceil(row["B"] / row["groups"] / row["phases"]))


def tail(row: dict) -> int:
    return int(8 * row["H"] ** 2 / row["C"] * row["tail"] / row["fragments"])


def expected(family: str) -> list[list[float]]:
    """The rows of a family, from the reference's tables."""
    if family.startswith("cluster"):
        kernel, ways = ("e", (0, 1)) if family.endswith("forward") else ("b", (0,))
        rows = [
            row for row in table("probe-cluster") if row["kernel"] == kernel and row["tiles"] == 1 and row["exchange"] in ways
        ]
        return [[row["B"], row["H"], row["C"], row["columns"], tail(row), row["us"]] for row in rows]
    if family.startswith("grid"):
        rows = [row for row in table("probe-grid") if row["phase"] == family[5] and row["family"] in ("D", "B", "C")]
        if family.endswith("forward"):
            return [[r["B"], r["H"], r["units"], r["tiles"], cut(r), r["phases"], r["us"]] for r in rows]
        return [
            [r["B"], r["H"], r["H"] * r["groups"] // 128, r["tiles"], r["cluster"], cut(r), r["phases"], r["us"]] for r in rows
        ]
    if family.startswith("gemm_step"):  # cuDNN's, which takes a GEMM and a pointwise kernel a step in bfloat16
        rows = [r for r in table("layer-grid") if r["dtype"] == "torch.bfloat16" and r["B"] >= 32 and r["H"] >= 256]
        taken = {"gemm_step_forward": lambda r: r["cudnn_f"], "gemm_step_backward": lambda r: r["cudnn_fb"] - r["cudnn_f"]}
        return [[row["B"], row["H"], row["B"], round(taken[family](row) / row["T"], 4)] for row in rows]
    rows = [row for row in table("layer-grid") if row["plan"].startswith("tensor_step")]
    own = {"tensor_step_forward": lambda r: r["ours_f"], "tensor_step_backward": lambda r: r["ours_fb"] - r["ours_f"]}[family]
    return [[row["B"], row["H"], row["B"], round(own(row) / row["T"], 4)] for row in rows]


@pytest.mark.parametrize("family", model.FAMILIES)
def test_the_measurements_are_the_references(family: str):
    assert model.stored()[family]["rows"] == expected(family)


@pytest.mark.parametrize("family", model.FAMILIES)
def test_a_shape_that_was_left_out_is_predicted(family: str):
    found = fit.fit(family)
    errors = found.errors()
    assert len(errors) == len(model.stored()[family]["rows"]) and len(found.constants) <= len(errors) / 4
    assert statistics.median(errors) <= 0.10 and sum(error <= 0.25 for error in errors) >= 0.9 * len(errors), errors
    assert model.stored()[family] | fit.stored_values(found) == model.stored()[family], "python -m impls.cuda.select.fit"
    assert sum(ratio <= found.bound() for ratio in found.ratios) >= 0.9 * len(errors)


def test_the_errors_are_those_of_the_shape_left_out(monkeypatch):
    """One shape measured twice as slow as it was moves its own errors, which a fit that had seen it would hide."""
    changed = {name: dict(family) for name, family in model.stored().items()}
    rows = [list(row) for row in changed["grid_forward"]["rows"]]
    shape = rows[0][:2]
    changed["grid_forward"]["rows"] = [[*row[:-1], 2 * row[-1]] if row[:2] == shape else row for row in rows]
    monkeypatch.setattr(fit, "stored", lambda: changed)
    moved = [ratio for row, ratio in zip(rows, fit.fit("grid_forward").ratios, strict=True) if row[:2] == shape]
    monkeypatch.undo()
    before = [ratio for row, ratio in zip(rows, fit.fit("grid_forward").ratios, strict=True) if row[:2] == shape]
    assert moved == pytest.approx([2 * ratio for ratio in before])


def test_a_time_says_where_it_is_from():
    known = model.estimate("cluster_forward", hidden=512, cluster=16, columns=3, tail_bytes=0)
    assert (known.microseconds, known.origin) == (0.977, "measured") and known.upper > known.microseconds
    between = model.estimate("cluster_forward", hidden=512, cluster=16, columns=4, tail_bytes=0)
    assert between.origin == "modelled" and between.ranked == between.microseconds
    beyond = model.estimate("cluster_forward", hidden=128, cluster=16, columns=4, tail_bytes=0)
    assert beyond.origin == "extrapolated" and beyond.ranked == beyond.upper
    twice = model.estimate("cluster_forward", scale=2.0, hidden=512, cluster=16, columns=3, tail_bytes=0)
    assert twice.origin == "extrapolated" and twice.microseconds != 2 * known.microseconds
    assert known.times(1) == known and known.times(2).origin == "modelled" and (known + between).origin == "modelled"


def test_no_measured_layer_took_longer_than_its_bound():
    """What a layer takes beside its kernels, from whole layers and the kernels alone (those of 2026-11-26)."""
    kernels = {(row["phase"], row["H"], row["C"], row["N"], row["B"]): row["us"] for row in table("shipped-cuts")}
    seen = 0
    for row in (row for row in table("layer-grid") if row["dtype"] == "torch.bfloat16" and row["plan"].startswith("cluster")):
        forward, backward = (part.split()[1:] for part in row["plan"].removeprefix("cluster, saved: ").split(", "))
        keys = [("f" if i == 0 else "b", row["H"], int(cut[2][1:]), int(cut[3][1:]), row["B"])
                for i, cut in enumerate((forward, backward))]  # fmt: skip
        if any(key not in kernels for key in keys):
            continue
        seen += 1
        hidden, batch = row["H"], row["B"]
        rest = row["ours_f"] / row["T"] - kernels[keys[0]]
        assert rest <= model.rest("forward", hidden, hidden, batch).upper
        rest = row["ours_fb"] / row["T"] - sum(kernels[key] for key in keys)
        assert rest <= model.rest("training", hidden, hidden, batch).upper
    assert seen >= 12


@pytest.mark.parametrize("hidden", [64, 128, 256, 384, 512, 768, 1024, 1536, 2048])
@pytest.mark.parametrize("batch", [1, 8, 32, 64, 128, 256])
def test_the_fastest_of_all_configurations_is_chosen(hidden: int, batch: int):
    plan = choose(hidden, batch, 1, torch.bfloat16, HOPPER)
    for design in ("cluster", "grid", "gemm_step", "tensor_step"):
        if design == "cluster" and hidden > 768:
            continue
        other = choose(hidden, batch, 1, torch.bfloat16, HOPPER, design=design)
        if hidden < 512 and design == "grid":
            assert plan.design != "grid"
            continue
        for chosen, asked, backward in ((plan.forward, other.forward, False), (plan.backward, other.backward, True)):
            assert time(chosen, hidden, batch, backward) <= time(asked, hidden, batch, backward) + 1e-9


def time(shape, hidden: int, batch: int, backward: bool) -> float:
    """By which it is ranked, computed here from the model: the recurrence and what is beside it."""
    if isinstance(shape, TensorSteps):
        return shape.estimate(hidden, batch, backward).ranked  # of whole layers
    if isinstance(shape, GemmSteps):
        return shape.estimate(hidden, batch, 1, backward).ranked  # likewise
    forward, both = (model.rest(phase, hidden, hidden, batch) for phase in ("forward", "training"))
    beside = replace(both, microseconds=both.microseconds - forward.microseconds, upper=both.upper - forward.upper)
    clusters = None if shape.design == "grid" else -(-batch // shape.columns)
    own = shape.estimate(hidden, batch) if clusters is None else shape.estimate(clusters, RESIDENT_CLUSTERS[shape.cluster])
    return (own + (beside if backward else forward)).ranked


def test_per_step_kernels_of_small_layers_take_as_long_as_large():
    small, least = (TensorSteps(BFLOAT16, 1).estimate(hidden, 8, backward=False) for hidden in (64, 1024))
    assert small.microseconds == least.microseconds and (small.origin, least.origin) == ("extrapolated", "measured")


def test_reasons_give_the_times_and_where_they_are_from():
    reason = choose(1024, 8, 1, torch.bfloat16, HOPPER).reason
    assert reason.startswith("least time of an H100; forward ") and " µs a step, m" in reason and "backward" in reason
    assert "resident blocks assumed" in reason
    assert "extrapolated" in choose(256, 8, 1, torch.float32, HOPPER, tf32=True).reason
    assert FORWARD[TENSORFLOAT32] and BACKWARD[TENSORFLOAT32] and GRID[TENSORFLOAT32]
