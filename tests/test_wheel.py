"""What `pip install .` brings: the wheel has every file that running needs and nothing else, and works without a framework.

Run from where the wheel is unpacked, in a folder of a user's that has files named as our packages are. That its dependencies
resolve is tests/test_constraints.py's to show.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from bench.machine import environment
from bench.processes.code import ROOT
from results import store

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WHEEL = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
FRAMEWORKS = (
    "torch",
    "jax",
    "jaxlib",
    "flax",
    "onnx",
    "onnxruntime",
    "openvino",
    "cuda",
    "triton",
    "asv",
    "otava",
    "pytest",
    "hypothesis",
)
# Python imports it when a command or a worker starts: what is installed here, but for frameworks and tools of development.
HIDE = f"""
import importlib.machinery
usual = importlib.machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in {FRAMEWORKS!r} else usual(name, path, target)
importlib.machinery.PathFinder.find_spec = find_spec
"""


def pip(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    return subprocess.run(command, env=os.environ | variables, capture_output=True, encoding="utf-8", timeout=120)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built as pip builds it, with the build backend in a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    fetched = pip("install", "--target", folder / "backend", *PROJECT["build-system"]["requires"])
    if fetched.returncode:
        pytest.skip(f"pip cannot get {PROJECT['build-system']['requires']} here: {fetched.stderr.strip()[-300:]}")
    backend = str(folder / "backend")
    built = pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT, PYTHONPATH=backend)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def unpacked(wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site-packages")
    wheel.extractall(folder)
    (folder / "sitecustomize.py").write_text(HIDE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder, whose own `results` and `analysis` end whatever imports them."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "results").mkdir()
    for name in ("results/__init__.py", "analysis.py"):
        (folder / name).write_text("raise SystemExit('the file of the user was imported')\n", encoding="utf-8")
    return folder


def lstm_bench(unpacked: Path, mine: Path, *arguments: str) -> str:
    """A command as the console script starts it; what it prints."""
    start = "import sys; from lstm_bench.__main__ import main; sys.exit(main())"
    variables = {name: value for name, value in os.environ.items() if name != store.FOLDER_VARIABLE}
    answer = subprocess.run(
        [sys.executable, "-P", "-c", start, *arguments], cwd=mine, capture_output=True, encoding="utf-8", timeout=200,
        env=variables | {"PYTHONPATH": str(unpacked), "TMPDIR": str(unpacked.parent)},
    )  # fmt: skip
    assert answer.returncode == 0 and "Traceback" not in answer.stderr, answer.stderr
    return answer.stdout


def test_the_wheel_has_exactly_the_packages_files(wheel: zipfile.ZipFile):
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *WHEEL["packages"]],
        cwd=ROOT, capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    assert sorted(WHEEL["exclude"]) == sorted(f"results/{folder}" for folder in environment.MEASURED)
    data = tuple(f"{folder}/" for folder in WHEEL["exclude"])
    wanted = {name for name in filter(None, listed.stdout.split("\0")) if not name.startswith(data) and (ROOT / name).exists()}
    found = {name for name in wheel.namelist() if not name.startswith(f"lstm_bench-{PROJECT['project']['version']}.dist-info/")}
    assert found == wanted
    endings = {Path(name).suffix for name in found}
    assert {".py", ".j2", ".css", ".js", ".cuh", ".typed"} <= endings and ".jsonl" not in endings
    assert not [name for name in found if name.startswith("tests/")]
    assert sum(file.file_size for file in wheel.filelist) < 5 << 20, "the page says how little this is"


def test_it_says_what_it_is(wheel: zipfile.ZipFile):
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    said = wheel.read(name).decode()
    assert "License-Expression: Apache-2.0" in said and "Requires-Python: >=3.11" in said
    assert {line.removeprefix("Provides-Extra: ") for line in said.splitlines() if line.startswith("Provides-Extra: ")} == set(
        PROJECT["project"]["optional-dependencies"]
    )
    (scripts,) = [name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt")]
    assert wheel.read(scripts).decode().split() == ["[console_scripts]", "lstm-bench", "=", "lstm_bench.__main__:main"]


def test_without_a_framework_numpy_is_measured_and_reported(unpacked: Path, mine: Path):
    program = "from lstm_bench import import_paths; print(import_paths.HOME)"
    place = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env=os.environ | {"PYTHONPATH": str(unpacked)},
        capture_output=True,
        encoding="utf-8",
    )
    assert place.stdout == f"{unpacked.resolve()}\n", "what is run is the wheel's"
    assert lstm_bench(unpacked, mine, "--version") == f"lstm-bench {PROJECT['project']['version']}\n"
    for name in ("smoke", "throughput", "torch"):
        assert name in lstm_bench(unpacked, mine, "list")
    assert "numpy" in lstm_bench(unpacked, mine, "doctor", "--json")
    printed = lstm_bench(unpacked, mine, "run", "smoke", "--threads", "1")
    (path,) = store.find(mine / "results" / "runs")
    assert printed == f"{path.relative_to(mine)}\n"
    run = store.read(path)
    states = {(record.backend, record.status) for record in run.records if record.study == "throughput"}
    assert ("numpy", "ok") in states and not any(status == "failed" for _, status in states)
    assert ("torch", "skipped") in states and ("jax", "skipped") in states, "no framework was there"
    assert "numpy" in lstm_bench(unpacked, mine, "show")
    assert lstm_bench(unpacked, mine, "report") == f"{Path('report') / 'report.html'}\n"
    page = (mine / "report" / "report.html").read_text(encoding="utf-8")
    for name in ("report.css", "report.js"):
        text = (unpacked / "analysis" / "report" / "templates" / name).read_text(encoding="utf-8")
        assert text.strip() in page, f"{name} is in the page"
    for name in ("templates/explore.js", "vendor/plot.js"):  # for a page of several backends
        assert (unpacked / "analysis" / "report" / name).read_bytes() == (ROOT / "analysis" / "report" / name).read_bytes()
    assert not list((unpacked / "results").glob("runs")), "nothing is written beside the code"
