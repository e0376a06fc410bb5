"""Files that were changed at random: an error with the file's name or the good rest, and never a traceback."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from analysis.regression import calibration
from analysis.report import export, load, summary
from analysis.report import page as report
from bench.studies.quality import training
from lstm_bench import errors
from lstm_bench.errors import ExitCode
from results import pytest_benchmark, store
from tests.faults.dose import is_full

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "results/runs/2026-11-22/intel-xeon-2c-0833fe/111709-quick.jsonl"
PER_KIND = 250 if is_full() else 40  # four kinds make a thousand
WRONG_VALUES = (
    None, True, -1, 0, 1e999, float("nan"), "", "x", "NaN", [], {}, [[]], {"a": None}, 10**400, -0.5, "\ud800", [None], "é" * 9,
)  # fmt: skip


def flipped(content: bytes, drawn: random.Random) -> bytes:
    place = drawn.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << drawn.randrange(8))]) + content[place + 1 :]


def cut(content: bytes, drawn: random.Random) -> bytes:
    return content[: drawn.randrange(len(content))]


def doubled(content: bytes, drawn: random.Random) -> bytes:
    start = drawn.randrange(len(content))
    end = min(len(content), start + drawn.randrange(1, 400))
    return content[:end] + content[start:]


def shuffled(content: bytes, drawn: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    drawn.shuffle(lines)
    return b"".join(lines)


def noise(content: bytes, drawn: random.Random) -> bytes:
    place = drawn.randrange(len(content))
    return content[:place] + drawn.randbytes(drawn.randrange(1, 40)) + content[place:]


def revalued(content: bytes, drawn: random.Random) -> bytes:
    """A value somewhere in a line of JSON, or a key, becomes another, or goes."""
    lines = content.decode().splitlines()
    whole = len(lines) > 1 and lines[0].startswith("{") and lines[0].endswith("}")
    place = drawn.randrange(len(lines)) if whole else 0
    value = json.loads(lines[place] if whole else content)
    holder = value
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            break
        key = drawn.choice(keys)
        inner = holder[key]
        if isinstance(inner, dict | list) and inner and drawn.random() < 0.7:
            holder = inner
            continue
        if drawn.random() < 0.3:
            del holder[key]
        else:
            holder[key] = drawn.choice(WRONG_VALUES)
        break
    if not whole:
        return json.dumps(value).encode()
    lines[place] = json.dumps(value)
    return ("\n".join(lines) + "\n").encode()


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (flipped, cut, doubled, shuffled, noise, revalued, revalued)


def a_run(folder: Path) -> bytes:
    """The header, some records of each kind and the footer of a real run."""
    first, *lines, last = SOURCE.read_bytes().splitlines()
    return b"\n".join([first, *lines[:6], *lines[40:50], last]) + b"\n"


def read_run(path: Path) -> None:
    run = store.read(path)
    summary.rows([path])
    summary.values([path])
    export.export([path], path.with_suffix(".csv"))
    export.samples([path])
    load.load([path])
    calibration.newest_for(path.parent, run.header)
    if is_full():
        report.build([path], path.parent / "report")


def a_calibration(folder: Path) -> bytes:
    case = dict.fromkeys(
        ("spread", "worst", "bias", "floor", "false_alarms", "confirmed_false_alarms", "detectable", "seconds_per_pair"), 0.01
    )
    return json.dumps({
        "machine": "m", "protocol": 2, "threads": 2, "suite": "quick", "made": "2026-11-22T10:00:00+00:00",
        "location": "median", "within": {"median": 0.9}, "repeats": {"median": 0.01},
        "alarms": {"cases": 1, "pairs": 20, "suites": 300, "looked": 0.1, "confirmed": 0.0, "certified": 0.0},
        "cases": [{"study": "throughput", "case": f"c{n}", "backend": "numpy", "pairs": 20, "pairs_wanted": None} | case
                  for n in range(3)],
    }).encode()  # fmt: skip


def read_calibration(path: Path) -> None:
    found = calibration.read(path)
    assert found.sentence
    for key in found.cases:
        found.rule(key)


def an_import(folder: Path) -> bytes:
    stats = {"data": [0.1, 0.2, 0.3], "median": 0.2, "rounds": 3}
    return json.dumps({
        "commit_info": {"id": "a" * 40, "time": "2026-11-22T10:00:00", "dirty": False}, "datetime": "2026-11-22T10:00:00",
        "machine_info": {"node": "n", "processor": "p", "machine": "x86_64", "system": "Linux", "release": "6",
                         "python_version": "3.11", "cpu": {"brand_raw": "CPU", "count": 2}},
        "version": "5.1", "benchmarks": [{"fullname": f"test_{n}", "stats": stats, "params": {"n": n}} for n in range(3)],
    }).encode()  # fmt: skip


def read_import(path: Path) -> None:
    stored = pytest_benchmark.write(pytest_benchmark.read(path), path.parent / "history")
    if stored is not None:
        read_run(stored)


CONFIGURATION = {"cell": "lstm", "updates": 6}


def a_checkpoint(folder: Path) -> bytes:
    path = folder / "whole.pt"
    training.save(path, CONFIGURATION, {"weights": torch.arange(12.0), "losses": [1.0, 0.5], "step": 3})
    return path.read_bytes()


def read_checkpoint(path: Path) -> None:
    state = training.load(path, CONFIGURATION)
    assert torch.equal(state["weights"], torch.arange(12.0)) and state["losses"] == [1.0, 0.5], "another state was loaded"


KINDS = {
    "run": (a_run, read_run, ".jsonl"), "certificate": (a_calibration, read_calibration, calibration.SUFFIX),
    "import": (an_import, read_import, ".json"), "checkpoint": (a_checkpoint, read_checkpoint, ".pt"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(900)
def test_no_traceback_reaches_the_user(tmp_path, kind):
    made, read, suffix = KINDS[kind]
    content, drawn = made(tmp_path), random.Random(kind)
    felt = 0  # refused, or read without some of its lines
    mutations = [one for one in MUTATIONS if kind != "checkpoint" or one is not revalued]
    (tmp_path / f"right{suffix}").write_bytes(content)
    read(tmp_path / f"right{suffix}")
    for number in range(PER_KIND):
        mutation = mutations[number % len(mutations)]
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / f"120000-mutated{suffix}"
        path.write_bytes(mutation(content, drawn))
        try:
            with warnings.catch_warnings(record=True, category=store.DamagedLine) as said:
                warnings.simplefilter("always", store.DamagedLine)
                read(path)
            felt += bool(said)
        except Exception as error:
            felt += 1
            known = isinstance(error, training.BadCheckpoint) or errors.exit_code_of(error) != ExitCode.DEFECT
            assert known, f"{mutation.__name__} {number}: {path}"
            assert str(path) in str(error) or path.name in str(error), error
    assert felt > PER_KIND / 4, "the mutations are felt"


def test_any_flipped_bit_of_a_checkpoint_is_found(tmp_path):
    content = a_checkpoint(tmp_path)
    bits = range(len(content) * 8) if is_full() else random.Random(0).sample(range(len(content) * 8), 300)
    path = tmp_path / "flipped.pt"
    for bit in bits:
        path.write_bytes(content[: bit // 8] + bytes([content[bit // 8] ^ (1 << bit % 8)]) + content[bit // 8 + 1 :])
        with pytest.raises(training.BadCheckpoint, match=r"flipped\.pt"):
            training.load(path, CONFIGURATION)


def test_repeated_outcomes_count_once_and_are_named(tmp_path):
    lines = a_run(tmp_path).splitlines(keepends=True)
    path = tmp_path / "twice.jsonl"
    path.write_bytes(b"".join([*lines[:4], lines[3], *lines[4:]]))
    with pytest.warns(store.DamagedLine, match="line 5 skipped: it repeats an outcome"):
        run = store.read(path)
    assert run.damaged == (5,) and len({record.task for record in run.records}) == len(run.records)
