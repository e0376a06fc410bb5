"""constraints.txt resolves on PyPI for every platform and Python we name, from wheels, and pins exactly what is installed.

By metadata alone, as uv resolves it for a platform that it does not run on. What this machine has on its disk or in an index of
its own does not count: users do not have it. Skipped only where PyPI does not answer.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from functools import cache
from itertools import product
from pathlib import Path

import pytest
import uv

import install

ROOT = Path(__file__).parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYPI = "https://pypi.org/simple"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
WINDOWS = "x86_64-pc-windows-msvc"  # where stored runs are read
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin")
RUNNING = (*install.EXTRAS, "cuda")  # what `make bench` installs, the last where there is a driver
EVERYTHING = (*RUNNING, "fleet", "dev")
# Each extra alone on one platform for the oldest and the newest Python: with exact pins, part of what resolves resolves.
ALONE = [(), *((extra,) for extra in PROJECT["optional-dependencies"])]
SECONDS = 60.0


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """Versions by name from lines like name==version, comments and extras left out."""
    return {
        canonical(name): version for name, version in re.findall(r"^([\w.-]+)(?:\[.*\])?==([^\s;#]+)", text, flags=re.MULTILINE)
    }


@pytest.fixture(scope="session")
def pypi() -> None:
    try:
        urllib.request.urlopen(f"{PYPI}/uv/", timeout=20).close()
    except (urllib.error.URLError, TimeoutError) as error:
        pytest.skip(f"PyPI's metadata cannot be reached from here: {error}")


@cache
def resolve(extras: tuple[str, ...], platform: str, python: str, constraints: Path = CONSTRAINTS) -> tuple[int, str]:
    """uv's exit status, and the pinned packages or its reason."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    # The system's certificates, which `pypi` trusts too, or pip's where a proxy signs; neither names an index.
    certificates = os.environ.get("PIP_CERT")
    variables = kept | {"MACOSX_DEPLOYMENT_TARGET": "14.0"} | ({"SSL_CERT_FILE": certificates} if certificates else {})
    # asv has no wheel for Linux on aarch64: `make test` needs a C compiler there, `make bench` does not install it.
    built = ["--no-binary", "asv"] if "dev" in extras and platform == "aarch64-manylinux_2_28" else []
    command = [
        uv.find_uv_bin(), "pip", "compile", "pyproject.toml", "--no-config", "--default-index", PYPI,
        "--constraint", constraints, "--only-binary", ":all:", *built, "--python-platform", platform,
        "--python-version", python, "--python", sys.executable, "--no-python-downloads", "--no-header", "--no-annotate",
        "--quiet", "--system-certs", *(f"--extra={extra}" for extra in extras),
    ]  # fmt: skip
    answer = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=SECONDS)
    return answer.returncode, answer.stdout if answer.returncode == 0 else answer.stderr


def assert_resolves_and_is_pinned(extras: tuple[str, ...], platform: str, python: str) -> None:
    status, said = resolve(extras, platform, python)
    assert status == 0, said
    found, pinned = pins(said), pins(CONSTRAINTS.read_text())
    assert "numpy" in found and found.items() <= pinned.items(), found.items() - pinned.items()


@pytest.mark.parametrize("extras", [RUNNING, EVERYTHING], ids=["running", "everything"])
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_it_resolves_from_wheels_and_everything_is_pinned(pypi: None, platform: str, python: str, extras: tuple[str, ...]):
    assert_resolves_and_is_pinned(extras, platform, python)


@pytest.mark.parametrize("python", PYTHONS)
def test_a_bare_installation_resolves_on_windows(pypi: None, python: str):
    assert_resolves_and_is_pinned((), WINDOWS, python)
    assert "colorama" in pins(resolve((), WINDOWS, python)[1]), "as on Windows"


@pytest.mark.parametrize("python", [PYTHONS[0], PYTHONS[-1]])
@pytest.mark.parametrize("extras", ALONE, ids=lambda extras: "+".join(extras) or "bare")
def test_each_extra_resolves_alone(pypi: None, extras: tuple[str, ...], python: str):
    assert_resolves_and_is_pinned(extras, PLATFORMS[0], python)


def test_nothing_is_pinned_that_nothing_installs(pypi: None):
    answers = [resolve(EVERYTHING, *where) for where in product(PLATFORMS, PYTHONS)]
    answers += [resolve((), WINDOWS, python) for python in PYTHONS]
    assert all(status == 0 for status, _ in answers)
    assert set(pins(CONSTRAINTS.read_text())) == {name for _, said in answers for name in pins(said)}


def test_a_pin_that_pytorchs_cuda_build_does_not_allow_is_found(pypi: None, tmp_path: Path):
    """The fault that every user met: NVRTC 13.5, where torch 2.13.0 from PyPI asks for 13.0.88."""
    wrong = tmp_path / "constraints.txt"
    wrong.write_text(re.sub(r"nvidia-cuda-nvrtc==.*", "nvidia-cuda-nvrtc==13.5.37", CONSTRAINTS.read_text()))
    status, said = resolve(("torch",), "x86_64-manylinux_2_28", "3.12", wrong)
    assert status != 0 and "nvidia-cuda-nvrtc" in said


def test_running_needs_no_tools_of_development(pypi: None):
    for platform in PLATFORMS:
        status, said = resolve(RUNNING, platform, "3.12")
        assert status == 0 and not {"asv", "pyright", "pytest", "hypothesis", "ruff", "uv"} & set(pins(said))


def test_a_bare_installation_has_no_framework(pypi: None):
    status, said = resolve((), "x86_64-manylinux_2_28", "3.12")
    assert (
        status == 0
        and not {"torch", "jax", "flax", "onnx", "onnxruntime", "openvino"} & set(pins(said))
        and "numpy" in pins(said)
    )
