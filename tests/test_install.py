"""`make` picks the build of PyTorch: pip's commands with an NVIDIA driver, without one, and without PyTorch's index."""

from __future__ import annotations

import ctypes
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

import install

ROOT = Path(__file__).parent.parent
SYSTEM = "/usr/bin:/bin"
FROM = "install --quiet --constraint constraints.txt"
EVERYTHING = f"{FROM} --editable .[torch,jax,baselines]"


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What make needs of a checkout, and on PATH a Python whose environments have a pip that only notes its arguments."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "install.py"):
        shutil.copy(ROOT / name, tmp_path)
    script(tmp_path / "pip", f'echo "$@" >> {tmp_path}/calls\n')
    make_environment = f"mkdir -p .venv/bin; cp {tmp_path}/pip .venv/bin/pip; ln -s {sys.executable} .venv/bin/python"
    script(tmp_path / "bin" / "python3", f'if [ "$1" = -m ]; then {make_environment}; fi\n')
    return tmp_path


def made(checkout: Path, index: str, target: str = ".venv/.ready") -> tuple[str, list[str]]:
    """What make printed and what pip was asked for."""
    variables = {"PATH": f"{checkout / 'bin'}:{SYSTEM}", "TORCH_CPU_INDEX": index, "HOME": str(checkout)}
    run = subprocess.run(["make", target], cwd=checkout, env=variables, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout, (checkout / "calls").read_text().splitlines()


@pytest.fixture
def index() -> Iterator[str]:
    """An index on this machine that has a page of torch and no other."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/whl/cpu/torch/" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/whl/cpu"
        server.shutdown()


@pytest.fixture
def no_driver() -> None:
    if sys.platform != "linux":
        pytest.skip("on macOS the configured index has the only build")
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        if shutil.which("nvidia-smi", path=SYSTEM) is None:
            return
    pytest.skip("this machine has an NVIDIA driver")


@pytest.mark.skipif(sys.platform != "linux", reason="NVIDIA's driver is for Linux")
def test_with_a_driver_the_cuda_build_is_installed(checkout: Path, index: str):
    script(checkout / "bin" / "nvidia-smi", "exit 0\n")
    said, calls = made(checkout, index)
    assert calls == [f"{FROM} --editable .[torch,jax,baselines,cuda]", f"install --quiet --no-deps {install.NVRTC}"]
    assert "An NVIDIA driver is here" in said and "about 3 GB" in said


def test_without_a_driver_comes_pytorchs_cpu_build(checkout: Path, index: str, no_driver: None):
    said, calls = made(checkout, index)
    assert calls == [f"{FROM} --no-deps --index-url {index} torch", EVERYTHING]
    assert f"CPU build from {index}: about 200 MB" in said


def test_an_index_that_has_no_torch_is_not_used(checkout: Path, index: str, no_driver: None):
    said, calls = made(checkout, index.removesuffix("/cpu"))
    assert calls == [EVERYTHING] and "did not answer" in said


def test_without_pytorchs_index_the_configured_one_is_used(checkout: Path, no_driver: None):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        started = time.monotonic()
        said, calls = made(checkout, f"http://127.0.0.1:{silent.getsockname()[1]}/whl/cpu")
        assert install.ANSWER_SECONDS <= time.monotonic() - started < install.ANSWER_SECONDS + 15
    assert calls == [EVERYTHING]
    assert "did not answer within 5 s: PyTorch from the configured index" in said
    assert "about 200 MB" in said and "about 3 GB" in said, "how large either is"


def test_the_tools_of_development_come_on_top(checkout: Path, index: str):
    _, calls = made(checkout, index, ".venv/.ready-dev")
    last = [
        f"install --quiet --no-deps {package}" for package in (install.OTAVA, install.NVRTC)[: 1 + (sys.platform == "linux")]
    ]
    assert calls[-1 - len(last) :] == [f"{FROM} --editable .[torch,jax,baselines,cuda,fleet,dev]", *last]
    assert (checkout / ".venv/.ready").exists() and (checkout / ".venv/.ready-dev").exists()


def test_a_failing_pip_ends_make_without_a_ready_mark(checkout: Path, index: str):
    script(checkout / "pip", "exit 3\n")
    variables = {"PATH": f"{checkout / 'bin'}:{SYSTEM}", "TORCH_CPU_INDEX": index, "HOME": str(checkout)}
    run = subprocess.run(["make", ".venv/.ready"], cwd=checkout, env=variables, capture_output=True, timeout=60)
    assert run.returncode and not (checkout / ".venv/.ready").exists()


def test_a_name_that_does_not_resolve_is_no_answer():
    assert not install.answers("http://no-such-host.invalid/whl/cpu")
