"""Windows reads and refuses to measure, macOS measures: here by taking from Linux what they do not have.

What stands for the systems themselves are the jobs of .github/workflows/ci.yml.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.machine import doctor, environment, lock
from bench.machine import system as machine_system
from bench.processes import process
from bench.processes.code import ROOT
from bench.worker import memory
from lstm_bench import errors
from lstm_bench.errors import ExitCode
from results import store

HERE = Path(__file__).parent
NEEDS = """import fcntl
import resource
import os; os.sched_getaffinity(0)
import os; os.killpg
import os; os.uname()
import signal; signal.SIGKILL
import signal; signal.SIGHUP
import select; select.poll
import mmap; mmap.PROT_EXEC
open('/proc/stat')
from pathlib import Path; Path('/proc/cpuinfo').read_text()"""


def python(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=250,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
    )  # fmt: skip


def test_as_on_windows_stored_runs_are_read_not_measured():
    answer = python(str(HERE / "as_on_windows.py"))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stdout.count(machine_system.WHAT_TO_DO) == 12 and "doctor: exit code 0" in answer.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="asks first for what Linux has")
@pytest.mark.parametrize("needs", NEEDS.splitlines())
def test_a_module_that_needs_what_windows_lacks_is_found(tmp_path: Path, needs: str):
    (tmp_path / "needs.py").write_text(f"{needs}\n", encoding="utf-8")
    program = (
        f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
        f"import reading, taken_away, results; results.__path__.append({str(tmp_path)!r})\n"
        "reading.OURS = ('results',)\n"
        "assert not reading.import_all()\n"
        "[sys.modules.pop(name) for name in list(sys.modules) if name.startswith('results.')]\n"
        "taken_away.as_on_windows(); print(*reading.import_all())"
    )
    answer = python("-c", program)
    assert answer.returncode == 0 and "results.needs does not import" in answer.stdout, answer.stdout + answer.stderr


def test_starting_processes_and_taking_locks_refuse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Whoever does not come by the command line."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(machine_system, "MEASURES", False)
    with pytest.raises(machine_system.UnsupportedSystem, match="use WSL2"):
        process.WorkerProcess("numpy", (0,), tmp_path)
    with pytest.raises(machine_system.UnsupportedSystem), lock.device_lock("cpu", tmp_path):
        pass
    with pytest.raises(machine_system.UnsupportedSystem) as refused:
        environment.describe(1)
    assert errors.exit_code_of(refused.value) == ExitCode.USAGE
    assert {finding.detail for finding in doctor.examine() if not finding.runs} == {machine_system.WHAT_TO_DO}
    assert not list(tmp_path.iterdir())


def test_without_what_macos_lacks_a_suite_is_measured(tmp_path: Path):
    """The commands and their workers; what needs /proc is skipped with a reason."""
    path = os.pathsep.join([str(HERE / "macos"), str(ROOT)])
    common = ("-m", "lstm_bench", "run")
    for arguments in (("smoke", "--threads", "1"), ("memory",)):
        answer = python(
            *common, *arguments, "--backend", "numpy", "--out", str(tmp_path / arguments[0]),
            PYTHONPATH=path, TMPDIR=str(tmp_path),
        )  # fmt: skip
        assert answer.returncode == 0, answer.stderr
    (timed,), (space,) = (store.find(tmp_path / name) for name in ("smoke", "memory"))
    records = [record for record in store.read(timed).records if record.backend == "numpy"]
    assert {record.status for record in records} == {"ok"} and len(records) == 3
    assert all(record.conditions["load_average"] >= 0 and record.conditions["host_peak_bytes"] for record in records)
    assert not any("stolen_share" in record.conditions for record in records), "there is no /proc/stat"
    reasons = {record.reason for record in store.read(space).records if record.backend == "numpy"}
    assert reasons == {"peak resident memory needs Linux: /proc/self/clear_refs is not there"}
    assert store.header_of(timed).environment["cpu"]["governor"] == "not exposed"


def test_peak_memory_is_bytes_on_macos_and_kib_elsewhere(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "Path", lambda name: Path("/nowhere") / name.lstrip("/"))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    monkeypatch.setattr(resource, "getrusage", lambda who: type("Usage", (), {"ru_maxrss": most}))
    assert memory.host_peak() == 1024 * most
    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory.host_peak() == most


@pytest.mark.parametrize("ended", [True, False])
def test_killing_an_ended_group_may_be_not_permitted(monkeypatch: pytest.MonkeyPatch, ended: bool):
    """As macOS says with EPERM, where Linux says nothing; of a worker that is alive it is an error."""

    def killpg(group: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    worker = process.WorkerProcess.__new__(process.WorkerProcess)
    worker._process = SimpleNamespace(pid=1, returncode=None, poll=lambda: 0 if ended else None)  # type: ignore[assignment]
    monkeypatch.setattr(os, "killpg", killpg)
    monkeypatch.setattr(process, "_supervised", list)  # as on macOS
    with contextlib.nullcontext() if ended else pytest.raises(PermissionError):
        worker.end()


def test_apples_processors_are_told_apart(monkeypatch: pytest.MonkeyPatch):
    """By what sysctl says, as Python's `platform` calls each of them `arm`."""

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command == ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.CompletedProcess(command, 0, "Apple M2 Pro\n", "")

    monkeypatch.setattr(environment, "_read", lambda path: "")
    monkeypatch.setattr(environment.subprocess, "run", run)
    monkeypatch.setattr(environment.platform, "processor", lambda: "arm")
    assert environment.cpu_model() == "arm"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert environment.cpu_model() == "Apple M2 Pro"
    described = {"cpu": {"model": "Apple M2 Pro", "cores": 10}, "gpus": [], "memory_bytes": 1 << 34}
    assert environment.machine_name(described).startswith("apple-m2-pro-10c-")


def test_pyright_finds_what_is_not_on_windows(tmp_path: Path):
    """`make check` has it look at our code as on Windows and on macOS; here it is shown to bite."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for system in ("Windows", "Darwin"):
        assert f"--pythonplatform {system}" in makefile
    changed = (
        (ROOT / "bench/processes/process.py").read_text(encoding="utf-8").replace('if sys.platform == "win32":', "if False:")
    )
    (tmp_path / "changed.py").write_text(changed, encoding="utf-8")
    said = python("-m", "pyright", "--pythonplatform", "Windows", "--outputjson", str(tmp_path / "changed.py"))
    messages = [found["message"] for found in json.loads(said.stdout)["generalDiagnostics"]]
    assert any("killpg" in message for message in messages) and said.returncode == 1
