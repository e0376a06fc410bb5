"""Runs a launch on the CPU: the kernel's own source, built by g++ against the host body of device.cuh (device_host.hpp)."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from torch import Tensor

from impls import Unavailable
from impls.cuda.runtime import FOLDER, Kernel, Launch
from impls.cuda.runtime.compile import Artifacts

COMPILER = "g++"
OPTIONS = ("-std=c++20", "-O2", "-fPIC", "-fvisibility=hidden")
EMULATOR = Path(__file__).parent
RUNTIME = (EMULATOR / "emulation.cpp", EMULATOR / "emulation_memory.cpp")
HEADERS = (
    *(FOLDER / name for name in ("device.cuh", "lstm_pointwise.cuh", "storage.cuh", "exact.cuh", "grid.cuh")),
    *(EMULATOR / name for name in ("device_host.hpp", "emulation.hpp")),
)
INCLUDE = (f"-I{FOLDER}", f"-I{EMULATOR}")


class RuleBroken(AssertionError):
    """The kernel broke a rule of device.cuh: an unordered read, a deadlock, an access outside of its arrays."""


@dataclass(slots=True)
class Emulation:
    """A launcher for tensors on the CPU. `seed` decides the order in which fibers run and sends land."""

    seed: int = 0

    def __call__(self, launch: Launch) -> None:
        kernel = launch.kernel
        run(launch, library(kernel.text(), tuple(kernel.options())), self.seed)


def run(launch: Launch, path: Path, seed: int) -> None:
    """Run the launch with the kernel built at `path`. Raises `RuleBroken`."""
    emulate = _load(path)
    ranges = [bound for tensor in launch.reads for bound in _range(tensor, writable=False)]
    ranges += [bound for tensor in launch.writes for bound in _range(tensor, writable=True)]
    kernel = launch.kernel
    together = launch.grid[0] if kernel.cooperative else kernel.cluster_blocks
    complaint = emulate(
        (ctypes.c_int * 3)(*launch.grid), together, kernel.threads, kernel.shared_bytes, ctypes.c_uint64(seed),
        ctypes.byref(launch.arguments), (ctypes.c_int64 * len(ranges))(*ranges), len(ranges) // 3,
    )  # fmt: skip
    if complaint is not None:
        raise RuleBroken(f"{kernel.function}: {complaint.decode()}")


def _range(tensor: Tensor, writable: bool) -> tuple[int, int, int]:
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.data_ptr() + storage.nbytes(), int(writable)


@cache
def _load(path: Path):
    emulate = ctypes.CDLL(str(path)).emulate
    emulate.restype = ctypes.c_char_p
    return emulate


@cache
def library(text: str, options: tuple[str, ...]) -> Path:
    """The shared library of a kernel source (as text, so that tests can change it), built at most once."""
    inputs = [
        text,
        *options,
        *OPTIONS,
        compiler_version(),
        *(path.read_text(encoding="utf-8") for path in (*HEADERS, *RUNTIME)),
    ]
    return Artifacts().get("emulation", inputs, ".so", lambda: _build(text, options))


def _build(text: str, options: tuple[str, ...]) -> bytes:
    runtime = []
    for part in RUNTIME:
        inputs = [part.name, *OPTIONS, compiler_version(), *(path.read_text(encoding="utf-8") for path in (*HEADERS, part))]
        runtime.append(Artifacts().get("emulation", inputs, ".o", lambda part=part: _compile_runtime(part)))
    with tempfile.TemporaryDirectory() as folder:
        source, built = Path(folder) / "kernel.cpp", Path(folder) / "kernel.so"
        source.write_text(text, encoding="utf-8")
        objects = [str(path) for path in runtime]
        _gcc("-shared", *INCLUDE, *options, "-o", str(built), str(source), *objects)
        return built.read_bytes()


def _compile_runtime(part: Path) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "runtime.o"
        _gcc("-c", *INCLUDE, "-o", str(built), str(part))
        return built.read_bytes()


def _gcc(*arguments: str) -> None:
    done = subprocess.run([COMPILER, *OPTIONS, *arguments], capture_output=True, encoding="utf-8")
    if done.returncode:
        raise RuntimeError(f"{COMPILER} could not build the emulation:\n{done.stderr}")


@cache
def compiler_version() -> str:
    if shutil.which(COMPILER) is None:
        raise Unavailable(f"the emulation of the CUDA kernels needs {COMPILER}; install it, or use a tensor on a GPU")
    return subprocess.run([COMPILER, "--version"], capture_output=True, encoding="utf-8", check=True).stdout.splitlines()[0]


def build(kernel: Kernel) -> Path:
    return library(kernel.text(), tuple(kernel.options()))
