"""Compilation by NVRTC, and compiled files kept on disk."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import sys
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from impls import Unavailable
from impls.cuda.runtime import FOLDER, HEADERS, Kernel

# Compiled files on disk, named by the hash of all that went into them; safe under several processes.
#
# Beside each file lies the hash of its content; a file that was cut short or changed is built again.

VARIABLE = "LSTM_BENCH_CACHE"
Answer = TypeVar("Answer")


def folder() -> Path:
    """$LSTM_BENCH_CACHE, else the platform's cache folder."""
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "lstm-bench"


@dataclass(frozen=True, slots=True)
class Artifacts:
    root: Path = field(default_factory=folder)

    def get(self, kind: str, inputs: Iterable[str], suffix: str, build: Callable[[], bytes]) -> Path:
        """The file made from `inputs`: the one on disk if it is whole, else built now and moved there in one step.

        Raises `Unavailable` where the folder cannot be read or written.
        """
        digest = hashlib.sha256()
        for text in inputs:
            digest.update(len(text).to_bytes(8, "little") + text.encode())
        path = self.root / kind / (digest.hexdigest()[:32] + suffix)
        if self._on_disk(_whole, path):
            return path
        content = build()
        self._on_disk(path.parent.mkdir, parents=True, exist_ok=True)
        # The content first: a reader between the two finds no matching hash and builds for itself.
        self._on_disk(_write, path, content)
        self._on_disk(_write, _seal(path), hashlib.sha256(content).hexdigest().encode())
        return path

    def _on_disk(self, act: Callable[..., Answer], *arguments: object, **options: object) -> Answer:
        try:
            return act(*arguments, **options)
        except OSError as error:
            raise Unavailable(
                f"compiled kernels are kept in {self.root}, which cannot be used ({error.strerror or error}); "
                f"set {VARIABLE} to a folder that can be read and written"
            ) from error


def _seal(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _whole(path: Path) -> bool:
    try:
        return _seal(path).read_bytes().decode("ascii", "replace") == hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return False


def _write(path: Path, content: bytes) -> None:
    """As readable to others as the user's umask lets any new file be, so that a cache can be shared."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{uuid.uuid4().hex}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


# Kernel source to machine code by NVRTC: no nvcc, no C++ toolchain, no GPU needed. Kept on disk once compiled.

ARCHITECTURES = {(8, 0): "sm_80", (9, 0): "sm_90a", (10, 0): "sm_100"}
REMEDY = "pip install cuda-bindings nvidia-cuda-nvrtc (version 13)"
# In PTX: what is illegal in a kernel that was launched without a cluster, and the registers that mean nothing there.
CLUSTER_INSTRUCTIONS = re.compile(r"barrier\.cluster|\bmapa\b|%cluster\w*|shared::cluster|\bst\.async")


class CompilationFailed(RuntimeError):
    """NVRTC rejected the source; the message is its log."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """Machine code, the PTX it was made from, and what ptxas reports of it."""

    code: bytes
    assembly: str
    registers: int
    spill_bytes: int


def architecture(capability: tuple[int, int]) -> str:
    """The target for a GPU of this compute capability: its own where we use its features, else code the driver accepts."""
    if capability in ARCHITECTURES:
        return ARCHITECTURES[capability]
    if capability < (8, 0):
        raise Unavailable(
            f"the CUDA kernels need compute capability 8.0 or newer; this GPU has {capability[0]}.{capability[1]}"
        )
    return f"sm_{capability[0]}{capability[1]}"


@cache
def nvrtc() -> Any:
    try:
        return importlib.import_module("cuda.bindings.nvrtc")
    except ImportError as error:
        raise Unavailable(f"compiling the CUDA kernels needs NVRTC, and {error.name} is not installed; {REMEDY}") from error


@cache
def compiler_version() -> str:
    library = nvrtc()
    try:
        error, major, minor = library.nvrtcVersion()
    except (RuntimeError, OSError) as reason:  # cuda-bindings is there, the library it wraps is not
        raise Unavailable(f"compiling the CUDA kernels needs NVRTC's library: {reason}; {REMEDY}") from reason
    if error.value:
        raise Unavailable(f"NVRTC does not answer ({error.name}); {REMEDY}")
    return f"nvrtc {major}.{minor}"


def cubin(kernel: Kernel, target: str) -> Path:
    """The machine code of a kernel, from the disk or compiled now. Raises `Unavailable` or `CompilationFailed`."""
    inputs = [kernel.text(), *(_header(name) for name in HEADERS), *_options(kernel, target), compiler_version()]
    inputs.append(f"clusters: {kernel.cluster is not None}")  # checked below, when compiled
    return Artifacts().get("cubin", inputs, ".cubin", lambda: compile_kernel(kernel, target).code)


def compile_kernel(kernel: Kernel, target: str) -> Compiled:
    """Compile now, whatever the disk holds. Raises `Unavailable` or `CompilationFailed`.

    A kernel with cluster instructions that says of itself that it has none (`Kernel.cluster`) is rejected here: launched so, it
    ends in an illegal instruction, after which nothing else works in the process.
    """
    compiler_version()
    library = nvrtc()
    headers = [_header(name).encode() for name in HEADERS]
    names = [name.encode() for name in HEADERS]
    error, program = library.nvrtcCreateProgram(kernel.text().encode(), kernel.source.encode(), len(headers), headers, names)
    _require(library, error)
    options = [option.encode() for option in _options(kernel, target)]
    (failed,) = library.nvrtcCompileProgram(program, len(options), options)
    log = _filled(library, library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog, program).decode(errors="replace")
    if failed.value:
        raise CompilationFailed(f"{kernel.source} for {target} with {' '.join(kernel.options())}:\n{log}")
    code = _filled(library, library.nvrtcGetCUBINSize, library.nvrtcGetCUBIN, program)
    assembly = _filled(library, library.nvrtcGetPTXSize, library.nvrtcGetPTX, program).decode(errors="replace")
    _require(library, library.nvrtcDestroyProgram(program)[0])
    if kernel.cluster is None and (used := sorted(set(CLUSTER_INSTRUCTIONS.findall(assembly)))):
        raise CompilationFailed(f"{kernel.function} uses {', '.join(used)}, so it has to say how many blocks its cluster has")
    registers = _reported(r"Used (\d+) registers", log)
    spilled = _reported(r"(\d+) bytes spill stores", log) + _reported(r"(\d+) bytes spill loads", log)
    return Compiled(code, assembly, registers, spilled)


def _options(kernel: Kernel, target: str) -> list[str]:
    return ["-std=c++17", f"--gpu-architecture={target}", "--ptxas-options=-v", *kernel.options()]


def _header(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _filled(library: Any, size_of: Any, read: Any, program: Any) -> bytes:
    error, size = size_of(program)
    _require(library, error)
    content = b" " * (size + 2)  # never a single byte: Python shares those, and NVRTC writes into this one
    _require(library, read(program, content)[0])
    return content[:size]


def _require(library: Any, error: Any) -> None:
    if error.value:
        raise CompilationFailed(f"NVRTC: {library.nvrtcGetErrorString(error)[1].decode()}")


def _reported(pattern: str, log: str) -> int:
    found = re.findall(pattern, log)
    if len(found) != 1:
        raise CompilationFailed(f"ptxas does not say {pattern!r} once:\n{log}")
    return int(found[0])
