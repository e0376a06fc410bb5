"""One run at a time: a second is refused with the way to wait, or waits until the first has ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.machine import lock
from bench.machine.lock import DeviceBusy, Policy, device_lock

HOLDS = """
import sys, time
from pathlib import Path
from bench.machine.lock import device_lock
with device_lock("cpu", Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@contextmanager
def holder(folder: Path, seconds: float) -> Iterator[int]:
    """Another process that holds the lock for so long."""
    running = subprocess.Popen([sys.executable, "-c", HOLDS, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None and running.stdout.readline() == "held\n"
        yield running.pid
    finally:
        running.kill()
        running.communicate()


def test_the_refusal_names_who_holds_it_and_how_to_wait(tmp_path: Path):
    with holder(tmp_path, 60) as pid, pytest.raises(DeviceBusy, match=rf"process {pid}: -c .* with --wait"):
        with device_lock("cpu", tmp_path):
            raise AssertionError("both hold it")
    with device_lock("cpu", tmp_path):
        pass


def test_who_waits_is_told_once_and_goes_on_afterwards(tmp_path: Path):
    said: list[str] = []
    with holder(tmp_path, 1.5) as pid, lock.policy(Policy(on_busy=said.append)):
        started = time.monotonic()
        with device_lock("cpu", tmp_path):
            assert time.monotonic() - started > 0.5
            assert f"{os.getpid()} " in (tmp_path / "lstm-bench-cpu.lock").read_text()
    (sentence,) = said
    assert f"process {pid}" in sentence and "waiting until it ends" in sentence


def test_the_machine_is_reported_once_the_device_is_ours(tmp_path: Path):
    order: list[str] = []
    with holder(tmp_path, 1.0), lock.policy(Policy(lambda _: order.append("busy"), lambda: order.append("ours"))):
        with device_lock("cpu", tmp_path), device_lock("cpu", tmp_path, inner=True):
            order.append("measuring")
    assert order == ["busy", "ours", "measuring"]


@pytest.mark.parametrize("command", [
    ("run", "smoke", "--backend", "numpy"), ("run", "smoke", "--backend", "numpy", "--resume"),
    ("compare", "backend:numpy", "backend:numpy", "--suite", "smoke"), ("track", "HEAD", "--suite", "smoke"),
    ("bisect", "HEAD~1", "HEAD", "--suite", "smoke"), ("calibrate", "--suite", "smoke"), ("gpu-check", "--emulate"),
], ids=" ".join)  # fmt: skip
def test_every_measuring_command_waits_and_can_be_interrupted(command: tuple[str, ...], tmp_path: Path):
    variables = os.environ | {lock.FOLDER_VARIABLE: str(tmp_path)}
    out = tmp_path / "out"
    if "--resume" in command:  # the header alone of a run that was interrupted
        run = subprocess.run(
            [sys.executable, "-c", UNFINISHED, str(out)], env=variables, capture_output=True, text=True, timeout=60
        )
        assert run.returncode == 0, run.stderr
    before = sorted(out.rglob("*.jsonl"))
    with holder(tmp_path, 120) as pid:
        arguments = [sys.executable, "-m", "lstm_bench", *command, "--out", str(out), "--wait"]
        running = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)
        assert running.stderr is not None
        said = ""
        while "waiting until it ends" not in said:
            line = running.stderr.readline()
            assert line, said
            said += line
        assert f"process {pid}" in line
        began = time.monotonic()
        running.send_signal(signal.SIGINT)
        _, rest = running.communicate(timeout=30)
        assert time.monotonic() - began < 5 and running.returncode == 130
    assert "Traceback" not in rest and "waiting" not in rest and "noisy machine" not in rest
    assert rest.startswith("interrupted") and f"lstm-bench {command[0]}" in rest and rest.rstrip().endswith("--wait")
    assert sorted(out.rglob("*.jsonl")) == before, "nothing was begun"


UNFINISHED = """
import sys
from pathlib import Path
from bench.harness import plan
from bench.machine import environment
from results import store
from results.record import Header
chosen = plan.make("smoke", ["numpy"])
described = environment.describe(chosen.threads)
named = "120000-smoke", "2026-01-01T00:00:00+00:00", environment.PROTOCOL, environment.machine_name(described)
header = Header(*named, described, chosen.to_dict())
store.create(Path(sys.argv[1]), header).close()
"""


def test_a_run_that_waits_measures_when_the_other_has_ended(tmp_path: Path):
    with holder(tmp_path, 4):
        command = ["run", "smoke", "--backend", "numpy", "--where", "phase=step", "--out", str(tmp_path / "out"), "--wait"]
        answer = subprocess.run(
            [sys.executable, "-m", "lstm_bench", *command], capture_output=True, text=True, timeout=120,
            env=os.environ | {lock.FOLDER_VARIABLE: str(tmp_path)},
        )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr.count("waiting until it ends") == 1 and Path(answer.stdout.strip()).is_file()


def test_the_lock_of_another_user_can_be_taken(tmp_path: Path):
    """Whoever comes first makes the file, under any umask, and every other user must be able to open it."""
    umask = os.umask(0o077)
    try:
        with device_lock("cpu", tmp_path):
            assert (tmp_path / "lstm-bench-cpu.lock").stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(umask)


def a_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def a_hard_link(path: Path, victim: Path) -> None:
    path.hardlink_to(victim)


def somebody_elses_file(path: Path, victim: Path) -> None:
    path.write_bytes(victim.read_bytes())


def a_pipe(path: Path, victim: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("put", [a_link, a_hard_link, somebody_elses_file, a_pipe], ids=lambda put: put.__name__)
def test_what_is_not_our_lock_is_named_and_not_touched(tmp_path: Path, put):
    victim, path = tmp_path / "precious", tmp_path / "lstm-bench-cpu.lock"
    victim.write_text("my thesis\n")
    put(path, victim)
    with (
        pytest.raises(lock.NotOurs, match=r"lstm-bench-cpu\.lock is (a symbolic link|not lstm-bench's lock)"),
        lock.device_lock("cpu", tmp_path),
    ):
        pass
    assert victim.read_text() == "my thesis\n"


def test_the_lock_is_in_one_place_whatever_tmpdir_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv(lock.FOLDER_VARIABLE, str(tmp_path))
    assert lock.FOLDER == "/tmp"
    with lock.device_lock("cpu"):
        assert (tmp_path / "lstm-bench-cpu.lock").is_file(), "where LSTM_BENCH_LOCKS says"
    monkeypatch.delenv(lock.FOLDER_VARIABLE)
    monkeypatch.setattr(lock, "FOLDER", str(tmp_path / "common"))
    (tmp_path / "common").mkdir()
    with lock.device_lock("cpu"):
        assert (tmp_path / "common" / "lstm-bench-cpu.lock").is_file()


def test_a_folder_that_takes_no_lock_is_named_with_the_way_out(tmp_path: Path):
    with (
        pytest.raises(lock.NotOurs, match=r"cannot open the lock .*absent.*LSTM_BENCH_LOCKS"),
        device_lock("cpu", tmp_path / "absent"),
    ):
        pass


@pytest.mark.parametrize("content", [b"", b"123\n", b"4711 lstm-bench run quick\n", b"99 x"])
def test_what_an_earlier_run_left_in_the_lock_is_harmless(tmp_path: Path, content: bytes):
    path = tmp_path / "lstm-bench-cpu.lock"
    path.write_bytes(content)
    with lock.device_lock("cpu", tmp_path):
        assert path.read_bytes().startswith(f"{os.getpid()} ".encode())
