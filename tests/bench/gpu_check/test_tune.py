"""Autotuning: every configuration is timed, the table is of a device and its sources, and the selector says that it used it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from os import environ
from pathlib import Path

import pytest
import torch

from bench.gpu_check import tune
from bench.gpu_check.device import DeviceContext
from impls import Unavailable
from impls.cuda.emulator import Emulation
from impls.cuda.microbenchmarks import Bench
from impls.cuda.select import PHASES, candidates, choose, tuned
from impls.cuda.select.tuned import Time, describe
from tests.conftest import CACHE

HOPPER = (9, 0)
GPU = "NVIDIA H100 80GB HBM3"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for tables; what is compiled lies in that of all tests."""
    compiled, own = Path(environ[CACHE]) / "emulation", tmp_path / "cache"
    compiled.mkdir(parents=True, exist_ok=True)
    own.mkdir()
    (own / "emulation").symlink_to(compiled)
    monkeypatch.setenv(CACHE, str(own))
    return own


def times_of(hidden: int, batch: int, fastest: int) -> list[Time]:
    """A time for every candidate, the one at place `fastest` the least."""
    found = []
    for phase in PHASES:
        for place, (shape, _) in enumerate(candidates(phase, hidden, batch, 1, tune.STORAGES["bfloat16"], HOPPER)):
            microseconds = 1.0 if place == fastest else 2.0 + place
            found.append(Time(phase, "Bfloat16", hidden, batch, 1, describe(shape), microseconds))
    return found


@pytest.mark.parametrize("hidden", [256, 512, 1024])
def test_the_selector_takes_the_fastest_of_the_table(hidden: int):
    shapes = [[shape for shape, _ in candidates(phase, hidden, 8, 1, tune.STORAGES["bfloat16"], HOPPER)] for phase in PHASES]
    last = min(map(len, shapes)) - 1
    assert last >= 2 and len({describe(shape) for shape in shapes[0]}) == len(shapes[0])
    tuned.write(GPU, times_of(hidden, 8, last))
    plan = choose(hidden, 8, 1, torch.bfloat16, HOPPER, tuned=tuned.read(GPU))
    assert (plan.forward, plan.backward) == (shapes[0][last], shapes[1][last])
    assert plan.reason.startswith("least time measured on this GPU; forward 1.00 µs a step, autotuned")
    other = choose(hidden, 32, 1, torch.bfloat16, HOPPER, tuned=tuned.read(GPU))
    assert other == choose(hidden, 32, 1, torch.bfloat16, HOPPER), "another layer is left to the model"


def test_a_grid_that_was_measured_fastest_is_taken_at_any_size():
    shapes = [shape for shape, _ in candidates("forward", 256, 8, 1, tune.STORAGES["bfloat16"], HOPPER)]
    tuned.write(GPU, times_of(256, 8, next(place for place, shape in enumerate(shapes) if shape.design == "grid")))
    assert choose(256, 8, 1, torch.bfloat16, HOPPER).design == "cluster"
    assert choose(256, 8, 1, torch.bfloat16, HOPPER, tuned=tuned.read(GPU)).design == "grid"


def test_a_table_is_of_its_device_and_keeps_other_layers():
    tuned.write(GPU, times_of(256, 8, 0))
    path = tuned.write(GPU, times_of(512, 8, 0))
    assert len(tuned.read(GPU).times) == 4 and json.loads(path.read_text())["device"] == GPU
    assert tuned.read("NVIDIA H200") == tuned.Table()
    again = [replace(time, microseconds=9.0) for time in times_of(512, 8, 0)[:1]]
    tuned.write(GPU, again)
    assert list(tuned.read(GPU).times[again[0].layer].values()) == [9.0], "the layer's earlier times are gone"


def test_a_table_of_other_sources_is_said_and_not_used(monkeypatch):
    tuned.write(GPU, times_of(256, 8, 1))
    monkeypatch.setattr(tuned, "sources", lambda: "others")
    found = tuned.read(GPU)
    assert not found.times and "of other kernel sources" in found.note
    plan = choose(256, 8, 1, torch.bfloat16, HOPPER, tuned=found)
    assert found.note in plan.reason and plan.forward == choose(256, 8, 1, torch.bfloat16, HOPPER).forward


def test_a_damaged_table_is_said_and_not_used():
    path = tuned.write(GPU, times_of(256, 8, 1))
    path.write_text(path.read_text()[:-40])
    assert "cannot be read (JSONDecodeError)" in tuned.read(GPU).note and not tuned.read(GPU).times


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(CACHE, str(tmp_path / "file"))
    with pytest.raises(Unavailable, match="set LSTM_BENCH_CACHE to a folder that can"):
        tuned.write(GPU, times_of(256, 8, 0))


@pytest.fixture
def context() -> DeviceContext:
    return DeviceContext(Bench(Emulation(), torch.device("cpu")), True, "sm_90a", 3)


def test_every_configuration_of_a_layer_is_timed(context: DeviceContext):
    said: list[str] = []
    times = tune.tune(context, [tune.Layer(64, 2, 2)], 600, said.append)
    for phase in PHASES:
        wanted = {describe(shape) for shape, _ in candidates(phase, 64, 2, 2, tune.STORAGES["bfloat16"], HOPPER)}
        assert {time.configuration for time in times if time.phase == phase} == wanted and len(wanted) > 2
    assert all(time.microseconds > 0 and time.layer[1:] == ("Bfloat16", 64, 2, 2) for time in times)
    assert [line.split()[4] for line in said] == ["forward:", "backward:"] and "configurations measured" in said[0]


def test_what_time_does_not_reach_is_left_to_the_model(context: DeviceContext):
    said: list[str] = []
    times = tune.tune(context, [tune.Layer(64, 1)], 0.0, said.append)
    count = len(candidates("forward", 64, 1, 1, tune.STORAGES["bfloat16"], HOPPER))
    measured = sum(time.phase == "forward" for time in times)
    assert 0 < measured <= tune.TOGETHER - 1 and f"{measured} of {count} configurations measured" in said[0]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    asked = [sys.executable, "-m", "lstm_bench", "gpu-check", *arguments]
    return subprocess.run(asked, capture_output=True, text=True, timeout=300, env=dict(environ))


def test_the_command_writes_the_table_and_says_where():
    done = command("--autotune", "--hidden", "64", "--batch", "1", "--seconds", "1", "--emulate")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[-1]) == tuned.path_of("host emulation") and "EMULATED" in done.stderr
    assert len(tuned.read("host emulation").times) == 2


@pytest.mark.parametrize("arguments, complaint", [
    (["--autotune", "--emulate"], "--autotune needs at least one --hidden and one --batch"),
    (["--autotune", "--emulate", "--hidden", "64", "--batch", "1", "--dtype", "int8"], "no data type 'int8' to autotune for"),
    (["--emulate", "--hidden", "64"], "--hidden and --batch belong to --autotune"),
])  # fmt: skip
def test_what_cannot_be_tuned_is_refused(arguments: list[str], complaint: str):
    done = command(*arguments)
    assert done.returncode == 2 and complaint in done.stderr and len(done.stderr.splitlines()) == 1
