"""Ctrl-C on the real command: soon over, and a sentence of what was kept and how to go on."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from results import store

LONGEST = 5.0  # seconds; a sample takes at most half a second, and the machine may be busy


def start(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "lstm_bench", *map(str, arguments)]
    variables = os.environ | {"TMPDIR": str(folder)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)


def interrupt(running: subprocess.Popen[str]) -> str:
    """What it still says after Ctrl-C, which ends it soon."""
    began = time.monotonic()
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert time.monotonic() - began < LONGEST
    assert running.returncode == 130 and "Traceback" not in said
    return said


@pytest.mark.parametrize("asked", [
    ("throughput", "--scale", "cpu", "--where", "phase=forward"), ("horizon", "--scale", "cpu", "--where", "task=recall"),
], ids=["between samples", "between steps of a training"])  # fmt: skip
def test_an_interrupted_run_names_what_it_kept_and_how_to_resume(tmp_path: Path, asked: tuple[str, ...]):
    out = tmp_path / "with a space"
    running = start(tmp_path, "run", *asked, "--backend", "numpy", "--threads", 1, "--out", out)
    assert running.stderr is not None
    for line in running.stderr:
        if "overhead" in line:  # the first outcomes are on disk, and what the run is for has begun
            break
    time.sleep(2.0)
    said = interrupt(running)
    (path,) = store.find(out)
    kept = len(store.read(path).records)
    assert kept and f"interrupted; {kept} outcome{'s'[: kept != 1]} kept in {path}\n" in said
    found = re.search(r"^finish it with: lstm-bench (run --resume --out .*)$", said, re.MULTILINE)
    assert found is not None and shlex.split(found[1])[-1] == str(out)
    again = start(tmp_path, *shlex.split(found[1]))
    assert again.stderr is not None
    line = again.stderr.readline()
    if line.startswith("noisy machine"):
        line = again.stderr.readline()
    assert re.match(rf"\[|predicted|interrupted|{re.escape(str(path))}", line), "it goes on"
    interrupt(again)
    assert store.find(out) == [path], "the same run goes on"


def test_an_interrupted_comparison_says_what_it_kept(tmp_path: Path):
    out = tmp_path / "with a space"
    sides = ("compare", "backend:numpy", "backend:numpy", "--suite", "cpu", "--where", "phase=step", "--no-memory")
    running = start(tmp_path, *sides, "--threads", 1, "--out", out)
    assert running.stderr is not None
    while "step" not in running.stderr.readline():  # the outcomes of the first pair are on disk
        assert running.poll() is None
    said = interrupt(running)
    base, new = (store.read(path) for path in store.find(out))
    assert not base.finished and not new.finished and abs(len(base.records) - len(new.records)) <= 1
    kept = len(base.records)
    assert f"interrupted; {kept} outcome{'s'[: kept != 1]} kept in {base.path}\n" in said
    found = re.search(r"^finish it with: lstm-bench (compare .* --resume)$", said, re.MULTILINE)
    assert found is not None
    again = start(tmp_path, *shlex.split(found[1]))
    assert again.stderr is not None
    while "step" not in (line := again.stderr.readline()):
        assert line, "it goes on"
    interrupt(again)
    assert store.find(out) == [base.path, new.path] and len(store.read(base.path).records) > kept
